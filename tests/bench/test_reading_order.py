"""Entities stay whole in every layout, in whichever way a file gives their boxes."""

import sys
from types import ModuleType

import pytest

from receipt_layoutlm.data.order_check import torn_entities
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.reading_order import order_of_words
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.data.snapshot import read_jsonl
from tests.support.paths import BENCH, SHARED


@pytest.fixture(scope="module")
def layouts() -> ModuleType:
    sys.path.insert(0, str(BENCH))  # as for `python bench/reading_order.py`
    try:
        import layouts

        return layouts
    finally:
        sys.path.remove(str(BENCH))


def pages_of(layouts: ModuleType, name: str) -> list[Page]:
    if name == "sroie":
        if not (SHARED / "sroie").exists():
            pytest.skip(f"no real receipts in {SHARED / 'sroie'}")
        return read_jsonl(SHARED / "sroie" / "dev.jsonl")
    if name == "sample":
        return generate_pages(40, seed=11)
    pages: list[Page] = (layouts.cord_like if name == "cord" else layouts.funsd_like)(40, 11)
    return pages


@pytest.mark.parametrize("name", ["cord", "funsd", "sample", "sroie"])
def test_no_entity_is_torn_with_word_boxes_line_boxes_overlaps_jitter_or_words_listed_twice(
    layouts: ModuleType, name: str
) -> None:
    pages = pages_of(layouts, name)
    for form, with_boxes in layouts.FORMS.items():
        torn = [str(entity) for page in pages for entity in torn_entities(with_boxes(page))]
        assert not torn, f"{form}: {torn[:3]}"


@pytest.mark.parametrize("name", ["cord", "funsd", "sample"])
def test_a_page_in_reading_order_keeps_it_with_line_boxes_and_listed_twice(layouts: ModuleType, name: str) -> None:
    for page in pages_of(layouts, name):
        for form in ("word boxes", "line boxes", "line boxes, jitter", "word boxes twice", "line boxes twice"):
            given = layouts.FORMS[form](page)
            assert order_of_words(given) == list(range(len(given.words))), f"{form}: {page.page_id}"

"""Generated receipts: the same each time, valid, complete, adding up, and no two merchants alike."""

import re
from collections import Counter
from itertools import pairwise

import pytest

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.page import Page, page_from_line, page_to_line
from receipt_layoutlm.data.reading_order import reading_order
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.data.sample_merchants import KINDS
from receipt_layoutlm.data.snapshot import label_counts
from receipt_layoutlm.data.splits import divide
from tests.support.spans import page_in_reading_order

PROMISED = (
    *("MERCHANT_NAME", "PHONE_NUMBER", "ADDRESS_LINE", "DATE", "TIME"),
    *("PRODUCT_NAME", "LINE_TOTAL", "SUBTOTAL", "TAX", "GRAND_TOTAL"),
)


@pytest.fixture(scope="module")
def pages() -> list[Page]:
    return generate_pages(300, seed=7)


def cents(page: Page, label: str) -> list[int] | None:
    """The amounts of a label; None when one was misread."""
    amounts = [word for word, tag in zip(page.words, page.tags, strict=True) if tag == f"B-{label}"]
    if not all(re.fullmatch(r"\$?\d+\.\d\d", amount) for amount in amounts):
        return None
    return [int(amount.lstrip("$").replace(".", "")) for amount in amounts]


def test_a_sample_is_the_same_each_time_and_begins_with_the_shorter_one(pages: list[Page]) -> None:
    assert generate_pages(40, seed=7) == pages[:40]
    assert pages[3].page_id == "sample-7-00003"
    assert not {p.words for p in generate_pages(40, seed=8)} & {p.words for p in pages}


def test_every_page_is_valid_and_of_a_receipts_size(pages: list[Page]) -> None:
    assert [page_from_line(page_to_line(page)) for page in pages] == pages
    assert len({page.page_id for page in pages}) == 300
    assert all(40 <= len(page.words) <= 140 for page in pages)
    assert all(page.height > page.width for page in pages if len(page.words) > 100)


@pytest.mark.parametrize("label", PROMISED)
def test_every_promised_label_stands_on_most_pages(pages: list[Page], label: str) -> None:
    assert sum(f"B-{label}" in page.tags for page in pages) >= 0.8 * len(pages)


def test_a_page_has_one_merchant_one_address_and_one_total(pages: list[Page]) -> None:
    for page in pages:
        counts = label_counts([page])
        assert counts["MERCHANT_NAME"] == counts["ADDRESS_LINE"] == counts["GRAND_TOTAL"] == 1
        assert counts["PRODUCT_NAME"] == counts["LINE_TOTAL"] >= 3


def test_an_address_over_two_printed_lines_is_one_entity(pages: list[Page]) -> None:
    for page in pages:
        tops = [box[1] for box, tag in zip(page.boxes, page.tags, strict=True) if tag.endswith("ADDRESS_LINE")]
        assert max(tops) - min(tops) > 10


def test_items_subtotal_tax_and_total_add_up(pages: list[Page]) -> None:
    checked = 0
    for page in pages:
        lines, subtotals, taxes, totals = (cents(page, x) for x in ("LINE_TOTAL", "SUBTOTAL", "TAX", "GRAND_TOTAL"))
        if not (lines and taxes and totals) or subtotals is None:
            continue
        checked += 1
        assert subtotals in ([], [sum(lines)])
        assert totals == [sum(lines) + taxes[0]]
    assert checked > 0.7 * len(pages)


def test_some_words_are_misread_but_few() -> None:
    misread = [re.search(r"\d[OlSB]|[A-Z]0[A-Z]", word) for p in generate_pages(200, seed=1) for word in p.words]
    assert 0.0005 < sum(map(bool, misread)) / len(misread) < 0.02


def test_words_of_a_line_are_jittered(pages: list[Page]) -> None:
    tops = [[box[1] for box, tag in zip(p.boxes, p.tags, strict=True) if tag.endswith("MERCHANT_NAME")] for p in pages]
    assert sum(len(set(top)) > 1 for top in tops) > 0.5 * len(pages)


def test_the_reading_order_finds_the_printed_order(pages: list[Page]) -> None:
    assert all(reading_order(page.boxes) == list(range(len(page.words))) for page in pages)
    assert label_counts(map(page_in_reading_order, pages)) == label_counts(pages)


def test_merchants_are_many_and_print_differently(pages: list[Page]) -> None:
    groups = Counter(page.group for page in pages)
    assert 45 <= len(groups) <= 51
    assert max(groups.values()) <= 20  # none so large that a group split has little left to choose from
    layouts = {tuple(item_layout(page)) for page in pages}
    assert len(layouts) >= len(KINDS) >= 5


def item_layout(page: Page) -> list[tuple[str, str]]:
    """Which label follows which among the line items of a page."""
    labels = [tag[2:] for tag in page.tags if tag != "O" and tag[0] == "B"]
    items = [label for label in labels if label in {"PRODUCT_NAME", "QUANTITY", "UNIT_PRICE", "LINE_TOTAL"}]
    return sorted(set(pairwise(items)))


def test_a_group_split_leaves_merchants_to_be_met_for_the_first_time(pages: list[Page]) -> None:
    parts = divide(pages, WordLabelsConfig(), None)
    assert not {page.group for page in parts.train} & {page.group for page in parts.validation}
    assert len(parts.validation) == 60


def test_an_amount_does_not_tell_its_label_by_itself(pages: list[Page]) -> None:
    labels_of: dict[str, set[str]] = {}
    for page in pages:
        for word, tag in zip(page.words, page.tags, strict=True):
            labels_of.setdefault(word, set()).add(tag)
    amounts = [labels for word, labels in labels_of.items() if re.fullmatch(r"\$?\d+\.\d\d", word)]
    assert sum(len(labels) > 1 for labels in amounts) > 0.2 * len(amounts)

"""Page-id lists of the SROIE protocols (docs/findings/accuracy.md): complete, disjoint, and of the right pages."""

import pytest

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.frozen_split import FrozenSplit, read_frozen
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import read_jsonl
from receipt_layoutlm.data.splits import divide
from tests.support.paths import ROOT

SROIE = ROOT.parent / "shared" / "data" / "sroie"
SIZES = {"sroie_random": (439, 110), "sroie_merchants": (346, 203)}


def frozen(name: str) -> FrozenSplit:
    return read_frozen(ROOT / "bench" / "splits" / f"{name}.json")


@pytest.fixture(scope="module")
def parts() -> dict[str, list[Page]]:
    if not SROIE.exists():
        pytest.skip(f"no real receipts in {SROIE}")
    return {name: read_jsonl(SROIE / f"{name}.jsonl") for name in ("train", "dev")}


@pytest.mark.parametrize("name", SIZES)
def test_each_list_names_all_549_pages_once_by_their_public_number(name: str) -> None:
    split = frozen(name)
    train, evaluation = set(split.train or ()), set(split.validation)
    assert split.by == "page"
    assert (len(train), len(evaluation), len(train | evaluation)) == (*SIZES[name], 549)
    assert all(len(page_id) == 3 and int(page_id) < 626 for page_id in train | evaluation)
    assert train | evaluation == {*(frozen("sroie_random").train or ()), *frozen("sroie_random").validation}


@pytest.mark.parametrize("name", SIZES)
def test_each_list_divides_the_real_pages_and_leaves_none_out(name: str, parts: dict[str, list[Page]]) -> None:
    pages = [page for part in parts.values() for page in part]
    division = divide(pages, WordLabelsConfig(split=f"frozen:{name}"), frozen(name))
    assert (len(division.train), len(division.validation)) == SIZES[name]
    assert not division.test and not division.left_out


def test_pages_that_a_list_does_not_name_are_left_out(parts: dict[str, list[Page]]) -> None:
    """The public folder has 626 pages."""
    pages = [page for part in parts.values() for page in part]
    more = Page("625b", "g", ("x",), ((0, 0, 9, 9),), ("O",), 10, 10)
    division = divide([*pages, more], WordLabelsConfig(split="frozen:x"), frozen("sroie_merchants"))
    assert division.left_out == [more]


def test_the_merchants_list_is_that_of_the_files_and_has_no_merchant_on_both_sides(
    parts: dict[str, list[Page]],
) -> None:
    split = frozen("sroie_merchants")
    assert set(split.train or ()) == {page.page_id for page in parts["train"]}
    assert set(split.validation) == {page.page_id for page in parts["dev"]}
    assert not {page.group for page in parts["train"]} & {page.group for page in parts["dev"]}

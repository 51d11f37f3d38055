"""Amount augmentation: equal amounts stay equal, sums stay sums, the format of each amount is kept."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.training.tasks.word_labels.augmentation.amounts import other_amounts, parse_amount
from tests.support.labelled_pages import WORDS, pages


def page_of(words: Sequence[str], tags: Sequence[str] | None = None) -> Page:
    boxes = tuple((500, 20 * row, 560, 20 * row + 15) for row in range(len(words)))
    return Page("p", "g", tuple(words), boxes, tuple(tags or ["O"] * len(words)), 1, 1)


def value(word: str) -> int:
    amount = parse_amount(word)
    assert amount is not None
    return amount.digits


def versions(page: Page, count: int = 30) -> list[Page]:
    return [other_amounts(page, random.Random(n)) for n in range(count)]


@given(st.lists(st.integers(0, 99999), min_size=1, max_size=6), st.integers(0, 99))
def test_sums_stay_sums(cents: list[int], n: int) -> None:
    printed = [f"{c // 100}.{c % 100:02}" for c in [*cents, sum(cents), sum(cents)]]
    new = [value(word) for word in other_amounts(page_of(printed), random.Random(n)).words]
    assert new[-1] == new[-2] == sum(new[:-2])
    assert any(cents) == (new != [*cents, sum(cents), sum(cents)])


@given(pages(), st.integers(0, 99))
def test_every_word_keeps_its_form_its_tag_and_its_height(page: Page, n: int) -> None:
    new = other_amounts(page, random.Random(n))
    assert new.tags == page.tags
    assert [(box[1], box[3]) for box in new.boxes] == [(box[1], box[3]) for box in page.boxes]
    for before, after in zip(page.words, new.words, strict=True):
        if before != after:
            old, fresh = parse_amount(before), parse_amount(after)
            assert old is not None and fresh is not None
            assert old.has_commas or not fresh.has_commas
            assert replace(fresh, digits=old.digits, has_commas=old.has_commas) == old


labelled = st.tuples(st.sampled_from(WORDS), st.sampled_from(("O", "-", "B-GRAND_TOTAL", "B-LINE_TOTAL")))


@given(st.lists(labelled, min_size=1, max_size=20), st.integers(0, 99))
def test_equal_words_become_equal_words(words: list[tuple[str, str]], n: int) -> None:
    page = page_of([word for word, _ in words], [tag for _, tag in words])
    became: dict[str, str] = {}
    for before, after in zip(page.words, other_amounts(page, random.Random(n)).words, strict=True):
        assert became.setdefault(before, after) == after


@pytest.mark.parametrize("word", ["9.00", "RM9.00", "$1,234.50", "-5.59", "0.07", "12,50", "9.000", "100.00-", "1,200"])
def test_an_amount_is_read_and_printed_as_it_was(word: str) -> None:
    assert str(parse_amount(word)) == word


@pytest.mark.parametrize("word", ["10.00%", "12.05.2018", "8:13", "TOTAL", "0557.00", "1,23.50", "9.", ".50", "A1B2"])
def test_other_words_are_no_amounts(word: str) -> None:
    parsed = parse_amount(word)
    assert parsed is None or parsed.decimals == 0


def test_the_total_changes_with_all_words_that_say_the_same() -> None:
    page = page_of(["TOTAL", "RM9.00", "CASH", "9.00", "9.00"], ["O", "O", "O", "O", "B-GRAND_TOTAL"])
    for new in versions(page):
        assert new.words[1] == f"RM{new.words[3]}" and new.words[3] == new.words[4] != "9.00"


def test_commas_come_and_go_with_the_size_where_they_were_printed() -> None:
    words = {new.words[0] for new in versions(page_of(["1,000.00"]))}
    assert {word for word in words if value(word) >= 100_000} == {word for word in words if "," in word}
    assert len({"," in word for word in words}) == 2


def test_whole_numbers_count_where_a_label_says_so_and_then_everywhere() -> None:
    page = page_of(["20", "4", "20"], ["B-GRAND_TOTAL", "O", "O"])
    for new in versions(page):
        assert new.words[0] == new.words[2] != "20" and new.words[1] == "4"
    assert versions(page_of(["20", "4"]))[0].words == ("20", "4")


def test_whole_amounts_and_those_with_decimals_keep_their_proportion_exactly() -> None:
    for new in versions(page_of(["20", "20.00"], ["B-GRAND_TOTAL", "O"])):
        assert value(new.words[1]) == 100 * value(new.words[0]) != 2000
    uneven = page_of(["3", "3.05"], ["B-GRAND_TOTAL", "O"])  # the smallest factor that comes out even is 20
    assert all(new == uneven for new in versions(uneven))


def test_a_total_torn_into_two_words_is_left_alone() -> None:
    page = page_of(["112.", "45"], ["B-GRAND_TOTAL", "I-GRAND_TOTAL"])
    assert all(new == page for new in versions(page))


def test_words_of_other_entities_are_left_alone() -> None:
    page = page_of(["12.05", "9.00"], ["B-DATE", "O"])
    assert {new.words[0] for new in versions(page)} == {"12.05"}


def test_a_longer_amount_grows_to_the_left_and_not_into_its_neighbour() -> None:
    alone = page_of(["9.99"])
    wider = next(new for new in versions(alone) if len(new.words[0]) == 5)
    assert (wider.boxes[0][2], wider.boxes[0][0]) == (560, 485)
    words, boxes = ("RM", "9.99"), ((470, 0, 490, 15), (500, 0, 560, 15))
    beside = Page("p", "g", words, boxes, ("O", "O"), 1, 1)
    assert all(new.boxes[1][0] > 490 for new in versions(beside))


def test_amounts_that_have_a_common_unit_come_out_in_many_ways() -> None:
    assert len({new.words for new in versions(page_of(["10.00", "60.00"]))}) > 20


def test_generated_receipts_add_up_afterwards() -> None:
    for page in generate_pages(12, seed=3):
        new = other_amounts(page, random.Random(2))
        by_label = {
            label: [value(word) for word, tag in zip(new.words, new.tags, strict=True) if tag == f"B-{label}"]
            for label in ("SUBTOTAL", "TAX", "GRAND_TOTAL")
            if all(parse_amount(w) for w, tag in zip(new.words, new.tags, strict=True) if tag == f"B-{label}")
        }
        if all(len(by_label.get(label, ())) == 1 for label in ("SUBTOTAL", "TAX", "GRAND_TOTAL")):
            assert by_label["SUBTOTAL"][0] + by_label["TAX"][0] == by_label["GRAND_TOTAL"][0]

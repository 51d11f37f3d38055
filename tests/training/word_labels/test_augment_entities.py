"""Entity augmentation: equal entities stay equal, and donors come from the training set alone."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.reading_order import printed_lines
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.data.snapshot import read_jsonl
from receipt_layoutlm.data.tags import entities
from receipt_layoutlm.training.tasks.word_labels.augmentation.entities import (
    Donors,
    donors_of,
    other_entities,
    shared_out,
)
from tests.support.labelled_pages import pages
from tests.support.paths import SHARED

SROIE = SHARED / "sroie"
M = "MERCHANT_NAME"


def line(y: int, *words: tuple[str, int, int]) -> list[tuple[str, tuple[int, int, int, int]]]:
    return [(text, (x0, y, x1, y + 20)) for text, x0, x1 in words]


def page_of(words: list[tuple[str, tuple[int, int, int, int]]], tags: str, name: str = "p") -> Page:
    kinds = {
        "M": f"B-{M}",
        "m": f"I-{M}",
        "D": "B-DATE",
        "d": "I-DATE",
        "O": "O",
        "Q": "B-QUANTITY",
        "T": "B-GRAND_TOTAL",
    }
    return Page(name, "g", tuple(w for w, _ in words), tuple(b for _, b in words), tuple(kinds[k] for k in tags), 1, 1)


SHOP = page_of(
    [*line(0, ("OLD", 400, 460), ("SHOP", 480, 560)), *line(40, ("at", 100, 140), ("OLD", 150, 210))], "MmOO"
)
LONG = page_of(line(0, ("BRAND", 0, 100), ("NEW", 110, 170), ("TRADING", 180, 320), ("CO", 330, 370)), "Mmmm", "long")
DONORS = donors_of([LONG], [])


def exchanged(page: Page, donors: Donors, new_words: int = 1) -> Page:
    """The first version in which at least so many words are others."""
    versions = (other_entities(page, donors, random.Random(n)) for n in range(100))
    return next(new for new in versions if len(set(new.words) - set(page.words)) >= new_words)


def test_the_new_name_takes_the_place_of_the_old_one_and_is_as_wide_as_its_text() -> None:
    new = exchanged(SHOP, DONORS)
    assert new.words == ("BRAND", "NEW", "TRADING", "CO", "at", "OLD")
    assert new.tags == (f"B-{M}", *(f"I-{M}",) * 3, "O", "O")
    x0, x1 = new.boxes[0][0], new.boxes[3][2]
    assert x1 - x0 == pytest.approx(160 * len("BRAND NEW TRADING CO") / len("OLD SHOP"), abs=2)
    assert (x0 + x1) / 2 == pytest.approx(480, abs=2)  # centred, as it was
    assert {(box[1], box[3]) for box in new.boxes[:4]} == {(0, 20)}
    assert all(left[2] < right[0] for left, right in zip(new.boxes[:3], new.boxes[1:4], strict=True))


def test_a_name_is_stretched_no_further_than_to_its_neighbours() -> None:
    beside = page_of(line(0, ("*", 380, 390), ("OLD", 400, 460), ("SHOP", 480, 560), ("#4", 580, 600)), "OMmO")
    new = exchanged(beside, DONORS)
    assert new.boxes[0][2] < new.boxes[1][0] and new.boxes[4][2] < new.boxes[5][0]
    assert new.boxes[4][2] > 560


def test_a_name_at_the_left_stays_at_the_left() -> None:
    new = exchanged(page_of(line(0, ("SHOP", 50, 150)), "M"), DONORS)
    assert (new.boxes[0][0], new.boxes[0][1]) == (50, 0)
    assert new.boxes[-1][2] == pytest.approx(550, abs=2)


def test_words_are_shared_out_over_the_printed_lines_of_the_old_text() -> None:
    two = page_of([*line(0, ("SHOP", 50, 150)), *line(30, ("OF", 50, 100), ("OLD", 120, 200))], "Mmm")
    new = exchanged(two, DONORS)
    lines = [[new.words[word] for word in words] for words in printed_lines(new.boxes)]
    assert lines == [["BRAND", "NEW"], ["TRADING", "CO"]]


def test_a_donor_of_as_many_lines_is_preferred() -> None:
    two = page_of([*line(0, ("TWO", 50, 150)), *line(30, ("LINES", 50, 150))], "Mm", "two")
    donors = donors_of([LONG, two], [])
    name = page_of([*line(0, ("SHOP", 50, 150)), *line(30, ("OLD", 50, 150))], "Mm")
    found = {other_entities(name, donors, random.Random(n)).words for n in range(40)}
    assert found == {("SHOP", "OLD"), ("TWO", "LINES")}


def test_equal_entities_get_equal_ones_and_so_does_the_text_without_a_label() -> None:
    dates = page_of(
        line(0, ("1/2/2018", 0, 90), ("till", 100, 190), ("1/2/2018", 200, 290), ("1/2/2018", 300, 390)), "DODO"
    )
    donors = donors_of([page_of(line(0, (f"{day}/3/2019", 0, 90)), "D", str(day)) for day in range(1, 9)], [])
    for n in range(20):
        new = other_entities(dates, donors, random.Random(n))
        assert new.words[0] == new.words[2] == new.words[3]
        assert new.tags == dates.tags


def test_a_short_text_without_a_label_is_not_taken_for_the_entity() -> None:
    page = page_of(line(0, ("AB", 0, 90), ("AB", 200, 290)), "MO")
    assert exchanged(page, DONORS).words[-1] == "AB"


def test_amounts_and_quantities_are_no_donors_and_are_not_exchanged() -> None:
    page = page_of(line(0, ("2", 0, 10), ("9.00", 100, 150)), "QT")
    donors = donors_of([page_of(line(0, ("7", 0, 10), ("8.00", 100, 150)), "QT")], [])
    assert donors == Donors({}, {})
    assert all(other_entities(page, DONORS, random.Random(n)) == page for n in range(20))


def test_an_amount_under_a_label_of_ones_own_is_not_exchanged_for_text() -> None:
    amount, text = (Page("p", "g", (word,), ((0, 0, 9, 9),), ("B-SUM",), 1, 1) for word in ("9.00", "nine"))
    assert all(other_entities(amount, donors_of([text], []), random.Random(n)) == amount for n in range(20))
    assert exchanged(Page("p", "g", ("ten",), ((0, 0, 9, 9),), ("B-SUM",), 1, 1), donors_of([text], []))


def test_a_longer_name_that_begins_like_another_changes_as_a_whole_or_not_at_all() -> None:
    long = [*line(40, ("OLD", 400, 460), ("SHOP", 480, 560), ("LTD", 580, 640))]
    page = page_of([*line(0, ("OLD", 400, 460), ("SHOP", 480, 560)), *long], "MmMmm")
    for n in range(40):
        new = other_entities(page, DONORS, random.Random(n))
        names = [new.words[entity.begin : entity.end] for entity in entities(new.tags)]
        assert names[0] in (("OLD", "SHOP"), LONG.words) and names[1] in (("OLD", "SHOP", "LTD"), LONG.words)


def test_texts_without_a_label_that_overlap_are_not_both_exchanged() -> None:
    named = [*line(0, ("NORTH", 0, 90), ("MARCH", 100, 190)), *line(40, ("MARCH", 0, 90), ("2019", 100, 190))]
    loose = line(80, ("NORTH", 0, 90), ("MARCH", 100, 190), ("2019", 200, 290))
    page = page_of([*named, *loose], "MmDdOOO")
    donors = donors_of([LONG, page_of(line(0, ("1/2/2018", 0, 90)), "D")], [])
    tails = {new.words[-3:] for n in range(60) if (new := other_entities(page, donors, random.Random(n))).words[-1]}
    ends = {tail[-1] for tail in tails}
    assert ends == {"2019", "1/2/2018"}
    assert all(tail[-2] == "NORTH" for tail in tails if tail[-1] == "1/2/2018")


def test_generated_entities_are_used_beside_the_others() -> None:
    page = page_of(line(0, ("SHOP", 50, 150)), "M")
    generated = [page_of(line(0, ("MADE-UP", 0, 90)), "M", "made up")]
    found = [other_entities(page, donors_of([LONG], generated), random.Random(n)).words for n in range(200)]
    share = {words: found.count(words) / len(found) for words in set(found)}
    assert 0.05 < share["MADE-UP",] < 0.3 < share["BRAND", "NEW", "TRADING", "CO"] < share["SHOP",] + 0.3


def test_the_order_of_the_training_pages_changes_nothing() -> None:
    sample = generate_pages(20, seed=1)
    assert donors_of(sample, []) == donors_of(sample[::-1], [])


SAMPLE_DONORS = donors_of(generate_pages(20, seed=1), generate_pages(20, seed=2))


@given(pages(), st.integers(0, 50))
def test_words_of_no_entity_stay_unless_they_say_the_same_as_one(page: Page, n: int) -> None:
    new = other_entities(page, SAMPLE_DONORS, random.Random(n))
    assert [e.label for e in entities(new.tags)] == [e.label for e in entities(page.tags)]
    texts = [" ".join(page.words[e.begin : e.end]) for e in entities(page.tags)]
    loose = [
        w for w, tag in zip(page.words, page.tags, strict=True) if tag[0] in "O-" and not any(w in t for t in texts)
    ]
    kept = [w for w, tag in zip(new.words, new.tags, strict=True) if tag[0] in "O-"]
    rest = iter(kept)
    assert all(word in rest for word in loose)


@given(
    st.lists(st.text("abc", min_size=1), min_size=1, max_size=12), st.lists(st.integers(1, 40), min_size=1, max_size=5)
)
def test_sharing_out_loses_no_word_and_keeps_the_order(words: list[str], capacities: list[int]) -> None:
    lines = shared_out(tuple(words), capacities)
    assert len(lines) == len(capacities)
    assert [word for of_line in lines for word in of_line] == words


@pytest.mark.skipif(not SROIE.exists(), reason="the SROIE receipts are not there")
def test_a_real_receipt_keeps_its_printed_lines() -> None:
    train = read_jsonl(SROIE / "train.jsonl")
    donors = donors_of(train, [])
    torn = changed = 0
    for page in train[:80]:
        new = other_entities(page, donors, random.Random(1))
        changed += new != page
        torn += len(printed_lines(new.boxes)) > len(printed_lines(page.boxes))
    assert changed > 60
    assert torn <= 4

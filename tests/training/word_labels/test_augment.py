"""Augmented pages: valid, with the same entities, equal in every attempt, different in every epoch."""

import random
from collections import Counter
from dataclasses import replace
from itertools import chain, pairwise
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receipt_layoutlm.configs.word_labels import Augmentation
from receipt_layoutlm.data.page import PAGE_EXTENT, Page
from receipt_layoutlm.data.reading_order import reading_order
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.training.tasks.word_labels.augmentation.augment import (
    CONFUSIONS,
    JITTER,
    augmented,
    misread,
    moved_boxes,
    without_some,
)
from receipt_layoutlm.training.tasks.word_labels.augmentation.entities import Donors, donors_of
from receipt_layoutlm.training.tasks.word_labels.inputs.sampling import generator
from tests.support.labelled_pages import pages

NAMES: tuple[Augmentation, ...] = get_args(Augmentation)
SAMPLE = generate_pages(30, seed=5)
DONORS = donors_of(SAMPLE, generate_pages(30, seed=6))
some_names = st.lists(st.sampled_from(NAMES), unique=True).map(tuple)
epochs = st.integers(0, 50)


def begun(page: Page) -> Counter[str]:
    return Counter(tag for tag in page.tags if tag[0] == "B")


def joined(parts: list[Page]) -> Page:
    """One page with all words."""
    words, boxes, tags = (tuple(chain(*(getattr(page, name) for page in parts))) for name in ("words", "boxes", "tags"))
    return replace(parts[0], words=words, boxes=boxes, tags=tags)


@given(pages(), some_names, epochs)
def test_a_page_keeps_its_id_its_group_and_every_entity(
    page: Page, names: tuple[Augmentation, ...], epoch: int
) -> None:
    new = augmented(page, names, DONORS, seed=1, epoch=epoch)  # a Page that exists is valid
    assert replace(new, words=page.words, boxes=page.boxes, tags=page.tags) == page
    assert begun(new) == begun(page)


@given(pages(), some_names, epochs)
def test_the_same_seed_epoch_and_page_give_the_same_page_without_the_global_generator(
    page: Page, names: tuple[Augmentation, ...], epoch: int
) -> None:
    random.seed(3)
    expected = random.random()
    random.seed(3)
    first = augmented(page, names, DONORS, seed=1, epoch=epoch)
    assert random.random() == expected
    random.seed(epoch)
    assert augmented(page, tuple(reversed(names)), DONORS, seed=1, epoch=epoch) == first


@pytest.mark.parametrize("name", NAMES)
def test_each_augmentation_changes_pages_and_another_epoch_seed_or_page_gets_another_change(name: Augmentation) -> None:
    page = joined(SAMPLE[:3])
    versions = [augmented(page, (name,), DONORS, seed, epoch) for seed in (1, 2) for epoch in range(4)]
    assert all(version != page for version in versions)
    assert len(set(versions)) == len(versions)
    other = augmented(replace(page, page_id="another"), (name,), DONORS, seed=1, epoch=0)
    assert (other.words, other.boxes) != (versions[0].words, versions[0].boxes)


def test_without_any_name_a_page_stays_as_it_is() -> None:
    assert augmented(SAMPLE[0], (), DONORS, seed=1, epoch=0) == SAMPLE[0]


def test_an_augmentation_draws_the_same_whether_others_are_on_or_not() -> None:
    alone = augmented(SAMPLE[0], ("entities",), DONORS, seed=1, epoch=2)
    moved = augmented(SAMPLE[0], ("entities", "boxes"), DONORS, seed=1, epoch=2)
    assert (moved.words, moved.tags) == (alone.words, alone.tags)
    assert moved.boxes != alone.boxes


def test_without_donors_only_amounts_are_exchanged() -> None:
    new = augmented(SAMPLE[0], ("entities",), Donors({}, {}), seed=1, epoch=0)
    changed = [before for before, after in zip(SAMPLE[0].words, new.words, strict=True) if before != after]
    assert changed and all("." in word for word in changed)


# boxes


@given(pages(), epochs)
def test_moved_boxes_keep_their_sides_but_for_the_jitter(page: Page, epoch: int) -> None:
    new = moved_boxes(page, generator(1, epoch, page.page_id))
    for axis in (0, 1):
        before = [box[axis] + box[axis + 2] for box in page.boxes]
        after = [box[axis] + box[axis + 2] for box in new.boxes]
        for left in range(len(before)):
            for right in range(len(before)):
                if before[left] <= before[right]:  # sums of two edges, each at most JITTER and a rounding off
                    assert after[left] <= after[right] + 4 * JITTER + 4


def test_a_moved_page_lies_elsewhere_and_has_another_size() -> None:
    page = Page("p", "g", ("a", "b"), ((300, 300, 400, 340), (600, 700, 700, 740)), ("O", "O"), 1, 1)
    spans = {
        (box[0][0], box[1][2] - box[0][0]) for n in range(20) if (box := moved_boxes(page, random.Random(n)).boxes)
    }
    assert min(span for _, span in spans) < 390 < 410 < max(span for _, span in spans)
    assert min(left for left, _ in spans) < 270 < 330 < max(left for left, _ in spans)
    assert all(left >= 0 for left, _ in spans)


def test_a_page_that_fills_its_bounds_is_moved_inside_them() -> None:
    page = Page("p", "g", ("a", "b"), ((0, 0, 20, 20), (980, 980, 1000, 1000)), ("O", "O"), 1, 1)
    sizes = [moved_boxes(page, random.Random(n)).boxes[1][2] for n in range(20)]
    assert max(sizes) <= PAGE_EXTENT and len(set(sizes)) > 5


@settings(max_examples=20)
@given(st.sampled_from(SAMPLE), epochs)
def test_reading_order_bears_nearly_all_of_it(page: Page, epoch: int) -> None:
    new = moved_boxes(page, generator(1, epoch, page.page_id))
    before, after = reading_order(page.boxes), reading_order(new.boxes)
    followed = set(pairwise(before))
    kept = sum(pair in followed for pair in pairwise(after))
    assert kept >= 0.9 * len(followed)


@given(st.sampled_from(SAMPLE), epochs)
def test_words_that_share_a_box_are_moved_together(page: Page, epoch: int) -> None:
    shared = replace(page, boxes=tuple(page.boxes[word - word % 3] for word in range(len(page.boxes))))
    new = moved_boxes(shared, generator(1, epoch, page.page_id))
    assert all(new.boxes[word] == new.boxes[word - word % 3] for word in range(len(new.boxes)))
    assert new.boxes != shared.boxes


def test_another_entity_on_a_line_with_one_box_has_that_box_too() -> None:
    line, other = (100, 100, 400, 120), (100, 200, 400, 220)
    page = Page("p", "g", ("Shop", "Old", "Oak", "Tel"), (line,) * 4, ("O", "B-NAME", "I-NAME", "O"), 100, 200)
    donor = Page("q", "g", ("New", "Elm", "Inn"), (other,) * 3, ("B-NAME", "I-NAME", "I-NAME"), 100, 200)
    changed = [augmented(page, ("entities",), donors_of([donor], []), 1, epoch) for epoch in range(20)]
    exchanged = [new for new in changed if new.words != page.words]
    assert exchanged
    assert all(new.words == ("Shop", "New", "Elm", "Inn", "Tel") and set(new.boxes) == {line} for new in exchanged)


# words


@given(pages(), epochs)
def test_misread_words_stay_words_in_the_same_places(page: Page, epoch: int) -> None:
    new = misread(page, generator(1, epoch, page.page_id))
    assert (new.tags, new.boxes, len(new.words)) == (page.tags, page.boxes, len(page.words))
    assert all(new.words)


def test_few_words_are_misread_each_in_one_piece() -> None:
    page = Page("p", "g", ("Sub1011",) * 3000, ((0, 0, 9, 9),) * 3000, ("O",) * 3000, 1, 1)
    wrong = [word for word in misread(page, random.Random(1)).words if word != "Sub1011"]
    assert 60 < len(wrong) < 180
    assert all(abs(len(word) - len("Sub1011")) <= 1 for word in wrong)
    assert {"5ub1011", "SubI011"} & set(wrong)


def test_confusions_hold_in_both_directions_and_never_leave_nothing() -> None:
    for piece, others in CONFUSIONS.items():
        assert others and all(other and piece in CONFUSIONS[other] for other in others)
    for one, other in (("0", "O"), ("1", "I"), ("1", "l"), ("5", "S"), ("8", "B"), ("rn", "m")):
        assert other in CONFUSIONS[one]


@given(pages(), epochs, st.floats(0, 1))
def test_dropped_words_leave_the_others_as_they_were(page: Page, epoch: int, share: float) -> None:
    new = without_some(page, generator(1, epoch, page.page_id), share)
    left = list(zip(new.words, new.boxes, strict=True))
    everything = iter(zip(page.words, page.boxes, strict=True))
    assert all(word in everything for word in left)  # in order
    assert begun(new) <= begun(page)


@given(pages(), epochs)
def test_entities_are_not_dropped_by_default(page: Page, epoch: int) -> None:
    new = without_some(page, generator(1, epoch, page.page_id))
    entity_words = [[w for w, tag in zip(p.words, p.tags, strict=True) if tag[0] in "BI"] for p in (page, new)]
    assert entity_words[0] == entity_words[1]


def test_an_entity_that_loses_its_first_word_begins_with_the_next() -> None:
    page = Page("p", "g", ("a", "b", "c"), ((0, 0, 1, 1),) * 3, ("B-X", "I-X", "I-X"), 1, 1)
    tags = {new.words: new.tags for n in range(60) if (new := without_some(page, random.Random(n), 0.5))}
    assert tags["b", "c"] == ("B-X", "I-X")
    assert tags["a", "c"] == ("B-X", "I-X")
    assert tags["a", "b", "c"] == page.tags


def test_a_small_share_of_the_words_is_dropped() -> None:
    page = Page("p", "g", ("a",) * 2000, ((0, 0, 1, 1),) * 2000, ("O",) * 2000, 1, 1)
    assert 1840 < len(without_some(page, random.Random(1)).words) < 1960

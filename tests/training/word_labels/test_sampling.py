"""O sampling reaches its ratio and depends on (seed, epoch, page) alone; batches hold each index once."""

import random
from itertools import chain, pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from receipt_layoutlm.training.tasks.word_labels.inputs.sampling import (
    PageTags,
    achieved_ratio,
    as_many,
    epoch_order,
    supervised_masks,
)


def pages_of(words_of_each: list[int], share_of_entities: float, seed: int) -> list[PageTags]:
    """Pages of the given lengths whose words are B-X at random, a few unlabelled."""
    draw = random.Random(seed)

    def tag() -> str:
        return "B-X" if draw.random() < share_of_entities else "-" if draw.random() < 0.05 else "O"

    return [(f"page {number}", [tag() for _ in range(words)]) for number, words in enumerate(words_of_each)]


parts = st.builds(
    pages_of,
    st.one_of(
        st.lists(st.integers(3, 8), min_size=60, max_size=90),  # single printed lines
        st.lists(st.integers(40, 140), min_size=3, max_size=12),  # whole receipts
    ),
    st.floats(0.1, 0.6),
    st.integers(0, 1000),
)
ratios = st.floats(0.5, 6)


@given(parts, ratios, st.integers(0, 5))
def test_the_ratio_is_reached_within_ten_percent_or_everything_is_supervised(
    pages: list[PageTags], ratio: float, epoch: int
) -> None:
    target = ratio * sum(tag[0] == "B" for _, tags in pages for tag in tags)
    assume(target >= 5)  # rounding costs at most half a word
    masks = supervised_masks(pages, ratio, seed=1, epoch=epoch)
    everything = [[True] * len(tags) for _, tags in pages]
    there, achieved = achieved_ratio(pages, everything), achieved_ratio(pages, masks)
    assert there is not None and achieved is not None
    if there <= ratio:
        assert masks == everything
    else:
        assert 0.9 * ratio <= achieved <= 1.1 * ratio


@pytest.mark.parametrize("lengths", [[3, 4, 5, 6, 7, 8] * 100, [40, 80, 116, 140] * 5])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0, 3.0])
def test_the_ratio_is_reached_on_line_sized_and_on_receipt_sized_pages(lengths: list[int], ratio: float) -> None:
    pages = pages_of(lengths, 0.18, seed=7)
    for epoch in range(3):
        achieved = achieved_ratio(pages, supervised_masks(pages, ratio, seed=1, epoch=epoch))
        assert achieved == pytest.approx(ratio, rel=0.01)


@given(parts, st.floats(0, 6))
def test_entity_words_are_always_supervised(pages: list[PageTags], ratio: float) -> None:
    masks = supervised_masks(pages, ratio, seed=1, epoch=0)
    for (_, tags), mask in zip(pages, masks, strict=True):
        assert len(mask) == len(tags)
        assert all(supervised for tag, supervised in zip(tags, mask, strict=True) if tag != "O")


@given(parts, ratios, st.integers(0, 5), st.integers(0, 5))
def test_each_epoch_and_each_seed_choose_anew_and_the_same_ones_the_same(
    pages: list[PageTags], ratio: float, epoch: int, seed: int
) -> None:
    chosen = supervised_masks(pages, ratio, seed, epoch)
    assert supervised_masks(pages, ratio, seed, epoch) == chosen
    dropped = sum(not supervised for mask in chosen for supervised in mask)
    kept = sum(tag == "O" for _, tags in pages for tag in tags) - dropped
    if min(dropped, kept) >= 5:  # fewer may well come out the same
        assert supervised_masks(pages, ratio, seed, epoch + 1) != chosen
        assert supervised_masks(pages, ratio, seed + 1, epoch) != chosen


@given(parts, ratios, st.randoms())
def test_the_choice_is_the_same_again_whatever_the_order_of_the_pages(
    pages: list[PageTags], ratio: float, generator: random.Random
) -> None:
    chosen = dict(zip((i for i, _ in pages), supervised_masks(pages, ratio, seed=1, epoch=2), strict=True))
    shuffled = generator.sample(pages, len(pages))
    again = dict(zip((i for i, _ in shuffled), supervised_masks(shuffled, ratio, seed=1, epoch=2), strict=True))
    assert chosen == again


def test_the_choice_does_not_touch_the_global_generator() -> None:
    random.seed(5)
    expected = random.random()
    random.seed(5)
    supervised_masks(pages_of([50], 0.2, seed=1), 1.0, seed=1, epoch=0)
    epoch_order([3, 1, 2], 2, seed=1, epoch=0)
    assert random.random() == expected


def test_another_epoch_and_another_seed_choose_other_words() -> None:
    pages = pages_of([100, 100], 0.2, seed=1)
    first = supervised_masks(pages, 1.0, seed=1, epoch=0)
    assert supervised_masks(pages, 1.0, seed=1, epoch=1) != first
    assert supervised_masks(pages, 1.0, seed=2, epoch=0) != first


def test_over_epochs_every_o_word_gets_its_turn() -> None:
    pages = pages_of([6] * 50, 0.3, seed=1)
    turns = [list(chain(*supervised_masks(pages, 0.5, seed=1, epoch=epoch))) for epoch in range(60)]
    assert all(any(word) for word in zip(*turns, strict=True))


def test_pages_without_entities_give_their_share_of_o_words() -> None:
    bare: list[PageTags] = [(f"bare {i}", ["O"] * 50) for i in range(10)]
    pages = [*bare, *((f"full {i}", ["B-X"] * 10 + ["O"] * 50) for i in range(10))]
    masks = supervised_masks(pages, 2.0, seed=1, epoch=0)
    assert achieved_ratio(pages, masks) == 2.0
    assert [sum(mask) for mask in masks] == [10] * 10 + [20] * 10


def test_a_set_without_entities_is_supervised_whole_and_has_no_ratio() -> None:
    pages: list[PageTags] = [("a", ["O", "O"])]
    assert supervised_masks(pages, 2.0, seed=1, epoch=0) == [[True, True]]
    assert achieved_ratio(pages, [[True, True]]) is None


def test_the_nearest_number_of_words_is_drawn() -> None:
    pages: list[PageTags] = [("a", ["B-X"] * 100 + ["O"] * 100)]
    assert int(0.29 * 100) == 28
    for ratio, nearest in ((0.29, 0.29), (0.294, 0.29), (0.296, 0.30)):
        assert achieved_ratio(pages, supervised_masks(pages, ratio, seed=1, epoch=0)) == nearest


def test_a_ratio_of_nought_leaves_the_entities_alone() -> None:
    masks = supervised_masks([("a", ["O", "B-X", "I-X", "O"])], 0.0, seed=1, epoch=0)
    assert masks == [[False, True, True, False]]


lengths_of_items = st.lists(st.integers(1, 512), max_size=300)


@given(lengths_of_items, st.integers(1, 64), st.integers(0, 3))
def test_each_index_occurs_once_in_batches_of_the_given_size(lengths: list[int], batch_size: int, epoch: int) -> None:
    batches = epoch_order(lengths, batch_size, seed=1, epoch=epoch)
    assert sorted(chain(*batches)) == list(range(len(lengths)))
    assert all(0 < len(batch) <= batch_size for batch in batches)
    assert len(batches) == -(-len(lengths) // batch_size)
    assert batches == epoch_order(lengths, batch_size, seed=1, epoch=epoch)


def padding(batches: list[list[int]], lengths: list[int]) -> int:
    """Positions that carry no item when each batch is as long as its longest."""
    return sum(max(lengths[i] for i in batch) - lengths[i] for batch in batches for i in batch)


def test_batches_of_like_lengths_waste_little_and_mix_anew_each_epoch() -> None:
    draw = random.Random(1)
    lengths = [draw.randint(100, 500) for _ in range(400)]
    order = draw.sample(range(400), 400)
    at_random = [order[i : i + 8] for i in range(0, 400, 8)]
    first, second = (epoch_order(lengths, 8, seed=1, epoch=epoch) for epoch in (0, 1))
    assert padding(first, lengths) < 0.4 * padding(at_random, lengths)
    assert not {frozenset(batch) for batch in first} & {frozenset(batch) for batch in second}
    longest = [max(lengths[i] for i in batch) for batch in first]
    assert sum(left < right for left, right in pairwise(longest)) > 0.3 * len(longest)


def test_unlabelled_words_count_neither_as_entities_nor_as_o() -> None:
    pages: list[PageTags] = [("p", ["B-X", "-", "-", "-", "O", "O", "O", "O"])]
    masks = supervised_masks(pages, 2.0, seed=1, epoch=0)
    assert sum(masks[0][4:]) == 2
    assert achieved_ratio(pages, masks) == 2.0


counts = st.integers(1, 40)


@given(counts, counts, st.integers(0, 3))
def test_an_epoch_gets_its_number_of_items_and_none_recurs_before_all_others_occurred(
    items: int, count: int, seed: int
) -> None:
    epochs = [as_many(range(100, 100 + items), count, seed, epoch) for epoch in range(items)]
    assert all(len(epoch) == count for epoch in epochs)
    shown = list(chain(*epochs))
    for start in range(0, len(shown) - items + 1, items):
        assert sorted(shown[start : start + items]) == list(range(100, 100 + items))


def test_as_many_as_there_are_stay_in_their_order_and_others_are_mixed() -> None:
    assert as_many([7, 7, 3], 3, seed=1, epoch=5) == [7, 7, 3]
    drawn = as_many(range(100), 50, seed=1, epoch=0)
    assert drawn not in (sorted(drawn), as_many(range(100), 50, seed=2, epoch=0))

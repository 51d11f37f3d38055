"""Repeated windows: rare labels are shown more often, nothing is left out, all epochs are equally long."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from receipt_layoutlm.training.tasks.word_labels.inputs.sampling import draw, repeat_factors

FACTORS = st.lists(st.floats(1.0, 6.0), max_size=40)


def test_a_window_is_shown_as_often_as_its_rarest_label_asks() -> None:
    labels = [{"DATE", "TOTAL"}] * 16 + [{"DATE", "TIP"}] + [set[str]()]
    # DATE on 17 windows, TOTAL on 16, TIP on 1: the median is 16
    assert repeat_factors(labels) == [1.0] * 16 + [4.0] + [1.0]


def test_labels_that_are_equally_frequent_ask_for_nothing() -> None:
    assert repeat_factors([{"DATE"}, {"TOTAL"}, set()]) == [1.0, 1.0, 1.0]


def test_without_any_label_each_window_is_shown_once() -> None:
    assert draw(repeat_factors([set(), set()]), seed=1, epoch=0) == [0, 1]


@given(FACTORS, st.integers(0, 9), st.integers(0, 9))
def test_each_window_is_shown_its_factor_rounded_down_or_up(factors: list[float], seed: int, epoch: int) -> None:
    times = Counter(draw(factors, seed, epoch))
    assert all(int(factor) <= times[place] <= int(factor) + 1 for place, factor in enumerate(factors))


@given(FACTORS, st.integers(0, 9))
def test_every_epoch_has_the_same_number_of_windows(factors: list[float], seed: int) -> None:
    sizes = {len(draw(factors, seed, epoch)) for epoch in range(4)}
    assert len(sizes) == 1
    assert abs(sizes.pop() - sum(factors)) <= 0.5 + 1e-6


def test_another_epoch_repeats_other_windows_and_the_same_one_the_same() -> None:
    factors = [1.5] * 40
    assert draw(factors, 1, 0) == draw(factors, 1, 0)
    assert draw(factors, 1, 0) != draw(factors, 1, 1)

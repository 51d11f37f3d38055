"""Two models on the same pages: counts as in evaluations, honest intervals, and pages that flipped."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from receipt_layoutlm.run.paired import Difference, PairedScores, compare_runs
from receipt_layoutlm.run.predictions import PredictedPage
from receipt_layoutlm.training.tasks.word_labels.scoring.entities import score_entities
from tests.support.paired_runs import LABELS, paired_runs


def page(page_id: str, true: str, predicted: str) -> PredictedPage:
    """A page of these tags, such as `B-DATE I-DATE O`."""
    tags, found = tuple(true.split()), tuple(predicted.split())
    sure = (0.9,) * len(tags)
    return PredictedPage(page_id, tuple(range(len(tags))), tags, tags, found, sure, sure)


def of(*pages: PredictedPage) -> dict[str, PredictedPage]:
    return {each.page_id: each for each in pages}


def compared(first: Mapping[str, PredictedPage], other: Mapping[str, PredictedPage]) -> PairedScores:
    return compare_runs([first], [other], {})


def test_scores_are_those_of_an_evaluation_label_by_label() -> None:
    first, other, group_of = paired_runs(1, pages=30, merchants=6, gain=0.05)

    found = compare_runs([first], [other], group_of)

    for run, value in ((first, "first"), (other, "other")):
        pages = list(run.values())
        scores = score_entities([each.true for each in pages], [each.predicted for each in pages], LABELS)
        assert getattr(found.f1, value) == pytest.approx(scores.f1)
        for label in LABELS:
            assert getattr(found.per_label[label], value) == pytest.approx(scores.per_label[label].f1)
    assert (found.pages, found.groups, found.f1.support) == (30, 6, 300)


def test_words_without_a_label_are_left_out_as_in_evaluations() -> None:
    found = compared(of(page("a", "B-DATE -", "B-DATE B-DATE")), of(page("a", "B-DATE -", "O O")))

    assert (found.f1.first, found.f1.other) == (1.0, 0.0)


def test_pages_that_flipped_are_named_on_their_side() -> None:
    right, wrong = ("B-DATE O", "B-DATE O"), ("B-DATE O", "O O")
    first = of(page("better", *wrong), page("worse", *right), page("same", *right))
    other = of(page("better", *right), page("worse", *wrong), page("same", *right))

    found = compared(first, other)

    assert (found.became_right, found.became_wrong) == (("better",), ("worse",))


def test_only_pages_that_both_have_are_compared() -> None:
    right = ("B-DATE O", "B-DATE O")

    assert compared(of(page("a", *right), page("b", *right)), of(page("b", *right), page("c", *right))).pages == 1


def test_a_few_merchants_give_no_interval_however_many_pages_they_have() -> None:
    first, other, group_of = paired_runs(1, pages=40, merchants=4, gain=0.1)

    found = compare_runs([first], [other], group_of).f1

    assert (found.low, found.high, found.is_shown) == (None, None, False)


def test_whole_merchants_are_drawn_so_that_copies_of_their_pages_add_no_certainty() -> None:
    first, other, group_of = paired_runs(3, pages=40, merchants=40, gain=0.02)
    copies = {
        name: {f"{page_id}-{copy}": replace(each, page_id=f"{page_id}-{copy}") for page_id, each in run.items()
               for copy in range(4)}
        for name, run in (("first", first), ("other", other))
    }  # fmt: skip
    group_of_copies = {f"{page_id}-{copy}": group for page_id, group in group_of.items() for copy in range(4)}

    once = compare_runs([first], [other], group_of).f1
    four = compare_runs([copies["first"]], [copies["other"]], group_of_copies).f1

    assert (four.low, four.high) == pytest.approx((once.low, once.high), abs=1e-9)


def test_seeds_are_drawn_too_so_that_one_lucky_seed_shows_no_difference() -> None:
    """Nine merchants' pages are right in two of three seeds of a recipe: as models some differ, as recipes none."""
    right = of(*(page(f"p{number}", "B-DATE O", "B-DATE O") for number in range(40)))
    wrong = of(*(page(f"p{number}", "B-DATE O", "O O") for number in range(40)))

    assert compared(wrong, right).f1.is_shown
    assert not compare_runs([wrong, right, wrong], [right, wrong, right], {}).f1.is_shown
    assert compare_runs([wrong, wrong, wrong], [right, right, right], {}).f1.is_shown


@pytest.mark.parametrize("pairs", [40, pytest.param(200, marks=pytest.mark.long)])
def test_two_equal_models_are_rarely_called_different_and_a_gain_of_two_points_is_mostly_found(pairs: int) -> None:
    """On 200 pages of 60 merchants; bench/paired.py has other numbers of merchants."""

    def share_shown(gain: float) -> float:
        found = (paired_runs(seed, pages=200, merchants=60, gain=gain) for seed in range(pairs))
        shown = [compare_runs([first], [other], group_of).f1.is_shown for first, other, group_of in found]
        return sum(shown) / len(shown)

    assert share_shown(0.0) <= 0.05
    assert share_shown(0.02) >= 0.8


def test_an_interval_that_ends_at_zero_shows_nothing() -> None:
    assert not Difference(first=0.5, other=0.6, low=0.0, high=0.2).is_shown
    assert Difference(first=0.5, other=0.4, low=-0.2, high=-0.01).is_shown

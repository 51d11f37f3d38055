"""Selection of pages by quality thresholds."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.selection import (
    THRESHOLDS,
    PageQuality,
    SelectionRules,
    UnknownConfidence,
    first_source,
    quality_of,
    select_pages,
    source_of_subset,
    unmet_rules,
)

LOOSE = SelectionRules(min_validated_share=0, min_labels=0)


def page(*tags: str) -> Page:
    words = tuple("w" for _ in tags)
    return Page("p", "g", words, tuple((0, 0, 9, 9) for _ in tags), tags, 10, 10)


def chosen(qualities: Sequence[PageQuality], rules: SelectionRules) -> tuple[int, ...]:
    return select_pages(qualities, rules).chosen


@pytest.mark.parametrize(
    ("tags", "share", "labels"),
    [
        (("B-DATE", "I-DATE", "-"), 2 / 3, 1),
        (("B-DATE", "O", "O"), 1.0, 1),
        (("-", "O"), 0.0, 0),
        (("O", "O"), 1.0, 0),
        (("B-DATE", "B-DATE", "-", "-"), 0.5, 2),
    ],
)
def test_the_validated_share_is_of_labelled_and_unlabelled_words(
    tags: tuple[str, ...], share: float, labels: int
) -> None:
    assert quality_of(page(*tags), 0.5) == PageQuality(share, labels, 0.5)


@pytest.mark.parametrize(
    ("rule", "passing"),
    [
        ({"min_validated_share": 0.5}, (0, 1, 3)),
        ({"min_labels": 3}, (0, 2)),
        ({"min_confidence": 0.6}, (0,)),
        ({"min_confidence": 0.0}, (0, 1, 2, 3)),
        ({}, (0, 1, 2, 3)),
    ],
)
def test_each_rule_excludes_pages_below_its_threshold(rule: dict[str, float], passing: tuple[int, ...]) -> None:
    """A page without a confidence only meets a minimum of 0."""
    qualities = [
        PageQuality(1.0, 3, 0.9),
        PageQuality(0.5, 2, 0.5),
        PageQuality(0.4, 9, 0.5),
        PageQuality(1.0, 1, None),
    ]

    assert chosen(qualities, LOOSE.model_copy(update=rule)) == passing


def test_pages_are_counted_by_failed_rule_and_at_other_thresholds() -> None:
    qualities = [PageQuality(1.0, 5, 0.9), PageQuality(1.0, 5, 0.82), PageQuality(0.8, 2, None)]

    selection = select_pages(qualities, SelectionRules(min_validated_share=0.9, min_labels=5, min_confidence=0.85))

    assert (selection.chosen, selection.passed, selection.of) == ((0,), 1, 3)
    assert selection.failed == {"confidence": 2, "validated_share": 1, "labels": 1}
    assert selection.without_confidence == 1
    by_rule = {rule: [row.pages for row in selection.thresholds if row.rule == rule] for rule in THRESHOLDS}
    assert by_rule == {
        "confidence": [2, 2, 2, 2, 1, 0],  # at 0, 0.5, 0.7, 0.8, 0.9, 0.95
        "validated_share": [1, 1, 1, 1, 1],
        "labels": [1, 1, 1, 1, 1, 0],
    }


def test_without_any_confidence_none_is_counted_and_a_minimum_is_an_error() -> None:
    qualities = [PageQuality(1.0, 3, None)]

    assert {row.rule for row in select_pages(qualities, SelectionRules()).thresholds} == {"validated_share", "labels"}
    with pytest.raises(UnknownConfidence, match="dataset import dynamo"):
        select_pages(qualities, SelectionRules(min_confidence=0.5))


def test_the_source_of_a_subset_of_a_subset_leads_to_the_first_source() -> None:
    source = source_of_subset("dynamo t", "a@0f", SelectionRules(min_validated_share=0.5))

    assert source == "dynamo t; selected from a@0f by validated share >= 0.5, labels >= 1"
    assert first_source(source_of_subset(source, "b@1f", LOOSE)) == first_source("dynamo t") == "dynamo t"


def test_a_source_of_an_earlier_version_leads_to_the_first_source() -> None:
    relaxed = "dynamo t; selected from a@0f by labels >= 1 (relaxed from labels >= 3)"
    assert first_source(relaxed) == "dynamo t"


shares = st.integers(0, 20).map(lambda number: number / 20)
many_qualities = st.lists(
    st.builds(PageQuality, shares, st.integers(0, 12), st.none() | shares), min_size=1, max_size=30
)
any_rules = st.builds(
    SelectionRules, min_validated_share=shares, min_labels=st.integers(0, 12), min_confidence=st.none() | shares
)


@given(many_qualities, any_rules)
def test_each_count_is_that_of_a_selection_with_this_threshold(
    qualities: list[PageQuality], rules: SelectionRules
) -> None:
    try:
        selection = select_pages(qualities, rules)
    except UnknownConfidence:
        assert rules.min_confidence and all(quality.confidence is None for quality in qualities)
        return
    assert selection.chosen == tuple(i for i, quality in enumerate(qualities) if not unmet_rules(quality, rules))
    for row in selection.thresholds:
        assert row.pages == select_pages(qualities, rules.model_copy(update={f"min_{row.rule}": row.threshold})).passed

"""Which pages a subset takes: by rules, relaxed in a known order and no further than needed."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.selection import (
    RELAXED_IN_ORDER,
    Facts,
    Rules,
    TooFewPages,
    UnknownConfidence,
    facts_of,
    first_source,
    passes,
    select,
    source_of_subset,
)

LOOSE = Rules(min_validated_share=0, min_labels=0)


def page(*tags: str) -> Page:
    words = tuple("w" for _ in tags)
    return Page("p", "g", words, tuple((0, 0, 9, 9) for _ in tags), tags, 10, 10)


def chosen(facts: Sequence[Facts], rules: Rules, min_pages: int = 0) -> tuple[int, ...]:
    return select(facts, rules, min_pages).chosen


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
def test_the_share_is_of_the_words_that_somebody_labelled_or_has_to_decide(
    tags: tuple[str, ...], share: float, labels: int
) -> None:
    assert facts_of(page(*tags), 0.5) == Facts(share, labels, 0.5)


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
def test_each_rule_keeps_out_what_it_is_about(rule: dict[str, float], passing: tuple[int, ...]) -> None:
    """A page without a confidence fails a rule on it, unless the rule asks for nothing."""
    facts = [Facts(1.0, 3, 0.9), Facts(0.5, 2, 0.5), Facts(0.4, 9, 0.5), Facts(1.0, 1, None)]

    assert chosen(facts, LOOSE.model_copy(update=rule)) == passing


def test_the_rules_are_relaxed_one_after_the_other_and_each_step_tells_what_it_let_in() -> None:
    facts = [Facts(1.0, 5, 0.9), Facts(1.0, 5, 0.82), Facts(1.0, 5, None), Facts(0.87, 5, 0.1), Facts(0.1, 3, 0.1)]
    asked = Rules(min_validated_share=0.9, min_labels=5, min_confidence=0.9)

    two = select(facts, asked, 2)
    assert [(step.rule, step.before, step.after, step.admitted, step.pages) for step in two.steps] == [
        ("confidence", 0.9, 0.85, 0, 1),
        ("confidence", 0.85, 0.8, 1, 2),
    ]
    assert (two.chosen, two.passed, two.rules.min_confidence) == ((0, 1), 1, 0.8)
    assert two.failed == {"confidence": 4, "validated_share": 2, "labels": 1}
    assert two.without_confidence == 1

    four = select(facts, asked, 4)
    assert [(step.rule, step.after) for step in four.steps][-2:] == [("confidence", 0.0), ("validated_share", 0.85)]
    assert four.rules == Rules(min_validated_share=0.85, min_labels=5, min_confidence=0.0)

    five = select(facts, asked, 5)
    assert [step.after for step in five.steps if step.rule == "labels"] == [4, 3]
    assert five.rules.min_validated_share == 0.1


def test_a_rule_that_keeps_nobody_out_alone_stays_until_it_matters() -> None:
    """Which is when the only pages left fail it together with another one."""
    facts = [Facts(1.0, 5, None), Facts(1.0, 3, None), Facts(0.8, 2, None)]
    asked = Rules(min_validated_share=0.9, min_labels=5)

    two = select(facts, asked, 2)
    assert [(step.rule, step.after, step.pages) for step in two.steps] == [("labels", 4, 1), ("labels", 3, 2)]
    assert two.rules.min_validated_share == 0.9

    three = select(facts, asked, 3)
    assert [(step.rule, step.after) for step in three.steps][2:] == [
        ("validated_share", 0.85),
        ("validated_share", 0.8),
        ("labels", 2),
    ]


def test_rules_that_give_enough_stay_as_they_are() -> None:
    found = select([Facts(1.0, 5, None)] * 3, Rules(), 3)
    assert (found.steps, found.rules, found.chosen) == ((), Rules(), (0, 1, 2))


def test_a_page_without_labels_is_never_let_in_unless_asked_for() -> None:
    facts = [Facts(1.0, 0, None), Facts(1.0, 2, None)]

    with pytest.raises(TooFewPages, match=r"1 of 2 pages pass, not 2: ask for 1 at most, or give --min-labels 0"):
        select(facts, Rules(min_labels=4), 2)
    assert chosen(facts, Rules(min_labels=0), 2) == (0, 1)


def test_without_a_wish_nothing_is_relaxed_and_no_page_at_all_is_an_error() -> None:
    facts = [Facts(0.2, 3, None)] * 4
    with pytest.raises(TooFewPages, match=r"validated share >= 0.9.*give --min-pages N.*4 of 4 do"):
        select(facts, Rules(), 0)


def test_a_rule_on_a_confidence_that_no_page_has_is_an_error() -> None:
    with pytest.raises(UnknownConfidence, match="dataset import dynamo"):
        select([Facts(1.0, 3, None)], Rules(min_confidence=0.5), 1)


def test_a_subset_says_where_it_comes_from_and_a_subset_of_it_too() -> None:
    selection = select([Facts(0.5, 3, None)], Rules(), 1)
    source = source_of_subset("dynamo t", "a@0f", selection)

    assert source == (
        "dynamo t; selected from a@0f by validated share >= 0.5, labels >= 1 "
        "(relaxed from validated share >= 0.9, labels >= 1)"
    )
    assert first_source(source_of_subset(source, "b@1f", selection)) == first_source("dynamo t") == "dynamo t"


shares = st.integers(0, 20).map(lambda number: number / 20)
many_facts = st.lists(st.builds(Facts, shares, st.integers(0, 8), st.none() | shares), min_size=1, max_size=30)
any_rules = st.builds(
    Rules, min_validated_share=shares, min_labels=st.integers(0, 8), min_confidence=st.none() | shares
)


@given(many_facts, any_rules, st.integers(1, 30))
def test_a_selection_is_what_its_rules_say_and_no_looser_than_needed(
    facts: list[Facts], asked: Rules, min_pages: int
) -> None:
    try:
        found = select(facts, asked, min_pages)
    except UnknownConfidence:
        assert asked.min_confidence and all(each.confidence is None for each in facts)
        return
    except TooFewPages:
        loosest = {"min_validated_share": 0, "min_labels": min(asked.min_labels, 1), "min_confidence": None}
        assert sum(passes(each, Rules.model_validate(loosest)) for each in facts) < min_pages
        return
    assert found.chosen == tuple(place for place, each in enumerate(facts) if passes(each, found.rules))
    assert len(found.chosen) >= min_pages
    assert set(found.chosen) >= set(chosen_or_none(facts, asked))
    if found.steps:
        last = found.steps[-1]
        assert last.pages - last.admitted < min_pages <= last.pages == len(found.chosen)
        assert found.passed + sum(step.admitted for step in found.steps) == last.pages
        assert last.admitted > 0
    for name in RELAXED_IN_ORDER:
        if not found.failed[name]:
            assert getattr(found.rules, f"min_{name}") == getattr(asked, f"min_{name}")


def chosen_or_none(facts: list[Facts], rules: Rules) -> list[int]:
    return [place for place, each in enumerate(facts) if passes(each, rules)]

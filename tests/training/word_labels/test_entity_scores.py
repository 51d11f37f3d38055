"""Entity scores equal those of seqeval's strict IOB2 mode on any tags."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.v1 import precision_recall_fscore_support
from seqeval.scheme import IOB2, Entities

from receipt_layoutlm.data.tags import Entity, entities
from receipt_layoutlm.training.tasks.word_labels.scoring.entities import EntityScores, score_entities, score_sets

LABELS = ["DATE", "TAX", "TIP"]
TAGS = ["O", *(f"{prefix}-{label}" for label in LABELS for prefix in "BI")]

Pages = list[list[str]]
pairs_of_tags = st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), max_size=25)
like_tags = pairs_of_tags.flatmap(  # most words right, so that many entities are found
    lambda pairs: st.lists(st.integers(0, 4), min_size=len(pairs), max_size=len(pairs)).map(
        lambda dice: [(true, other if die == 0 else true) for (true, other), die in zip(pairs, dice, strict=True)]
    )
)
parts = st.lists(st.one_of(pairs_of_tags, like_tags), max_size=6).map(
    lambda pages: ([[a for a, _ in page] for page in pages], [[b for _, b in page] for page in pages])
)


def by_seqeval(true: Pages, predicted: Pages, average: str | None) -> list[list[float]]:
    """Columns of precision, recall, F1 and support: of all (micro, macro) or of each label that has entities."""
    columns = precision_recall_fscore_support(true, predicted, average=average, scheme=IOB2, zero_division=0)
    return [np.atleast_1d(np.asarray(column)).tolist() for column in columns]


@given(parts)
def test_it_equals_seqeval_on_any_tags(part: tuple[Pages, Pages]) -> None:
    true, predicted = part
    ours = score_entities(true, predicted, LABELS)
    seen = sorted(Entities(true, IOB2).unique_tags | Entities(predicted, IOB2).unique_tags)
    if not seen:
        assert (ours.precision, ours.recall, ours.f1, ours.macro_f1) == (0, 0, 0, 0)
        return
    precision, recall, f1, support = by_seqeval(true, predicted, None)
    rows = {label: ours.per_label[label] for label in seen}
    assert [row.precision for row in rows.values()] == precision
    assert [row.recall for row in rows.values()] == recall
    assert [row.f1 for row in rows.values()] == f1
    assert [row.support for row in rows.values()] == support
    assert [[ours.precision], [ours.recall], [ours.f1]] == by_seqeval(true, predicted, "micro")[:3]
    assert_macro(ours, true, predicted, seen)


def assert_macro(ours: EntityScores, true: Pages, predicted: Pages, seen: list[str]) -> None:
    """seqeval's macro counts labels that are only predicted, ours does not; without such they are the same."""
    supported = [row.f1 for row in ours.per_label.values() if row.support]
    assert ours.macro_f1 == pytest.approx(np.mean(supported) if supported else 0)
    if all(ours.per_label[label].support for label in seen):
        assert [ours.macro_f1] == pytest.approx(by_seqeval(true, predicted, "macro")[2])


@given(st.lists(st.sampled_from(TAGS), max_size=25))
def test_it_finds_the_entities_that_seqeval_finds(tags: list[str]) -> None:
    theirs = [Entity(found.tag, found.start, found.end) for found in Entities([tags], IOB2).entities[0]]
    assert entities(tags) == theirs


def test_an_entity_ends_where_another_begins_or_its_label_ends() -> None:
    tags = ["I-TAX", "B-TAX", "I-TAX", "B-TAX", "I-TIP", "I-TIP", "B-TIP", "-", "I-TIP", "O", "B-DATE"]
    assert entities(tags) == [
        Entity("TAX", 1, 3),
        Entity("TAX", 3, 4),
        Entity("TIP", 6, 7),
        Entity("DATE", 10, 11),
    ]


def test_a_label_without_true_items_has_a_row_and_no_part_in_the_macro_average() -> None:
    scores = score_sets([({("TAX", 1), ("TAX", 2)}, {("TAX", 1), ("TIP", 1)})], ["DATE", "TAX"])
    assert list(scores.per_label) == ["DATE", "TAX", "TIP"]
    assert scores.macro_f1 == scores.per_label["TAX"].f1 == 2 / 3
    assert (scores.precision, scores.recall) == (0.5, 0.5)


def test_items_of_different_pages_are_different() -> None:
    scores = score_sets([({("TAX", 1)}, set()), (set(), {("TAX", 1)})], [])
    assert (scores.f1, scores.per_label["TAX"].support) == (0, 1)


def test_pages_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        score_entities([["O", "B-TAX"]], [["O"]], LABELS)

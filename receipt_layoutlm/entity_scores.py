"""Entities of IOB2 tags, and precision, recall and F1 over sets of labelled items; equal to seqeval's strict IOB2."""

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple

from receipt_layoutlm.events import LabelScore

Item = tuple[str, *tuple[object, ...]]
"""What is right or wrong as a whole: its label, then whatever else makes it what it is."""

NO_SCORE = LabelScore(precision=0, recall=0, f1=0, support=0)


class Entity(NamedTuple):
    """The words `begin` to `end` (exclusive) of a page."""

    label: str
    begin: int
    end: int


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of a page by strict IOB2, in order: B-X and the I-X right after it. Any other I-X is none."""
    found = []
    for begin, tag in enumerate(tags):
        if tag[0] == "B":
            inside, end = f"I-{tag[2:]}", begin + 1
            while end < len(tags) and tags[end] == inside:
                end += 1
            found.append(Entity(tag[2:], begin, end))
    return found


@dataclass(frozen=True, slots=True)
class SetScores:
    """Micro averages and each label's row; 0 wherever there is nothing to divide by."""

    precision: float
    recall: float
    f1: float
    per_label: dict[str, LabelScore]

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the labels that have true items: one without could only score 0."""
        supported = [row.f1 for row in self.per_label.values() if row.support]
        return sum(supported) / len(supported) if supported else 0.0


def score_sets(pages: Iterable[tuple[AbstractSet[Item], AbstractSet[Item]]], labels: Sequence[str]) -> SetScores:
    """Score the predicted items of each page (second) against the true ones (first).

    `labels` get a row each, items or not; other labels that have items follow them in alphabetical order.
    """
    true, predicted, right = Counter[str](), Counter[str](), Counter[str]()
    for truth, guess in pages:
        true.update(item[0] for item in truth)
        predicted.update(item[0] for item in guess)
        right.update(item[0] for item in truth & guess)
    rows = dict.fromkeys(labels, NO_SCORE)
    for label in sorted(true.keys() | predicted.keys()):
        precision, recall, f1 = rates(right[label], predicted[label], true[label])
        rows[label] = LabelScore(precision=precision, recall=recall, f1=f1, support=true[label])
    return SetScores(*rates(right.total(), predicted.total(), true.total()), per_label=rows)


def rates(right: int, predicted: int, true: int) -> tuple[float, float, float]:
    """Precision, recall and F1 of counts, to the last bit as seqeval has them with zero_division=0."""
    precision = right / predicted if predicted else 0.0
    recall = right / true if true else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if right else 0.0

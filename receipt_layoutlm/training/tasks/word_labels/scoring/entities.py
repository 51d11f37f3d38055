"""Entity scores of word tags: seqeval's strict IOB2 micro F1 as headline, scores per label, and confusion of words.

An entity counts only with its exact words and its label. A tag I-X that continues no entity of X is none. Unlabelled
words are left out: true and predicted, they count as O. Equal to seqeval's strict mode.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from receipt_layoutlm.data.page import UNSUPERVISED
from receipt_layoutlm.data.tags import entities, label_of, labelled
from receipt_layoutlm.run.scores import LabelScore
from receipt_layoutlm.run.word_scores import rates

Tags = Sequence[str]


@dataclass(frozen=True, slots=True)
class EntityScores:
    """Scores of a set of pages; all keys are labels without B- and I-, or O.

    macro_f1 is the mean over the labels that have true entities.
    """

    precision: float
    recall: float
    f1: float
    macro_f1: float
    per_label: dict[str, LabelScore]
    confusion: dict[str, dict[str, int]]  # true label -> predicted label -> words
    predicted_labels: dict[str, int]  # words per predicted label
    collapsed: bool  # one predicted label for all words although several are true


def score_entities(true: Sequence[Tags], predicted: Sequence[Tags], labels: Sequence[str]) -> EntityScores:
    """Score predicted tags against true ones, page by page; `labels` get a row each, with examples or without."""
    tag_pairs: Counter[tuple[str, str]] = Counter()
    for true_tags, predicted_tags in zip(true, predicted, strict=True):
        tag_pairs.update(zip(true_tags, predicted_tags, strict=True))
    cells: Counter[tuple[str, str]] = Counter()  # labelled words by true and predicted label
    for (true_tag, predicted_tag), words in tag_pairs.items():
        if true_tag != UNSUPERVISED:
            cells[label_of(true_tag), label_of(predicted_tag)] += words
    confusion: dict[str, dict[str, int]] = {}
    histogram: Counter[str] = Counter()
    for (true_label, predicted_label), words in sorted(cells.items()):
        confusion.setdefault(true_label, {})[predicted_label] = words
        histogram[predicted_label] += words
    pages = zip(true, predicted, strict=True)
    sets = score_sets(((set(entities(truth)), set(entities(labelled(truth, tags)))) for truth, tags in pages), labels)
    return EntityScores(
        sets.precision,
        sets.recall,
        sets.f1,
        sets.macro_f1,
        per_label=sets.per_label,
        confusion=confusion,
        predicted_labels=dict(sorted(histogram.items())),
        collapsed=len(histogram) == 1 and len(confusion) > 1,
    )


Item = tuple[str, *tuple[object, ...]]
"""A unit of scoring: its label, then everything else that identifies it."""

NO_SCORE = LabelScore(precision=0, recall=0, f1=0, support=0)


@dataclass(frozen=True, slots=True)
class SetScores:
    """Micro averages and a row per label; 0 for a ratio without a denominator."""

    precision: float
    recall: float
    f1: float
    per_label: dict[str, LabelScore]

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the labels that have true items; a label without any could only score 0."""
        supported = [row.f1 for row in self.per_label.values() if row.support]
        return sum(supported) / len(supported) if supported else 0.0


def score_sets(pages: Iterable[tuple[AbstractSet[Item], AbstractSet[Item]]], labels: Sequence[str]) -> SetScores:
    """Score the predicted items of each page (second) against the true ones (first).

    `labels` get a row each, with items or without; other labels with items follow in alphabetical order.
    """
    true, predicted, right = Counter[str](), Counter[str](), Counter[str]()
    for true_items, predicted_items in pages:
        true.update(item[0] for item in true_items)
        predicted.update(item[0] for item in predicted_items)
        right.update(item[0] for item in true_items & predicted_items)
    rows = dict.fromkeys(labels, NO_SCORE)
    for label in sorted(true.keys() | predicted.keys()):
        precision, recall, f1 = rates(right[label], predicted[label], true[label])
        rows[label] = LabelScore(precision=precision, recall=recall, f1=f1, support=true[label])
    return SetScores(*rates(right.total(), predicted.total(), true.total()), per_label=rows)

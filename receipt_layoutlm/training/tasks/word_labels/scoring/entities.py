"""Entity scores of word tags: seqeval's strict IOB2 micro F1 as headline, scores per label, and confusion of words.

An entity counts only with its exact words and its label. A tag I-X that continues no entity of X is none. Unlabelled
words are left out: true and predicted, they count as O. Equal to seqeval's strict mode.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from receipt_layoutlm.data.labels import OUTSIDE
from receipt_layoutlm.data.page import UNSUPERVISED
from receipt_layoutlm.data.tags import entities
from receipt_layoutlm.run.scores import LabelScore
from receipt_layoutlm.run.word_scores import rates

Tags = Sequence[str]


@dataclass(frozen=True, slots=True)
class EntityScores:
    """What an evaluation says of its pages; all keys are labels without B- and I-, or O.

    macro_f1 is the mean over the labels that have true entities.
    """

    precision: float
    recall: float
    f1: float
    macro_f1: float
    per_label: dict[str, LabelScore]
    confusion: dict[str, dict[str, int]]  # true label -> predicted label -> words
    predicted_labels: dict[str, int]  # words per predicted label
    collapsed: bool  # one predicted label for every word, where the truth has several


def score_entities(true: Sequence[Tags], predicted: Sequence[Tags], labels: Sequence[str]) -> EntityScores:
    """Score predicted tags against true ones, page by page; `labels` are all that get a row, examples or not."""
    cells = _cells(true, predicted)
    confusion, histogram = _confusion(cells), _histogram(cells)
    pages = zip(true, predicted, strict=True)
    found = score_sets(((set(entities(truth)), set(entities(decided(truth, guess)))) for truth, guess in pages), labels)
    return EntityScores(
        found.precision,
        found.recall,
        found.f1,
        found.macro_f1,
        per_label=found.per_label,
        confusion=confusion,
        predicted_labels=histogram,
        collapsed=len(histogram) == 1 and len(confusion) > 1,
    )


def decided(true: Tags, tags: Tags) -> Tags:
    """A page's tags with O where the truth is not known."""
    if UNSUPERVISED not in true:
        return tags
    return [OUTSIDE if known == UNSUPERVISED else tag for known, tag in zip(true, tags, strict=True)]


def label_of(tag: str) -> str:
    """The label of a tag: O, or what follows B- or I-."""
    return tag if tag == OUTSIDE else tag[2:]


def _cells(true: Sequence[Tags], predicted: Sequence[Tags]) -> Counter[tuple[str, str]]:
    """Words by true and predicted label, those whose truth is known."""
    tags: Counter[tuple[str, str]] = Counter()
    for true_tags, predicted_tags in zip(true, predicted, strict=True):
        tags.update(zip(true_tags, predicted_tags, strict=True))
    cells: Counter[tuple[str, str]] = Counter()
    for (true_tag, predicted_tag), words in tags.items():
        if true_tag != UNSUPERVISED:
            cells[label_of(true_tag), label_of(predicted_tag)] += words
    return cells


def _confusion(cells: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {}
    for (true_label, predicted_label), words in sorted(cells.items()):
        table.setdefault(true_label, {})[predicted_label] = words
    return table


def _histogram(cells: Mapping[tuple[str, str], int]) -> dict[str, int]:
    words_of: Counter[str] = Counter()
    for (_, predicted_label), words in cells.items():
        words_of[predicted_label] += words
    return dict(sorted(words_of.items()))


Item = tuple[str, *tuple[object, ...]]
"""What is right or wrong as a whole: its label, then whatever else makes it what it is."""

NO_SCORE = LabelScore(precision=0, recall=0, f1=0, support=0)


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

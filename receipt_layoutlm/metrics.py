"""Entity scores of word tags: seqeval's strict IOB2 micro F1 as headline, each label, and which words went where.

An entity counts only with its exact words and its label. A tag I-X that continues no entity of X is none. Words
whose truth nobody has decided are left out: true and predicted, they count as O.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from seqeval.metrics.v1 import precision_recall_fscore_support
from seqeval.scheme import IOB2

from receipt_layoutlm.events import LabelScore
from receipt_layoutlm.page import UNSUPERVISED

METRIC_NAME = "eval_f1"
"""The headline: micro F1 over the entities of all labels."""

Tags = Sequence[str]


@dataclass(frozen=True, slots=True)
class Scores:
    """What an evaluation says of its pages; all keys are labels without B- and I-, or O."""

    precision: float
    recall: float
    f1: float
    per_label: dict[str, LabelScore]
    confusion: dict[str, dict[str, int]]  # true label -> predicted label -> words
    predicted_labels: dict[str, int]  # words per predicted label
    collapsed: bool  # one predicted label for every word, where the truth has several


def score(true: Sequence[Tags], predicted: Sequence[Tags], labels: Sequence[str]) -> Scores:
    """Score predicted tags against true ones, page by page; `labels` are all that get a row, examples or not."""
    confusion = _confusion(true, predicted)
    histogram = _histogram(true, predicted)
    true, predicted = _without_undecided(true, true), _without_undecided(true, predicted)
    micro = _micro(true, predicted)
    return Scores(
        *micro,
        per_label=_per_label(true, predicted, labels),
        confusion=confusion,
        predicted_labels=histogram,
        collapsed=len(histogram) == 1 and len(confusion) > 1,
    )


def _without_undecided(true: Sequence[Tags], tags: Sequence[Tags]) -> list[list[str]]:
    """The tags with O where the truth is not known."""
    return [
        ["O" if known == UNSUPERVISED else tag for known, tag in zip(true_tags, page_tags, strict=True)]
        for true_tags, page_tags in zip(true, tags, strict=True)
    ]


def _decided(true: Sequence[Tags], predicted: Sequence[Tags]) -> Iterator[tuple[str, str]]:
    """True and predicted label of each word whose truth is known."""
    for true_tags, predicted_tags in zip(true, predicted, strict=True):
        for true_tag, predicted_tag in zip(true_tags, predicted_tags, strict=True):
            if true_tag != UNSUPERVISED:
                yield label_of(true_tag), label_of(predicted_tag)


def _has_entities(pages: Iterable[Tags]) -> bool:
    return any(tag.startswith("B-") for tags in pages for tag in tags)


def _micro(true: Sequence[Tags], predicted: Sequence[Tags]) -> tuple[float, float, float]:
    """Precision, recall, F1; all 0 where there is nothing to divide by."""
    if not _has_entities(true) and not _has_entities(predicted):
        return 0.0, 0.0, 0.0  # seqeval fails on an empty list of labels
    precision, recall, f1, _ = precision_recall_fscore_support(
        _lists(true), _lists(predicted), average="micro", scheme=IOB2, zero_division=0
    )
    return float(precision), float(recall), float(f1)


def _per_label(true: Sequence[Tags], predicted: Sequence[Tags], labels: Sequence[str]) -> dict[str, LabelScore]:
    rows = dict.fromkeys(labels, LabelScore(precision=0, recall=0, f1=0, support=0))
    if not _has_entities(true) and not _has_entities(predicted):
        return rows
    columns = precision_recall_fscore_support(
        _lists(true), _lists(predicted), average=None, scheme=IOB2, zero_division=0
    )
    for name, row in zip(_seqeval_labels(true, predicted), zip(*columns, strict=True), strict=True):
        precision, recall, f1, support = (np.asarray(value).item() for value in row)
        rows[name] = LabelScore(precision=precision, recall=recall, f1=f1, support=support)
    return rows


def _seqeval_labels(true: Sequence[Tags], predicted: Sequence[Tags]) -> list[str]:
    """The labels of seqeval's rows: those with an entity on either side, sorted."""
    return sorted({tag[2:] for pages in (true, predicted) for tags in pages for tag in tags if tag[0] == "B"})


def _lists(pages: Sequence[Tags]) -> list[list[str]]:
    return [list(tags) for tags in pages]


def label_of(tag: str) -> str:
    """The label of a tag: O, or what follows B- or I-."""
    return tag if tag == "O" else tag[2:]


def _confusion(true: Sequence[Tags], predicted: Sequence[Tags]) -> dict[str, dict[str, int]]:
    cells = Counter(_decided(true, predicted))
    table: dict[str, dict[str, int]] = {}
    for (true_label, predicted_label), words in sorted(cells.items()):
        table.setdefault(true_label, {})[predicted_label] = words
    return table


def _histogram(true: Sequence[Tags], predicted: Sequence[Tags]) -> dict[str, int]:
    return dict(sorted(Counter(label for _, label in _decided(true, predicted)).items()))

"""Scores over words, not entities: each class, their average weighted by words, accuracy and balanced accuracy.

A class is a label, its B- and I- as one, or O. These numbers flatter: most words are O and easy, and half an entity
counts half. They are no entity F1 and are never called F1 without `word`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass


def rates(right: int, predicted: int, true: int) -> tuple[float, float, float]:
    """Precision, recall and F1 of counts, to the last bit as seqeval has them with zero_division=0."""
    precision = right / predicted if predicted else 0.0
    recall = right / true if true else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if right else 0.0


@dataclass(frozen=True, slots=True)
class WordRow:
    """Scores of one class; `words` is the number of words whose true class it is."""

    word_precision: float
    word_recall: float
    word_f1: float
    words: int


@dataclass(frozen=True, slots=True)
class WordReport:
    """Rows in alphabetical order; `weighted` is their average, weighted by words.

    balanced_accuracy: mean recall of the classes that have words, so that O counts as much as any other.
    """

    rows: dict[str, WordRow]
    weighted: WordRow
    word_accuracy: float
    balanced_accuracy: float


def word_report(confusion: Mapping[str, Mapping[str, int]]) -> WordReport:
    """The report of a confusion table (true label -> predicted label -> words); all scores are 0 without words."""
    true = Counter({label: sum(row.values()) for label, row in confusion.items()})
    predicted: Counter[str] = Counter()
    for row in confusion.values():
        predicted.update(row)
    right = Counter({label: row.get(label, 0) for label, row in confusion.items()})
    rows = {
        label: WordRow(*rates(right[label], predicted[label], true[label]), words=true[label])
        for label in sorted(true.keys() | predicted.keys())
    }
    total = sum(row.words for row in rows.values())
    shares = [(row.words / max(total, 1), row) for row in rows.values()]
    weighted = WordRow(
        sum(share * row.word_precision for share, row in shares),
        sum(share * row.word_recall for share, row in shares),
        sum(share * row.word_f1 for share, row in shares),
        total,
    )
    seen = [row.word_recall for row in rows.values() if row.words]
    return WordReport(
        rows,
        weighted,
        word_accuracy=right.total() / max(true.total(), 1),
        balanced_accuracy=sum(seen) / max(len(seen), 1),
    )


def word_report_lines(report: WordReport) -> list[str]:
    """The report as a table for people."""
    width = max(map(len, (*report.rows, "weighted average")))
    rows = [_line(label, row, width) for label, row in report.rows.items()]
    return [
        "word level (single words, no entity F1)",
        f"{'':{width}}  precision  recall      F1   words",
        *rows,
        _line("weighted average", report.weighted, width),
        f"word accuracy {report.word_accuracy:.3f}, balanced {report.balanced_accuracy:.3f}",
    ]


def _line(name: str, row: WordRow, width: int) -> str:
    return f"{name:{width}}  {row.word_precision:9.3f}  {row.word_recall:6.3f}  {row.word_f1:6.3f}  {row.words:6d}"

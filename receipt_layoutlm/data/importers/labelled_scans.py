"""Tags of scans by the values of each whole receipt.

Words that may be of a value which is unknown, not found, or not surely found are left unlabelled.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from difflib import SequenceMatcher
from typing import Literal, get_args

from receipt_layoutlm.data.dates import DateOrder
from receipt_layoutlm.data.importers.find_values import Document, How, Placement, Span
from receipt_layoutlm.data.importers.matches import Matches
from receipt_layoutlm.data.importers.value_columns import Values
from receipt_layoutlm.data.importers.value_match import bare
from receipt_layoutlm.data.labels import OUTSIDE, value_kind
from receipt_layoutlm.data.page import UNSUPERVISED

Outcome = How | Literal["unknown", "not printed"]

_FOUND = ("exact", "approximate")
_DOUBTS: tuple[Outcome, ...] = ("missing", "ambiguous", "approximate")
_SETTLED = 0.95  # share of the dates that show the order of day and month, from which all have it


@dataclass(frozen=True, slots=True)
class LabelledScan:
    """The tags of a document's words, by page in the order of each page's words, and the outcome of each label."""

    tags: tuple[tuple[str, ...], ...]
    outcomes: dict[str, Outcome]
    placements: Mapping[str, Placement]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A value that was not found, or not letter by letter. `words` are those that got its label."""

    file: str
    label: str
    value: str
    outcome: Outcome
    words: str

    @property
    def likeness(self) -> float:
        """Of the value and the words, from 0 to 1."""
        return SequenceMatcher(None, bare(self.value), bare(self.words), autojunk=False).ratio()


@dataclass(frozen=True, slots=True)
class ScanReport:
    """How often each label's values were found, and where a person should look, the worst first."""

    scans: int
    words: int
    unlabelled: int
    """Words that are neither learned nor scored."""
    date_order: DateOrder | None
    """Of day and month on the receipts; None where no date shows it."""
    outcomes: dict[str, dict[str, int]]
    doubts: tuple[Doubt, ...]

    @property
    def matches(self) -> dict[str, Matches]:
        """The values that are given, and those found, by label."""
        return {
            label: Matches(
                given=sum(counts.get(outcome, 0) for outcome in get_args(How)),
                exact=counts.get("exact", 0),
                approximate=counts.get("approximate", 0) + counts.get("ambiguous", 0),
                missing_on=(),
            )
            for label, counts in self.outcomes.items()
        }


def label_scans(scans: Sequence[tuple[str, Document, Values]]) -> tuple[list[LabelledScan], ScanReport]:
    """Label each scan, given by its name, and report how that went."""
    order = printed_order((document, values) for _, document, values in scans)
    labelled = [label_scan(document, values, order) for _, document, values in scans]
    outcomes: dict[str, Counter[str]] = {}
    doubts: list[Doubt] = []
    for (name, document, values), found in zip(scans, labelled, strict=True):
        for label, outcome in found.outcomes.items():
            outcomes.setdefault(label, Counter())[outcome] += 1
            if outcome in _DOUBTS:
                words = " ".join(document.words[slice(*found.placements[label].spans[0])]) if outcome in _FOUND else ""
                doubts.append(Doubt(name, label, str(values.found[label]), outcome, words))
    tags = [tag for found in labelled for page in found.tags for tag in page]
    report = ScanReport(
        scans=len(scans),
        words=len(tags),
        unlabelled=tags.count(UNSUPERVISED),
        date_order=order,
        outcomes={label: dict(counts) for label, counts in outcomes.items()},
        doubts=tuple(sorted(doubts, key=lambda doubt: (_DOUBTS.index(doubt.outcome), doubt.likeness))),
    )
    return labelled, report


def printed_order(documents: Iterable[tuple[Document, Values]]) -> DateOrder | None:
    """The order of day and month on receipts, as dates show it in which they cannot be exchanged; None if unknown."""
    votes: Counter[DateOrder] = Counter()
    for document, values in documents:
        for label, value in values.found.items():
            if isinstance(value, date) and value.day > 12:
                seen: list[DateOrder] = [
                    order for order in ("dmy", "mdy") if document.find(label, value, order).how == "exact"
                ]
                votes.update(seen if len(seen) == 1 else [])  # a date with the month's name shows none
    if not votes:
        return None
    order, count = votes.most_common(1)[0]
    return order if count >= _SETTLED * votes.total() else None


def label_scan(document: Document, values: Values, order: DateOrder | None) -> LabelledScan:
    """Label the words at the places of the values; `order` is that of printed dates, None if both occur."""
    placements = {
        label: Placement("missing") if value is None else document.find(label, value, order)
        for label, value in values.found.items()
    }
    placements = _without_shared(placements)
    doubtful: set[int] = set()
    for label, placement in placements.items():
        doubtful |= placement.doubtful
        if placement.how == "missing":
            value = values.found[label]
            is_number = value_kind(label) != "text" if value is None else not isinstance(value, str)
            doubtful |= document.words_with_digits() if is_number else set(range(len(document.words)))
    labels: list[tuple[int, str] | str] = [
        UNSUPERVISED if index in doubtful else OUTSIDE for index in range(len(document.words))
    ]
    spans = [(label, span) for label, placement in placements.items() for span in placement.spans]
    for number, (label, span) in enumerate(spans):
        labels[span.begin : span.end] = [(number, label)] * (span.end - span.begin)
    outcomes: dict[str, Outcome] = {label: placement.how for label, placement in placements.items()}
    outcomes |= {label: "unknown" for label, value in values.found.items() if value is None}
    outcomes |= dict.fromkeys(values.not_printed, "not printed")
    return LabelledScan(document.by_page(labels), outcomes, placements)


def _without_shared(placements: Mapping[str, Placement]) -> dict[str, Placement]:
    """Findings in which no word has two labels: the places of both are doubtful then."""
    owners: Counter[int] = Counter(
        index for placement in placements.values() for span in placement.spans for index in range(*span)
    )
    cleared: dict[str, Placement] = {}
    for label, placement in placements.items():
        shared = [span for span in placement.spans if any(owners[index] > 1 for index in range(*span))]
        kept: tuple[Span, ...] = tuple(span for span in placement.spans if span not in shared)
        if shared:
            words = frozenset(index for span in shared for index in range(*span))
            how: How = placement.how if kept else "ambiguous"
            placement = Placement(how, kept, placement.doubtful | words)
        cleared[label] = placement
    return cleared

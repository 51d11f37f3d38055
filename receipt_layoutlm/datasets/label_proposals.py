"""Writes a model's predictions into the table as proposed labels, beside what people labelled and never over it.

A proposal is a label with the status that it was proposed with. As soon as its status is another one, or a word has a
label that no model proposed, a person has decided, and the word is left alone.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product
from typing import Final

from pydantic import BaseModel, ConfigDict

from receipt_dynamo import ReceiptClient, ReceiptWord, ReceiptWordLabel, StateConflict, ValidationStatus
from receipt_dynamo.receipt_client import LabelRange, label_ranges
from receipt_layoutlm.data.page import Box, DataError
from receipt_layoutlm.datasets.receipt_pages import (
    StoredReceipt,
    is_placeholder,
    page_id_of,
    stored_receipt,
    words_of_page,
)
from receipt_layoutlm.datasets.receipt_snapshot import THREADS

_ROUNDS: Final = 5  # of reading and writing one receipt, while people label it
_TIME: Final = {"timestamp_added"}

Place = tuple[int, int]
"""line_id and word_id of a word in its receipt."""


@dataclass(frozen=True, slots=True)
class ProposedLabel:
    """A label that a model proposes for a word; begins: whether the word begins the entity."""

    label: str
    begins: bool
    confidence: float
    status: ValidationStatus
    doubts: str | None

    def row(self, word: ReceiptWord, by: str, now: datetime) -> ReceiptWordLabel:
        """The label of a word as a record of the table."""
        return ReceiptWordLabel(
            image_id=word.image_id,
            receipt_id=word.receipt_id,
            line_id=word.line_id,
            word_id=word.word_id,
            label=self.label,
            validation_status=self.status,
            begins=self.begins,
            timestamp_added=now,
            label_proposed_by=by,
            reasoning=self.doubts,
            confidence=self.confidence,
            proposed_status=self.status,
        )


@dataclass(frozen=True, slots=True)
class ProposedPage:
    """A page as a model read it: its words and boxes in order, and proposed labels by index of the word."""

    page_id: str
    words: Sequence[tuple[str, Box]]
    labels: Mapping[int, ProposedLabel]
    proposed_by: str


class ProposalReport(BaseModel):
    """Counts of labels. Reports can be added."""

    model_config = ConfigDict(frozen=True)

    receipts: int = 0
    written: int = 0  # new or replaced
    asked: int = 0  # of those written, with status NEEDS_REVIEW
    unchanged: int = 0  # proposed before with the same status and confidence by the same model
    withdrawn: int = 0  # of an earlier model, which this one does not propose; or beside a person's label
    kept: int = 0  # words with a proposal, which a person labelled

    def __add__(self, other: "ProposalReport") -> "ProposalReport":
        return ProposalReport(**{name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields})


@dataclass(slots=True)
class _Changes:
    puts: list[tuple[ReceiptWordLabel, ReceiptWordLabel | None]] = field(default_factory=list)
    """With the open proposal of the same key."""
    deletes: list[ReceiptWordLabel] = field(default_factory=list)
    unchanged: int = 0
    kept: int = 0


def labelled_page_ids(receipts: ReceiptClient) -> list[str]:
    """Page ids of all receipts with a label of any status, sorted. The index has no receipts without labels."""
    statuses, parts = zip(*product(ValidationStatus, label_ranges()), strict=True)

    def keys(status: ValidationStatus, part: LabelRange) -> set[tuple[str, int]]:
        return {(label.image_id, label.receipt_id) for label in receipts.iter_labels_by_status(status, part)}

    with ThreadPoolExecutor(THREADS) as pool:
        found = sorted(set().union(*pool.map(keys, statuses, parts)))
    return sorted(page_id_of(receipt) for receipt in receipts.get_receipts(found))


def plan_proposals(receipts: ReceiptClient, page: ProposedPage, now: datetime) -> ProposalReport:
    """What write_proposals would write now."""
    changes = _changes(page, _same_words(receipts, page), now)
    return _first_report(changes) + _counted(changes)


def write_proposals(receipts: ReceiptClient, page: ProposedPage, now: datetime) -> ProposalReport:
    """Writes the proposals of a page; proposals of earlier models that it does not repeat are deleted.

    Labels are read again after the writes, so that a person who labelled a word meanwhile has it alone. Raises
    DataError if the receipt is gone or has other words.
    """
    changes = _changes(page, _same_words(receipts, page), now)
    report = _first_report(changes)
    for _ in range(_ROUNDS):
        if not (changes.puts or changes.deletes):
            break
        report += _written(receipts, changes)
        changes = _changes(page, _same_words(receipts, page), now)
        report = report.model_copy(update={"kept": changes.kept})
    return report


def _same_words(receipts: ReceiptClient, page: ProposedPage) -> StoredReceipt:
    stored = stored_receipt(receipts, page.page_id)
    if stored is None or [(word.text, box) for word, box in words_of_page(stored)] != list(page.words):
        raise DataError(f"receipt {page.page_id!r} was deleted or has other words now: predict it again")
    return stored


def _changes(page: ProposedPage, stored: StoredReceipt, now: datetime) -> _Changes:
    """What to write so that the open proposals of words without a person's label are those of the page."""
    present: dict[Place, list[ReceiptWordLabel]] = defaultdict(list)
    for label in stored.labels:
        if not is_placeholder(label):
            present[label.line_id, label.word_id].append(label)
    changes = _Changes()
    for index, (word, _) in enumerate(words_of_page(stored)):
        labels = present[word.line_id, word.word_id]
        proposals = {label.label: label for label in labels if label.is_open_proposal}
        proposed = page.labels.get(index)
        if len(proposals) < len(labels):
            changes.kept += proposed is not None
        elif proposed is not None:
            new = proposed.row(word, page.proposed_by, now)
            known = proposals.pop(proposed.label, None)
            if known is not None and known.model_dump(exclude=_TIME) == new.model_dump(exclude=_TIME):
                changes.unchanged += 1
            else:
                changes.puts.append((new, known))
        changes.deletes.extend(proposals.values())
    return changes


def _first_report(changes: _Changes) -> ProposalReport:
    return ProposalReport(receipts=1, unchanged=changes.unchanged, kept=changes.kept)


def _counted(changes: _Changes) -> ProposalReport:
    asked = sum(label.validation_status is ValidationStatus.NEEDS_REVIEW for label, _ in changes.puts)
    return ProposalReport(written=len(changes.puts), asked=asked, withdrawn=len(changes.deletes))


def _written(receipts: ReceiptClient, changes: _Changes) -> ProposalReport:
    """What conflicts with a person's write is left out; the next round sees it."""
    done = _Changes()
    for label in changes.deletes:
        with suppress(StateConflict):
            receipts.withdraw(label)
            done.deletes.append(label)
    for label, known in changes.puts:
        with suppress(StateConflict):
            receipts.propose(label, known)
            done.puts.append((label, known))
    return _counted(done)

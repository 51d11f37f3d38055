"""Reads the table's labelled receipts as pages, concurrently, and only those changed since the last snapshot.

All labels that are not INVALID are read each time, since they tell which receipts exist and which changed. The words of
a receipt are read again if its labels or its Receipt item differ from the last snapshot.
"""

import hashlib
import heapq
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict

from receipt_dynamo import Receipt, ReceiptClient, ReceiptWord, ReceiptWordLabel, ValidationStatus
from receipt_dynamo.receipt_client import LabelRange, label_ranges
from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.datasets.receipt_pages import (
    CONTINUES_OVER_LINES,
    Notes,
    StoredReceipt,
    page_from_receipt,
    page_id_of,
)

THREADS: Final = 8
RULES: Final = 3  # to be raised when the same items become other pages or marks, so that all are read again
_AT_ONCE: Final = 50  # images in one lookup of a thread
_READ_STATUSES: Final = tuple(status for status in ValidationStatus if status is not ValidationStatus.INVALID)


class Mark(BaseModel):
    """A receipt in a snapshot: the digest of its labels and its Receipt item, its notes and its OCR confidence."""

    model_config = ConfigDict(frozen=True)

    page_id: str
    digest: str
    notes: Notes
    confidence: float | None = None  # mean of words with a VALID label, 0..1; None: unknown


class KnownReceipt(NamedTuple):
    """A receipt of an earlier snapshot."""

    page: Page
    mark: Mark


class SnapshotReport(BaseModel):
    """Counts of a snapshot of the table."""

    model_config = ConfigDict(frozen=True)

    receipts: int  # with a VALID label and with words: the pages, and excluded ones
    read: int  # of these, with words read from the table
    reused: int  # of these, taken from the last snapshot
    labels: dict[str, int]  # by status, without INVALID
    not_validated: int  # receipts with labels, none of them VALID
    without_receipt: int  # receipts with labels and no Receipt item
    without_words: int
    forgotten: int = 0  # of `receipts`, excluded from the snapshot
    notes: Notes
    read_units: float
    requests: int
    seconds: float


@dataclass(frozen=True)
class TableSnapshot:
    """Pages sorted by page id, their marks in the same order, and the report."""

    pages: list[Page]
    marks: list[Mark]
    report: SnapshotReport


@dataclass(frozen=True)
class SnapshotProgress:
    """Receipts read, and ranges of labels read of all ranges."""

    receipts: int
    parts_done: int
    parts: int


@dataclass
class _Tally:
    """Counters shared by the threads."""

    on_progress: Callable[[SnapshotProgress], None]
    parts: int
    receipts: int = 0
    parts_done: int = 0
    reused: int = 0
    not_validated: int = 0
    without_receipt: int = 0
    without_words: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, **counts: int) -> None:
        with self.lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)
            self.on_progress(SnapshotProgress(self.receipts, self.parts_done, self.parts))

    def add_labels(self, labels: Iterable[ReceiptWordLabel]) -> None:
        counted = Counter(str(label.validation_status) for label in labels)
        with self.lock:
            self.labels += counted


LabelsOfImage = dict[int, list[ReceiptWordLabel]]
"""By receipt_id."""


def read_labelled_receipts(
    receipts: ReceiptClient,
    known: Mapping[str, KnownReceipt],
    on_progress: Callable[[SnapshotProgress], None],
    threads: int = THREADS,
    excluded: Container[str] = frozenset(),
    over_lines: frozenset[str] = CONTINUES_OVER_LINES,
) -> TableSnapshot:
    """Every receipt with a VALID label; unchanged ones are taken from `known`, by page id.

    Pages with ids in `excluded` are omitted. An exception of `on_progress` ends the reading.
    """
    began, parts = time.monotonic(), label_ranges()
    tally = _Tally(on_progress, len(parts))
    with ThreadPoolExecutor(threads) as pool:
        ranges = pool.map(lambda part: _read_range(receipts, part, known, over_lines, tally), parts)
        read = sorted(itertools.chain.from_iterable(ranges), key=lambda receipt: receipt.page.page_id)
    for previous, receipt in itertools.pairwise(read):
        if previous.page.page_id == receipt.page.page_id:
            raise DataError(f"two receipts of the table have the page id {receipt.page.page_id!r}: delete one")
    kept = [receipt for receipt in read if receipt.page.page_id not in excluded]
    report = SnapshotReport(
        receipts=len(read),
        read=len(read) - tally.reused,
        reused=tally.reused,
        labels=dict(sorted(tally.labels.items())),
        not_validated=tally.not_validated,
        without_receipt=tally.without_receipt,
        without_words=tally.without_words,
        forgotten=len(read) - len(kept),
        notes=Notes.sum(receipt.mark.notes for receipt in kept),
        read_units=receipts.units.read,
        requests=receipts.units.requests,
        seconds=time.monotonic() - began,
    )
    return TableSnapshot([receipt.page for receipt in kept], [receipt.mark for receipt in kept], report)


def _read_range(
    receipts: ReceiptClient,
    part: LabelRange,
    known: Mapping[str, KnownReceipt],
    over_lines: frozenset[str],
    tally: _Tally,
) -> list[KnownReceipt]:
    """The receipts of one range of labels: the unchanged ones from `known`, the others from the table."""
    read: list[KnownReceipt] = []
    images = _images(receipts, part, tally)
    while batch := dict(itertools.islice(images, _AT_ONCE)):
        unchanged: dict[tuple[str, int], KnownReceipt] = {}
        keys = [(image_id, number) for image_id, labels in batch.items() for number in labels]
        for receipt in receipts.get_receipts(keys) if known else ():
            key = receipt.image_id, receipt.receipt_id
            earlier = known.get(page_id_of(receipt))
            if earlier is not None and earlier.mark.digest == _digest(receipt, batch[key[0]][key[1]], over_lines):
                unchanged[key] = earlier
        done = list(unchanged.values())
        for image_id, labels in batch.items():
            changed = {number: rows for number, rows in labels.items() if (image_id, number) not in unchanged}
            if changed:
                done += _read_image(receipts, image_id, changed, over_lines, tally)
        read += done
        tally.add(receipts=len(done), reused=len(unchanged))
    tally.add(parts_done=1)
    return read


def _images(receipts: ReceiptClient, part: LabelRange, tally: _Tally) -> Iterator[tuple[str, LabelsOfImage]]:
    """Each image with the labels of its receipts that have a VALID one."""
    streams = (receipts.iter_labels_by_status(status, part) for status in _READ_STATUSES)
    # as the index sorts, where '#' ends the image's id
    merged = heapq.merge(*streams, key=lambda label: f"{label.image_id}#")
    for image_id, rows in itertools.groupby(merged, key=lambda label: label.image_id):
        labels: LabelsOfImage = {}
        for label in rows:
            labels.setdefault(label.receipt_id, []).append(label)
        tally.add_labels(label for rows in labels.values() for label in rows)
        valid = {number: rows for number, rows in labels.items() if _has_valid(rows)}
        tally.add(not_validated=len(labels) - len(valid))
        if valid:
            yield image_id, valid


def _has_valid(labels: Iterable[ReceiptWordLabel]) -> bool:
    return any(label.validation_status is ValidationStatus.VALID for label in labels)


def _read_image(
    receipts: ReceiptClient, image_id: str, labels: LabelsOfImage, over_lines: frozenset[str], tally: _Tally
) -> list[KnownReceipt]:
    """Those of an image's receipts that have labels, a Receipt item and words, with their marks."""
    rows = receipts.get_image(image_id)
    words: dict[int, list[ReceiptWord]] = {}
    for word in rows.words:
        words.setdefault(word.receipt_id, []).append(word)
    present = [receipt for receipt in rows.receipts if receipt.receipt_id in labels]
    read: list[KnownReceipt] = []
    for receipt in present:
        of_receipt, of_labels = words.get(receipt.receipt_id, []), labels[receipt.receipt_id]
        page, notes = page_from_receipt(StoredReceipt(receipt, tuple(of_receipt), tuple(of_labels)), over_lines)
        if page is None:
            continue
        valid = {(label.line_id, label.word_id) for label in of_labels if _has_valid([label])}
        known = [
            word.confidence
            for word in of_receipt
            if (word.line_id, word.word_id) in valid and word.confidence is not None
        ]
        mark = Mark(
            page_id=page.page_id,
            digest=_digest(receipt, of_labels, over_lines),
            notes=notes,
            confidence=round(sum(known) / len(known), 6) if known else None,
        )
        read.append(KnownReceipt(page, mark))
    tally.add(without_receipt=len(labels) - len(present), without_words=len(present) - len(read))
    return read


def _digest(receipt: Receipt, labels: Sequence[ReceiptWordLabel], over_lines: frozenset[str]) -> str:
    """A digest of everything that determines the page."""
    rows = sorted(
        (label.line_id, label.word_id, label.label, label.validation_status.value, str(label.begins))
        for label in labels
    )
    content = json.dumps([RULES, sorted(over_lines), receipt.model_dump_json(), rows])
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

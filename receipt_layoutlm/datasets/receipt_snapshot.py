"""A table's labelled receipts as pages: read side by side, and only those that changed since the last snapshot.

All labels that are not INVALID are read each time, since they say which receipts there are and which changed. The
words of a receipt are read again when its labels or its Receipt item differ from what the last snapshot saw.
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
RULES: Final = 2  # raised when equal items would become other pages or marks than before, so that they are read again
_AT_ONCE: Final = 50  # images that one thread looks up together
_READ_STATUSES: Final = tuple(status for status in ValidationStatus if status is not ValidationStatus.INVALID)


class Mark(BaseModel):
    """What a snapshot knew of one receipt: a digest of its labels and its Receipt item, and what was to be said."""

    model_config = ConfigDict(frozen=True)

    page_id: str
    digest: str
    notes: Notes
    confidence: float | None = None  # of the OCR, 0..1, the mean of words with a VALID label; None: nobody knows


class Seen(NamedTuple):
    """A receipt of an earlier snapshot."""

    page: Page
    mark: Mark


class SnapshotReport(BaseModel):
    """What was read and what somebody should know of it."""

    model_config = ConfigDict(frozen=True)

    receipts: int  # with a VALID label and with words: the pages, but for forgotten ones
    read: int  # of these, whose words were read
    reused: int  # of these, as the last snapshot had them
    labels: dict[str, int]  # by status, INVALID ones left out
    not_validated: int  # receipts with labels, none of them VALID
    without_receipt: int  # receipts whose labels are there and whose Receipt item is not
    without_words: int
    forgotten: int = 0  # of `receipts`, left out of the snapshot
    notes: Notes
    read_units: float
    requests: int
    seconds: float


@dataclass(frozen=True)
class Taken:
    """Pages by page id, their marks in the same order, and the report."""

    pages: list[Page]
    marks: list[Mark]
    report: SnapshotReport


@dataclass(frozen=True)
class SnapshotProgress:
    """How far a snapshot is: receipts done, and shares of the labels done."""

    receipts: int
    parts_done: int
    parts: int


@dataclass
class _Tally:
    """What the threads count together."""

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


def take_snapshot(
    receipts: ReceiptClient,
    seen: Mapping[str, Seen],
    on_progress: Callable[[SnapshotProgress], None],
    threads: int = THREADS,
    forgotten: Container[str] = frozenset(),
    over_lines: frozenset[str] = CONTINUES_OVER_LINES,
) -> Taken:
    """Read every receipt with a VALID label; those of `seen` that did not change are taken from there.

    Pages whose ids are in `forgotten` are left out. What `on_progress` raises ends the reading.
    """
    began, parts = time.monotonic(), label_ranges()
    tally = _Tally(on_progress, len(parts))
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda part: _read_part(receipts, part, seen, over_lines, tally), parts)
        taken = sorted(itertools.chain.from_iterable(found), key=lambda each: each.page.page_id)
    _check_ids(taken)
    kept = [each for each in taken if each.page.page_id not in forgotten]
    report = SnapshotReport(
        receipts=len(taken),
        read=len(taken) - tally.reused,
        reused=tally.reused,
        labels=dict(sorted(tally.labels.items())),
        not_validated=tally.not_validated,
        without_receipt=tally.without_receipt,
        without_words=tally.without_words,
        forgotten=len(taken) - len(kept),
        notes=_sum(each.mark.notes for each in kept),
        read_units=receipts.units.read,
        requests=receipts.units.requests,
        seconds=time.monotonic() - began,
    )
    return Taken([each.page for each in kept], [each.mark for each in kept], report)


def _read_part(
    receipts: ReceiptClient, part: LabelRange, seen: Mapping[str, Seen], over_lines: frozenset[str], tally: _Tally
) -> list[Seen]:
    found: list[Seen] = []
    images = _images(receipts, part, tally)
    while some := dict(itertools.islice(images, _AT_ONCE)):
        unchanged = _unchanged(receipts, some, seen, over_lines)
        done = list(unchanged.values())
        for image_id, labels in some.items():
            wanted = {number: rows for number, rows in labels.items() if (image_id, number) not in unchanged}
            if wanted:
                done += _read_image(receipts, image_id, wanted, over_lines, tally)
        found += done
        tally.add(receipts=len(done), reused=len(unchanged))
    tally.add(parts_done=1)
    return found


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


def _unchanged(
    receipts: ReceiptClient,
    images: Mapping[str, LabelsOfImage],
    seen: Mapping[str, Seen],
    over_lines: frozenset[str],
) -> dict[tuple[str, int], Seen]:
    """What an earlier snapshot has of these receipts, by (image_id, receipt_id), where it still holds."""
    if not seen:
        return {}
    keys = [(image_id, number) for image_id, labels in images.items() for number in labels]
    unchanged: dict[tuple[str, int], Seen] = {}
    for receipt in receipts.get_receipts(keys):
        known = seen.get(page_id_of(receipt))
        labels = images[receipt.image_id][receipt.receipt_id]
        if known is not None and known.mark.digest == _digest(receipt, labels, over_lines):
            unchanged[receipt.image_id, receipt.receipt_id] = known
    return unchanged


def _read_image(
    receipts: ReceiptClient, image_id: str, labels: LabelsOfImage, over_lines: frozenset[str], tally: _Tally
) -> list[Seen]:
    rows = receipts.get_image(image_id)
    words: dict[int, list[ReceiptWord]] = {}
    for word in rows.words:
        words.setdefault(word.receipt_id, []).append(word)
    there = {receipt.receipt_id: receipt for receipt in rows.receipts}
    pages = [
        _page(StoredReceipt(there[number], tuple(words.get(number, ())), tuple(of_receipt)), over_lines)
        for number, of_receipt in labels.items()
        if number in there
    ]
    made = [each for each in pages if each is not None]
    tally.add(without_receipt=len(labels) - len(pages), without_words=len(pages) - len(made))
    return made


def _page(stored: StoredReceipt, over_lines: frozenset[str]) -> Seen | None:
    page, notes = page_from_receipt(stored, over_lines)
    if page is None:
        return None
    digest, confidence = _digest(stored.receipt, stored.labels, over_lines), _confidence(stored)
    return Seen(page, Mark(page_id=page.page_id, digest=digest, notes=notes, confidence=confidence))


def _confidence(stored: StoredReceipt) -> float | None:
    valid = {(label.line_id, label.word_id) for label in stored.labels if _has_valid([label])}
    words = (word for word in stored.words if (word.line_id, word.word_id) in valid)
    known = [word.confidence for word in words if word.confidence is not None]
    return round(sum(known) / len(known), 6) if known else None


def _digest(receipt: Receipt, labels: Sequence[ReceiptWordLabel], over_lines: frozenset[str]) -> str:
    """Changes with whatever of them, and of the rule, decides the page."""
    rows = sorted(
        (label.line_id, label.word_id, label.label, label.validation_status.value, str(label.begins))
        for label in labels
    )
    content = json.dumps([RULES, sorted(over_lines), receipt.model_dump_json(), rows])
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def _check_ids(taken: Sequence[Seen]) -> None:
    for before, each in itertools.pairwise(taken):
        if before.page.page_id == each.page.page_id:
            raise DataError(f"two receipts of the table say that they are the page {each.page.page_id!r}: delete one")


def _sum(notes: Iterable[Notes]) -> Notes:
    """As adding them one by one, but not in quadratic time."""
    rows = list(notes)
    while len(rows) > 1:
        rows = [left + right for left, right in itertools.zip_longest(rows[::2], rows[1::2], fillvalue=Notes())]
    return rows[0] if rows else Notes()

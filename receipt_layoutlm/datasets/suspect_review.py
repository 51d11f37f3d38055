"""Suspect labels -> the table: a person shall look at them. A label that changed since the snapshot stays as it is."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from receipt_dynamo import ReceiptClient, ReceiptWordLabel, StateConflict, ValidationStatus
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.receipt_pages import (
    StoredReceipt,
    canonical,
    image_id_of,
    page_id_of,
    receipt_of_page_id,
    words_of_page,
)
from receipt_layoutlm.datasets.suspects import Suspect, SuspectWord
from receipt_layoutlm.errors import UserError


class NotInTable(UserError):
    """None of the pages is a receipt of the table."""


class Unmarked(BaseModel):
    """A word whose label was left as it is, and why."""

    model_config = ConfigDict(frozen=True)

    page_id: str
    index: int
    text: str
    label: str
    reason: str


@dataclass(frozen=True)
class Marks:
    """Labels of the table that stand for suspect words, and words for which there is none."""

    labels: list[tuple[str, SuspectWord, ReceiptWordLabel]]  # with the page id
    unmarked: list[Unmarked]


def find_labels(
    receipts: ReceiptClient, pages: Mapping[str, Page], suspects: Iterable[Suspect], on_page: Callable[[], None]
) -> Marks:
    """Look up the VALID labels of suspect words; `on_page` is called after each page. Writes nothing.

    Raises NotInTable when the table has none of the pages.
    """
    by_page: dict[str, list[Suspect]] = {}
    for suspect in suspects:
        by_page.setdefault(suspect.page_id, []).append(suspect)
    marks = Marks([], [])
    strangers = 0
    for page_id, of_page in by_page.items():
        stored = _stored(receipts, page_id)
        strangers += stored is None
        _add(marks, pages[page_id], of_page, stored)
        on_page()
    if by_page and strangers == len(by_page):
        raise NotInTable(
            f"none of the {strangers} pages is a receipt of table {receipts.table_name!r}, so no label can be marked: "
            "correct the files, or 'layoutlm-cli dataset load FILE' them and mark then"
        )
    return marks


def _stored(receipts: ReceiptClient, page_id: str) -> StoredReceipt | None:
    """A receipt with its words and all of its labels as they are now."""
    keys = [(image_id_of(page_id), 1), *receipt_of_page_id(page_id)]
    found = [receipt for receipt in receipts.get_receipts(keys) if page_id_of(receipt) == page_id]
    if not found:
        return None
    receipt = found[0]
    words = (word for word in receipts.get_image(receipt.image_id).words if word.receipt_id == receipt.receipt_id)
    labels = (each for each in receipts.list_labels(receipt.image_id) if each.receipt_id == receipt.receipt_id)
    return StoredReceipt(receipt, tuple(words), tuple(labels))


def _add(marks: Marks, page: Page, suspects: Sequence[Suspect], stored: StoredReceipt | None) -> None:
    words = [] if stored is None else words_of_page(stored)
    is_same = [(word.text, box) for word, box in words] == list(zip(page.words, page.boxes, strict=True))
    reason = "the table has no receipt of this page" if stored is None else "its receipt has other words by now"
    for suspect, word in _words(suspects):
        if stored is None or not is_same:
            marks.unmarked.append(_unmarked(suspect, word, reason))
            continue
        place = words[word.index][0]
        labels = [
            label
            for label in stored.labels
            if (label.line_id, label.word_id) == (place.line_id, place.word_id)
            and canonical(label.label) == suspect.label
        ]
        valid = [label for label in labels if label.validation_status is ValidationStatus.VALID]
        marks.labels.extend((page.page_id, word, label) for label in valid)
        if not valid:
            marks.unmarked.append(_unmarked(suspect, word, _why_not(labels)))


def _words(suspects: Iterable[Suspect]) -> Iterator[tuple[Suspect, SuspectWord]]:
    return ((suspect, word) for suspect in suspects for word in suspect.words)


def _why_not(labels: Sequence[ReceiptWordLabel]) -> str:
    return f"it is {labels[0].validation_status} now" if labels else "it is gone"


def _unmarked(suspect: Suspect, word: SuspectWord, reason: str) -> Unmarked:
    return Unmarked(page_id=suspect.page_id, index=word.index, text=word.text, label=suspect.label, reason=reason)


def write_marks(
    receipts: ReceiptClient, marks: Marks, status: ValidationStatus, on_label: Callable[[], None]
) -> list[Unmarked]:
    """Give each label the status if it is still VALID; returns all words that were left as they are."""
    unmarked = list(marks.unmarked)
    for page_id, word, label in marks.labels:
        try:
            receipts.change_status(label, status)
        except StateConflict as changed:
            unmarked.append(
                Unmarked(page_id=page_id, index=word.index, text=word.text, label=label.label, reason=str(changed))
            )
        on_label()
    return unmarked

"""Marks suspect labels in the table for review; labels that changed since the snapshot are not touched."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from receipt_dynamo import ReceiptClient, ReceiptWordLabel, StateConflict, ValidationStatus
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.datasets.receipt_pages import (
    canonical,
    stored_receipt,
    words_of_page,
)
from receipt_layoutlm.datasets.suspects import Suspect, SuspectWord
from receipt_layoutlm.errors import UserError


class NotInTable(UserError):
    """None of the pages is a receipt of the table."""


class Unmarked(BaseModel):
    """A word whose label was not marked, and the reason."""

    model_config = ConfigDict(frozen=True)

    page_id: str
    index: int
    text: str
    label: str
    reason: str


@dataclass(frozen=True)
class Marks:
    """The labels of suspect words in the table, and the words without one."""

    labels: list[tuple[str, SuspectWord, ReceiptWordLabel]]  # with the page id
    unmarked: list[Unmarked]


def find_labels(
    receipts: ReceiptClient, pages: Mapping[str, Page], suspects: Iterable[Suspect], on_page: Callable[[], None]
) -> Marks:
    """The VALID labels of suspect words in the table; `on_page` is called after each page.

    Raises NotInTable if the table has none of the pages.
    """
    by_page: dict[str, list[Suspect]] = {}
    for suspect in suspects:
        by_page.setdefault(suspect.page_id, []).append(suspect)
    marks = Marks([], [])
    unknown_pages = 0
    for page_id, of_page in by_page.items():
        page, stored = pages[page_id], stored_receipt(receipts, page_id)
        unknown_pages += stored is None
        words = [] if stored is None else words_of_page(stored)
        is_same = [(word.text, box) for word, box in words] == list(zip(page.words, page.boxes, strict=True))
        reason = "the table has no receipt of this page" if stored is None else "its receipt has other words now"
        for suspect, word in ((of, word) for of in of_page for word in of.words):
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
            marks.labels.extend((page_id, word, label) for label in valid)
            if not valid:
                now = f"its label is {labels[0].validation_status} now" if labels else "its label was deleted"
                marks.unmarked.append(_unmarked(suspect, word, now))
        on_page()
    if by_page and unknown_pages == len(by_page):
        raise NotInTable(
            f"none of the {unknown_pages} pages is a receipt of table {receipts.table_name!r}: "
            "correct the files, or load them before --mark: `layoutlm-cli dataset load --help` shows how"
        )
    return marks


def _unmarked(suspect: Suspect, word: SuspectWord, reason: str) -> Unmarked:
    return Unmarked(page_id=suspect.page_id, index=word.index, text=word.text, label=suspect.label, reason=reason)


def write_marks(
    receipts: ReceiptClient, marks: Marks, status: ValidationStatus, on_label: Callable[[], None]
) -> list[Unmarked]:
    """Sets the status of each label that is still VALID; returns all words that were not marked."""
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

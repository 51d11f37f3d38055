"""Converts stored receipts to pages and pages to receipts.

A word may have several labels. A VALID label is used; two different VALID labels conflict, so the word is unlabelled
and reported; a label that needs review makes its word unlabelled; INVALID labels are ignored.
"""

import re
import uuid
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import zip_longest
from typing import Final

from pydantic import BaseModel, ConfigDict

from receipt_dynamo import Receipt, ReceiptClient, ReceiptWord, ReceiptWordLabel, ValidationStatus
from receipt_layoutlm.data.jsonl import normalised_name
from receipt_layoutlm.data.labels import ALIASES, OUTSIDE
from receipt_layoutlm.data.page import DEFAULT_ORDER, PAGE_EXTENT, UNSUPERVISED, Box, DataError, Page
from receipt_layoutlm.data.reading_order import printed_lines

CONTINUES_OVER_LINES: Final = frozenset({"ADDRESS_LINE", "MERCHANT_NAME"})
"""Labels whose entities continue over a line break: an address on three lines is one, two line totals are two.

A snapshot may add labels to these.
"""

_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_IMAGES: Final = uuid.UUID("0b6d5a43-6f0a-5b2e-9d55-3c1f8f3a7e21")  # namespace of the image ids made from page ids
_LOADED_BY: Final = "dataset load"
_BOX_SLACK: Final = 0.005  # of the page, by which word boxes of a scan may extend over its edge


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """A receipt with its words and their labels, as records of the table."""

    receipt: Receipt
    words: tuple[ReceiptWord, ...]
    labels: tuple[ReceiptWordLabel, ...]


class Notes(BaseModel):
    """Irregularities in receipts that became pages. They can be added."""

    model_config = ConfigDict(frozen=True)

    aliases: dict[str, int] = {}  # labels stored under another name, by that name
    conflicts: tuple[str, ...] = ()  # descriptions of words with two VALID labels
    undecided_words: int = 0  # unlabelled
    unusable_labels: int = 0  # with names that are not valid in a tag
    labels_without_word: int = 0
    blank_words: int = 0
    moved_boxes: int = 0  # extended over the edge of the page by more than the slack

    def __add__(self, other: "Notes") -> "Notes":
        counts = {
            name: getattr(self, name) + getattr(other, name)
            for name in Notes.model_fields
            if name not in ("aliases", "conflicts")
        }
        aliases = Counter(self.aliases) + Counter(other.aliases)
        return Notes(aliases=dict(sorted(aliases.items())), conflicts=self.conflicts + other.conflicts, **counts)

    @staticmethod
    def sum(notes: Iterable["Notes"]) -> "Notes":
        """The sum of all notes, pairwise, since adding one by one takes quadratic time."""
        rows = list(notes)
        while len(rows) > 1:
            rows = [left + right for left, right in zip_longest(rows[::2], rows[1::2], fillvalue=Notes())]
        return rows[0] if rows else Notes()


def page_id_of(receipt: Receipt) -> str:
    """The id of the page that was loaded, else one made from the receipt's key."""
    return receipt.page_id or f"{receipt.image_id}-{receipt.receipt_id:05d}"


def find_receipt(receipts: ReceiptClient, page_id: str) -> Receipt | None:
    """The receipt of a page, loaded from that page or with a key that gives its id; None if there is none."""
    keys = [(image_id_of(page_id), 1)]
    image_id, _, number = page_id.rpartition("-")
    if image_id and "#" not in image_id and re.fullmatch("[0-9]{5}", number):
        keys.append((image_id, int(number)))
    return next((receipt for receipt in receipts.get_receipts(keys) if page_id_of(receipt) == page_id), None)


def stored_receipt(receipts: ReceiptClient, page_id: str) -> StoredReceipt | None:
    """The current receipt of a page with its words and all labels; None if there is none."""
    receipt = find_receipt(receipts, page_id)
    if receipt is None:
        return None
    words = (word for word in receipts.get_image(receipt.image_id).words if word.receipt_id == receipt.receipt_id)
    labels = (label for label in receipts.list_labels(receipt.image_id) if label.receipt_id == receipt.receipt_id)
    return StoredReceipt(receipt, tuple(words), tuple(labels))


def page_of_receipt(receipts: ReceiptClient, page_id: str) -> Page:
    """The page of a stored receipt. Raises DataError when there is none, or it has no words."""
    stored = stored_receipt(receipts, page_id)
    page = None if stored is None else page_from_receipt(stored)[0]
    if page is None:
        raise DataError(f"table {receipts.table_name!r} has no receipt {page_id!r} with words")
    return page


def page_from_receipt(
    stored: StoredReceipt, over_lines: Container[str] = CONTINUES_OVER_LINES
) -> tuple[Page | None, Notes]:
    """The page of a receipt, None if it has no words.

    A receipt that was loaded from a page keeps that page's order and entities. The words of others are in reading
    order, and an entity continues over a line break if its label is in `over_lines`.
    """
    words = _words_by_number(stored)
    notes = _notes(stored, words)
    if not words:
        return None, notes
    boxes = [_box(word) for word in words]
    lines = printed_lines(boxes, [word.text for word in words])
    order = _order(stored.receipt, lines)
    line_of = {word: number for number, line in enumerate(lines) for word in line}
    labels = _by_word(stored.labels)
    tags = _tags(
        [labels.get(_number(words[word]), []) for word in order], [line_of[word] for word in order], over_lines
    )
    texts = tuple(words[word].text for word in order)
    page = Page(
        page_id=page_id_of(stored.receipt),
        group=_group(stored.receipt, texts, tags),
        words=texts,
        boxes=tuple(boxes[word] for word in order),
        tags=tags,
        width=stored.receipt.width,
        height=stored.receipt.height,
        image=stored.receipt.sha256,
        order="given" if stored.receipt.order == "given" else DEFAULT_ORDER,
    )
    return page, notes.model_copy(update={"undecided_words": tags.count(UNSUPERVISED)})


def words_of_page(stored: StoredReceipt) -> list[tuple[ReceiptWord, Box]]:
    """The words of a receipt's page with their boxes, in the order of the page."""
    words = _words_by_number(stored)
    boxes = [_box(word) for word in words]
    return [
        (words[word], boxes[word])
        for word in _order(stored.receipt, printed_lines(boxes, [word.text for word in words]))
    ]


def _words_by_number(stored: StoredReceipt) -> list[ReceiptWord]:
    return sorted((word for word in stored.words if word.text.strip()), key=_number)


def _order(receipt: Receipt, lines: Sequence[Sequence[int]]) -> list[int]:
    """Indices of the words in the order of the page: as numbered if it was loaded, else in reading order."""
    order = [word for line in lines for word in line]
    return sorted(order) if receipt.page_id else order


def _number(of: ReceiptWord | ReceiptWordLabel) -> tuple[int, int]:
    return of.line_id, of.word_id


def _by_word(labels: Iterable[ReceiptWordLabel]) -> dict[tuple[int, int], list[ReceiptWordLabel]]:
    by_word: dict[tuple[int, int], list[ReceiptWordLabel]] = defaultdict(list)
    for label in labels:
        by_word[_number(label)].append(label)
    return by_word


def canonical(label: str) -> str:
    """The name of a stored label in pages."""
    return ALIASES.get(label, label)


def is_placeholder(label: ReceiptWordLabel) -> bool:
    """Whether it is the O of an unlabelled word of a loaded page, which nobody has reviewed yet."""
    is_loaded = label.label == OUTSIDE and label.label_proposed_by == _LOADED_BY
    return is_loaded and label.validation_status.is_unreviewed


def _tags(
    labels_of_words: Iterable[Sequence[ReceiptWordLabel]], lines: Sequence[int], over_lines: Container[str]
) -> tuple[str, ...]:
    """IOB2 tags of the words in order, from the labels of each; `lines` has the printed line of each."""
    tags: list[str] = []
    previous, previous_line = OUTSIDE, -1
    for labels, line in zip(labels_of_words, lines, strict=True):
        valid = [label for label in labels if label.validation_status is ValidationStatus.VALID]
        names = {canonical(label.label) for label in valid}
        if not names:
            name = UNSUPERVISED if any(label.validation_status.is_unreviewed for label in labels) else OUTSIDE
        elif len(names) > 1:
            name = UNSUPERVISED
        else:
            (name,) = names
            name = name if _LABEL.fullmatch(name) else UNSUPERVISED
        if name in (OUTSIDE, UNSUPERVISED):
            tags.append(name)
        else:
            may_continue = line == previous_line or name in over_lines
            continues = may_continue if valid[0].begins is None else not valid[0].begins
            tags.append(f"{'I' if continues and name == previous else 'B'}-{name}")
        previous, previous_line = name, line
    return tuple(tags)


def _group(receipt: Receipt, words: Sequence[str], tags: Sequence[str]) -> str:
    """The group as loaded, else the merchant's name, else the first printed name, else the page id."""
    if receipt.group:
        return receipt.group
    if name := normalised_name(receipt.merchant_name or ""):
        return name
    if "B-MERCHANT_NAME" not in tags:
        return page_id_of(receipt)
    start = tags.index("B-MERCHANT_NAME")
    end = next((end for end in range(start + 1, len(tags)) if tags[end] != "I-MERCHANT_NAME"), len(tags))
    return normalised_name(" ".join(words[start:end])) or page_id_of(receipt)


def _box(word: ReceiptWord) -> Box:
    """Thousandths from the top left, of shares from the bottom left; what reaches over the edge is cut there."""
    x0, x1 = sorted((word.x, word.x + word.width))
    low, high = sorted((word.y, word.y + word.height))
    return _thousandth(x0), PAGE_EXTENT - _thousandth(high), _thousandth(x1), PAGE_EXTENT - _thousandth(low)


def _thousandth(share: float) -> int:
    return min(max(round(share * PAGE_EXTENT), 0), PAGE_EXTENT)


def _notes(stored: StoredReceipt, words: Sequence[ReceiptWord]) -> Notes:
    """The irregularities of a receipt; `words` are those with a text."""
    numbers = {_number(word) for word in stored.words}
    valid = [label for label in stored.labels if label.validation_status is ValidationStatus.VALID]
    conflicts: list[str] = []
    for (line_id, word_id), labels in _by_word(valid).items():
        names = {canonical(label.label) for label in labels}
        if len(names) > 1:
            place = f"page {page_id_of(stored.receipt)}, line {line_id}, word {word_id}"
            conflicts.append(f"{place}: {' and '.join(sorted(names))} are both VALID")
    edges_of_words = [(word.x, word.x + word.width, word.y, word.y + word.height) for word in words]
    return Notes(
        aliases=dict(Counter(label.label for label in valid if label.label in ALIASES)),
        conflicts=tuple(conflicts),
        unusable_labels=sum(not _LABEL.fullmatch(label.label) for label in valid),
        labels_without_word=sum(_number(label) not in numbers for label in stored.labels),
        blank_words=len(stored.words) - len(words),
        moved_boxes=sum(not all(-_BOX_SLACK <= edge <= 1 + _BOX_SLACK for edge in edges) for edges in edges_of_words),
    )


def image_id_of(page_id: str) -> str:
    """The image id of a page, always the same for the same page id."""
    return str(uuid.uuid5(_IMAGES, page_id))


def receipt_from_page(page: Page, now: datetime) -> StoredReceipt:
    """The records from which page_from_receipt makes the same page.

    An unlabelled word gets a label O that needs review, and a page without entities a valid O on one word, because
    receipts are found by their labels.
    """
    image_id = image_id_of(page.page_id)
    receipt = Receipt(
        image_id=image_id,
        receipt_id=1,
        width=page.width,
        height=page.height,
        timestamp_added=now,
        page_id=page.page_id,
        group=page.group,
        sha256=page.image,
        order=None if page.order == DEFAULT_ORDER else page.order,
    )
    words: list[ReceiptWord] = []
    line_of = {word: number for number, line in enumerate(printed_lines(page.boxes, page.words)) for word in line}
    line_id, word_id = 1, 0  # numbers from 1 in the order of the words; adjacent words of a printed line share a line
    for index, (text, (x0, y0, x1, y1)) in enumerate(zip(page.words, page.boxes, strict=True)):
        is_new_line = index > 0 and line_of[index] != line_of[index - 1]
        line_id, word_id = (line_id + 1, 1) if is_new_line else (line_id, word_id + 1)
        word = ReceiptWord(
            image_id=image_id,
            receipt_id=1,
            line_id=line_id,
            word_id=word_id,
            text=text,
            x=x0 / PAGE_EXTENT,
            y=(PAGE_EXTENT - y1) / PAGE_EXTENT,
            width=(x1 - x0) / PAGE_EXTENT,
            height=(y1 - y0) / PAGE_EXTENT,
        )
        words.append(word)
    labels = [_label(word, tag, now) for word, tag in zip(words, page.tags, strict=True) if tag != OUTSIDE]
    if OUTSIDE in page.tags and not any(tag[0] == "B" for tag in page.tags):
        labels.append(_label(words[page.tags.index(OUTSIDE)], OUTSIDE, now))
    return StoredReceipt(receipt, tuple(words), tuple(labels))


def _label(word: ReceiptWord, tag: str, now: datetime) -> ReceiptWordLabel:
    is_entity = tag not in (OUTSIDE, UNSUPERVISED)
    return ReceiptWordLabel(
        image_id=word.image_id,
        receipt_id=word.receipt_id,
        line_id=word.line_id,
        word_id=word.word_id,
        label=tag[2:] if is_entity else OUTSIDE,
        validation_status=ValidationStatus.NEEDS_REVIEW if tag == UNSUPERVISED else ValidationStatus.VALID,
        begins=tag[0] == "B" if is_entity else None,
        timestamp_added=now,
        label_proposed_by=_LOADED_BY,
    )

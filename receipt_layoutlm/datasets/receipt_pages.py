"""Stored receipts -> pages and pages -> receipts: which label counts, where an entity goes on. Pure functions.

One word may have several labels. VALID wins; two different VALID ones contradict each other, so the word is left
undecided and reported; a label that is not checked yet leaves its word undecided too; INVALID says nothing.
"""

import re
import uuid
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict

from receipt_dynamo import Receipt, ReceiptWord, ReceiptWordLabel, ValidationStatus
from receipt_layoutlm.data.jsonl import normalised_name
from receipt_layoutlm.data.labels import ALIASES, OUTSIDE
from receipt_layoutlm.data.page import PAGE_EXTENT, UNSUPERVISED, Box, Page
from receipt_layoutlm.data.reading_order import printed_lines

CONTINUES_OVER_LINES: Final = frozenset({"ADDRESS_LINE", "MERCHANT_NAME"})
"""Labels whose entities go on over a line break: an address over three lines is one, two line totals are two.

A snapshot may be taken with more of them.
"""

_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_IMAGES: Final = uuid.UUID("0b6d5a43-6f0a-5b2e-9d55-3c1f8f3a7e21")  # namespace of the image ids made from page ids
_BOX_SLACK: Final = 0.005  # of the page; word boxes of a scan reach over its edge by this much without being wrong


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """A receipt with its words and their labels, as records of the store."""

    receipt: Receipt
    words: tuple[ReceiptWord, ...]
    labels: tuple[ReceiptWordLabel, ...]


class Notes(BaseModel):
    """What somebody should know of receipts that became pages. They add up."""

    model_config = ConfigDict(frozen=True)

    aliases: dict[str, int] = {}  # labels that were stored under another name, by that name
    conflicts: tuple[str, ...] = ()  # words with two VALID labels, in words
    undecided_words: int = 0
    unusable_labels: int = 0  # their names cannot be a tag
    labels_without_word: int = 0
    blank_words: int = 0
    moved_boxes: int = 0  # reached over the edge of the page by more than the usual

    def __add__(self, other: "Notes") -> "Notes":
        counts = {
            name: getattr(self, name) + getattr(other, name)
            for name in Notes.model_fields
            if name not in ("aliases", "conflicts")
        }
        aliases = Counter(self.aliases) + Counter(other.aliases)
        return Notes(aliases=dict(sorted(aliases.items())), conflicts=self.conflicts + other.conflicts, **counts)


@dataclass(frozen=True, slots=True)
class _Decision:
    """What a word's labels say: a label, O, or UNSUPERVISED; and whether it begins an entity, if somebody said."""

    label: str
    begins: bool | None = None


_OUTSIDE, _UNDECIDED = _Decision(OUTSIDE), _Decision(UNSUPERVISED)


def page_id_of(receipt: Receipt) -> str:
    """The id of the page that was loaded, else one made of the receipt's key."""
    return receipt.page_id or f"{receipt.image_id}-{receipt.receipt_id:05d}"


def receipt_of_page_id(page_id: str) -> list[tuple[str, int]]:
    """(image_id, receipt_id) of the receipt that has this page id by its key; empty when none can have it."""
    image_id, _, number = page_id.rpartition("-")
    if image_id and "#" not in image_id and re.fullmatch("[0-9]{5}", number):
        return [(image_id, int(number))]
    return []


def page_from_receipt(
    stored: StoredReceipt, over_lines: Container[str] = CONTINUES_OVER_LINES
) -> tuple[Page | None, Notes]:
    """The page of a receipt; None when it has no words.

    Words of a receipt that was loaded from a page keep that page's order and its entities; others come in reading
    order, and an entity goes on over a line break if its label is in `over_lines`.
    """
    words = _words_by_number(stored)
    notes = _notes(stored, words)
    if not words:
        return None, notes
    boxes = [_box(word) for word in words]
    lines = printed_lines(boxes)
    order = _order(stored.receipt, lines)
    line_of = {word: number for number, line in enumerate(lines) for word in line}
    labels = _by_word(stored.labels)
    decisions = [_decide(labels.get(_number(words[word]), ())) for word in order]
    tags = _tags(decisions, [line_of[word] for word in order], over_lines)
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
    )
    return page, notes.model_copy(update={"undecided_words": tags.count(UNSUPERVISED)})


def words_of_page(stored: StoredReceipt) -> list[tuple[ReceiptWord, Box]]:
    """The words that make the page of a receipt, in the order of the page, with their boxes there."""
    words = _words_by_number(stored)
    boxes = [_box(word) for word in words]
    return [(words[word], boxes[word]) for word in _order(stored.receipt, printed_lines(boxes))]


def _words_by_number(stored: StoredReceipt) -> list[ReceiptWord]:
    return sorted((word for word in stored.words if word.text.strip()), key=_number)


def _order(receipt: Receipt, lines: Sequence[Sequence[int]]) -> list[int]:
    """Places of the words as the page has them: as they are numbered where it was loaded, else in reading order."""
    order = [word for line in lines for word in line]
    return sorted(order) if receipt.page_id else order


def _number(of: ReceiptWord | ReceiptWordLabel) -> tuple[int, int]:
    return of.line_id, of.word_id


def _by_word(labels: Iterable[ReceiptWordLabel]) -> dict[tuple[int, int], list[ReceiptWordLabel]]:
    found: dict[tuple[int, int], list[ReceiptWordLabel]] = defaultdict(list)
    for label in labels:
        found[_number(label)].append(label)
    return found


def _decide(labels: Sequence[ReceiptWordLabel]) -> _Decision:
    valid = [label for label in labels if label.validation_status is ValidationStatus.VALID]
    names = {canonical(label.label) for label in valid}
    if not names:
        return _UNDECIDED if any(label.validation_status.is_unreviewed for label in labels) else _OUTSIDE
    if len(names) > 1:
        return _UNDECIDED
    (name,) = names
    if name == OUTSIDE:
        return _OUTSIDE
    return _Decision(name, valid[0].begins) if _LABEL.fullmatch(name) else _UNDECIDED


def canonical(label: str) -> str:
    """The name of a stored label as pages have it."""
    return ALIASES.get(label, label)


def _tags(decisions: Sequence[_Decision], lines: Sequence[int], over_lines: Container[str]) -> tuple[str, ...]:
    """IOB2 tags of words in order; `lines` numbers the printed line of each."""
    tags: list[str] = []
    before, line_before = _OUTSIDE, -1
    for word, line in zip(decisions, lines, strict=True):
        if word.label in (OUTSIDE, UNSUPERVISED):
            tags.append(word.label)
        else:
            goes_on = line == line_before or word.label in over_lines
            continues = goes_on if word.begins is None else not word.begins
            tags.append(f"{'I' if continues and word.label == before.label else 'B'}-{word.label}")
        before, line_before = word, line
    return tuple(tags)


def _group(receipt: Receipt, words: Sequence[str], tags: Sequence[str]) -> str:
    """Whose receipt it is: as it was loaded, the merchant's name, the name that is printed on it, else the page."""
    name = normalised_name(receipt.merchant_name or "") or normalised_name(" ".join(_first_name(words, tags)))
    return receipt.group or name or page_id_of(receipt)


def _first_name(words: Sequence[str], tags: Sequence[str]) -> list[str]:
    if "B-MERCHANT_NAME" not in tags:
        return []
    start = tags.index("B-MERCHANT_NAME")
    end = next((end for end in range(start + 1, len(tags)) if tags[end] != "I-MERCHANT_NAME"), len(tags))
    return list(words[start:end])


def _box(word: ReceiptWord) -> Box:
    """Thousandths from the top left, of shares from the bottom left; what reaches over the edge is cut there."""
    x0, x1 = sorted((word.x, word.x + word.width))
    low, high = sorted((word.y, word.y + word.height))
    return _thousandth(x0), PAGE_EXTENT - _thousandth(high), _thousandth(x1), PAGE_EXTENT - _thousandth(low)


def _thousandth(share: float) -> int:
    return min(max(round(share * PAGE_EXTENT), 0), PAGE_EXTENT)


def _notes(stored: StoredReceipt, words: Sequence[ReceiptWord]) -> Notes:
    numbers = {_number(word) for word in stored.words}
    valid = [label for label in stored.labels if label.validation_status is ValidationStatus.VALID]
    return Notes(
        aliases=dict(Counter(label.label for label in valid if label.label in ALIASES)),
        conflicts=tuple(_conflicts(stored, valid)),
        unusable_labels=sum(not _LABEL.fullmatch(label.label) for label in valid),
        labels_without_word=sum(_number(label) not in numbers for label in stored.labels),
        blank_words=len(stored.words) - len(words),
        moved_boxes=sum(_is_off(word) for word in words),
    )


def _conflicts(stored: StoredReceipt, valid: Sequence[ReceiptWordLabel]) -> Iterable[str]:
    for (line_id, word_id), labels in _by_word(valid).items():
        names = {canonical(label.label) for label in labels}
        if len(names) > 1:
            place = f"page {page_id_of(stored.receipt)}, line {line_id}, word {word_id}"
            yield f"{place}: {' and '.join(sorted(names))} are both VALID"


def _is_off(word: ReceiptWord) -> bool:
    edges = (word.x, word.x + word.width, word.y, word.y + word.height)
    return not all(-_BOX_SLACK <= edge <= 1 + _BOX_SLACK for edge in edges)


def image_id_of(page_id: str) -> str:
    """The image id under which a page is stored: the same page is the same receipt."""
    return str(uuid.uuid5(_IMAGES, page_id))


def receipt_from_page(page: Page, now: datetime) -> StoredReceipt:
    """The records that give this page back.

    An undecided word gets a label O that needs review, and a page without any entity a valid O on a word, because
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
    )
    words = tuple(
        _word(image_id, line_id, word_id, text, box)
        for (line_id, word_id), text, box in zip(_numbers(page.boxes), page.words, page.boxes, strict=True)
    )
    named = (_label(word, tag, now) for word, tag in zip(words, page.tags, strict=True) if tag != OUTSIDE)
    labels = [*named]
    if OUTSIDE in page.tags and not any(tag[0] == "B" for tag in page.tags):
        labels.append(_label(words[page.tags.index(OUTSIDE)], OUTSIDE, now))
    return StoredReceipt(receipt, words, tuple(labels))


def _numbers(boxes: Sequence[Box]) -> list[tuple[int, int]]:
    """Line and word numbers from 1 that sort as the words come; a line is what of a printed line comes in one go."""
    line_of = {word: number for number, line in enumerate(printed_lines(boxes)) for word in line}
    numbers: list[tuple[int, int]] = []
    for word in range(len(boxes)):
        line_id, word_id = numbers[-1] if numbers else (1, 0)
        is_new = word > 0 and line_of[word] != line_of[word - 1]
        numbers.append((line_id + 1, 1) if is_new else (line_id, word_id + 1))
    return numbers


def _word(image_id: str, line_id: int, word_id: int, text: str, box: Box) -> ReceiptWord:
    x0, y0, x1, y1 = box
    return ReceiptWord(
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
        label_proposed_by="dataset load",
    )

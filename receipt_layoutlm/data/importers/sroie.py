"""SROIE: folders box (or bbox), key and img; printed lines with a box each, and four values of the whole receipt.

    box/000.csv   x1,y1,x2,y2,x3,y3,x4,y4,text    a line each, corners clockwise from the top left, pixels of the image
    key/000.json  {"company": ..., "date": ..., "address": ..., "total": ...}    any of them may be missing or blank
    img/000.jpg   only its size is read; without it the page has the extent of the boxes

The first eight commas separate the fields; commas and quotation marks in a text have no meaning. Files may also end in
.txt, as in the competition. Lines are split into words in proportion to their characters. Company and address are
labelled at their first occurrence, a date at every occurrence (an unlabelled one would teach that it is not a date),
the total where find_total finds it. A date without an occurrence is searched once more with the letters that OCR
confuses with digits (O, I, L, Z, S, B) read as digits.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, model_validator

from receipt_layoutlm.data.boxes import BoxOrder, BoxReading, BoxUnit, RawBoxes, read_boxes
from receipt_layoutlm.data.images import image_size
from receipt_layoutlm.data.importers.source_page import (
    SourceFormat,
    SourcePage,
    SourceWord,
    ValueMatch,
    extent,
    in_order,
)
from receipt_layoutlm.data.importers.sroie_folders import ReceiptFolder, beside, receipt_folders, text_files
from receipt_layoutlm.data.importers.value_match import (
    PageText,
    WordSpan,
    find_total,
    misread_digits,
    nearest,
    occurrences,
)
from receipt_layoutlm.data.jsonl import ReadOptions, normalised_name
from receipt_layoutlm.data.lines import FloatBox, bounds, split_line, thousandths
from receipt_layoutlm.data.page import DataError
from receipt_layoutlm.data.source_text import (
    RECORD,
    NullableText,
    TextOptions,
    numbered_lines,
    packed,
    read_source,
    shaped,
)

_LABELS: Mapping[str, str] = {
    "company": "MERCHANT_NAME",
    "date": "DATE",
    "address": "ADDRESS_LINE",
    "total": "GRAND_TOTAL",
}
_CORNERS = 8
_IMAGES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")


@dataclass(frozen=True, slots=True)
class Value:
    """The places of a value, and how it was found."""

    spans: list[WordSpan]
    how: Literal["exact", "approximate", "missing"]


def _between(values: Sequence[float]) -> float:
    """How far values lie between the least and the largest; 0 for the x or the y of a rectangle."""
    return sum(min(value - min(values), max(values) - value) for value in values)


@dataclass(frozen=True, slots=True)
class PrintedLine:
    """A line of a box file: eight numbers and a text."""

    corners: tuple[float, ...]
    text: str

    @property
    def is_by_axis(self) -> bool:
        """Whether the numbers are those of a rectangle if all x come first, and hardly if corners do."""
        by_axis = _between(self.corners[:4]) + _between(self.corners[4:])
        return 2 * by_axis < _between(self.corners[::2]) + _between(self.corners[1::2])

    def raw(self, likely: BoxOrder) -> FloatBox:
        """The box as four numbers in the order that is likely that of the eight."""
        return self._by_axis if likely is BoxOrder.BY_AXIS else bounds(self.corners)

    def box(self, order: BoxOrder) -> FloatBox:
        """The upright box around the corners."""
        are_by_axis = order in (BoxOrder.BY_AXIS, BoxOrder.BY_AXIS_Y_FIRST)
        return order.arrange(self._by_axis if are_by_axis else bounds(self.corners))

    @property
    def _by_axis(self) -> FloatBox:
        first, second = self.corners[:4], self.corners[4:]
        return min(first), max(first), min(second), max(second)


class Key(BaseModel):
    """The values of a whole receipt; names in any case."""

    model_config = RECORD

    company: NullableText = ""
    date: NullableText = ""
    address: NullableText = ""
    total: NullableText = ""

    @model_validator(mode="before")
    @classmethod
    def _in_lower_case(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        fields = {str(name).strip().casefold(): content for name, content in value.items()}
        if not fields.keys() & cls.model_fields.keys():
            raise ValueError(
                f"has none of company, date, address and total, but {', '.join(sorted(fields)) or 'nothing'}"
            )
        return fields

    def find(self, words: Sequence[SourceWord], scale: tuple[float, float]) -> dict[str, Value]:
        """The places of each value that is given."""
        texts = [word.text for word in words]
        page = PageText(texts)
        dates, is_date_exact = occurrences(page, self.date), True
        if not dates:
            without_letters = PageText([misread_digits(text) for text in texts])
            dates, is_date_exact = occurrences(without_letters, misread_digits(self.date)), False
        total = find_total(texts, [thousandths(word.box, scale) for word in words], self.total)
        values = {
            "company": _first(page, texts, self.company),
            "date": _value(dates, "exact" if is_date_exact else "approximate"),
            "address": _first(page, texts, self.address),
            "total": _value([total] if total else [], "exact"),
        }
        given = {name for name, value in self.model_dump().items() if value.strip()}
        return {name: value for name, value in values.items() if name in given}


def read_sroie(paths: Sequence[Path], options: ReadOptions) -> Iterator[SourcePage | DataError]:
    """A page for each file of the box folders, by name."""
    for path in paths:
        folders = receipt_folders(path)
        if not folders:
            if path.is_file():
                read_source(path, options.text)  # an archive or a pointer is named as such
            reason = (
                "is not a SROIE folder: it must contain the folders box, key and img (or entities in place of key, or "
                f"the folders of the competition's tasks 1 and 2){packed(path) if path.is_dir() else ''}"
            )
            yield DataError(reason, file=str(path))
        for folder in folders:
            receipts: dict[Path, Sequence[PrintedLine]] = {}
            for file in text_files(folder.box):
                try:
                    receipts[file] = _printed_lines(file, options.text)
                except DataError as error:
                    yield error
            try:
                reading = _arrangement(folder, receipts, options)
            except DataError as error:
                yield error
                continue
            for file, lines in receipts.items():
                try:
                    yield _page(folder, file, lines, reading, options)
                except DataError as error:
                    yield error


def _arrangement(
    folder: ReceiptFolder, receipts: Mapping[Path, Sequence[PrintedLine]], options: ReadOptions
) -> BoxReading:
    """The arrangement of the boxes of a folder, decided for all files together."""
    asked = replace(options.boxes, unit=BoxUnit.PIXELS)
    if asked.order in (BoxOrder.SIZED, BoxOrder.SIZED_Y_FIRST, BoxOrder.CENTRED):
        raise DataError(
            f"--box-order {asked.order} is of four numbers, and boxes of SROIE have eight", file=str(folder.box)
        )
    lines = [line for of_receipt in receipts.values() for line in of_receipt]
    likely = BoxOrder.BY_AXIS if 2 * sum(line.is_by_axis for line in lines) > len(lines) else BoxOrder.CORNERS
    raw = [
        RawBoxes(None, [line.text for line in of_receipt], [line.raw(likely) for line in of_receipt])
        for of_receipt in receipts.values()
    ]
    return read_boxes(raw, asked, str(folder.box), options.text.note)


def _page(
    folder: ReceiptFolder, path: Path, lines: Sequence[PrintedLine], reading: BoxReading, options: ReadOptions
) -> SourcePage:
    key_file = beside(folder.key, path.stem, (".json", ".txt"))
    if key_file is None:
        raise DataError(f"has no {folder.key.name}/{path.stem}.json: add it, or remove this file", file=str(path))
    key = shaped(Key, read_source(key_file, options.text), key_file)
    image = next((found for images in folder.images if (found := beside(images, path.stem, _IMAGES))), None)
    size = image_size(image) if image else None
    boxes = [line.box(reading.order) for line in lines]
    width, height = size or extent(boxes)
    unlabelled = [
        SourceWord(word, part)
        for line, box in zip(lines, boxes, strict=True)
        for word, part in split_line(line.text, reading.from_top(box, height))
    ]
    words = list(in_order(unlabelled, (width, height), options.order))
    values = key.find(words, (width, height))
    # of overlapping values the first in the order of the table labels a word
    spans = [(name, span) for name in _LABELS if name in values for span in values[name].spans]
    for entity, (name, span) in enumerate(spans):
        for index in range(span.begin, span.end):
            if not words[index].label:
                words[index] = SourceWord(words[index].text, words[index].box, name, entity)
    return SourcePage(
        file=str(path),
        line=None,
        page_id=path.stem,
        group=normalised_name(key.company) or path.stem,
        words=tuple(words),
        scale=(width, height),
        width=width,
        height=height,
        blank=sum(not line.text.strip() for line in lines),
        is_size_guessed=size is None,
        order=options.order,
        matches=tuple(ValueMatch(name, value.how) for name, value in values.items()),
    )


def _printed_lines(path: Path, options: TextOptions) -> list[PrintedLine]:
    lines: list[PrintedLine] = []
    for number, line in numbered_lines(path, options):
        *corners, text = [*line.split(",", _CORNERS), ""][: _CORNERS + 1]
        try:
            numbers = [float(corner) for corner in corners]
        except ValueError:
            numbers = []
        if len(numbers) < _CORNERS or not all(map(isfinite, numbers)):
            reason = "is not x1,y1,x2,y2,x3,y3,x4,y4,text with eight numbers"
            raise DataError(reason, file=str(path), line=number)
        lines.append(PrintedLine(tuple(numbers), text))
    for is_sign, reason in _SIBLINGS:
        if len(lines) > 1 and all(is_sign(line.text) for line in lines):
            raise DataError(reason, file=str(path))
    return lines


_SIBLINGS = (
    (
        re.compile(r"-?[\d.]+,").match,
        "has nine numbers in every line: remove the index before the eight coordinates (PICK), or the confidence after",
    ),
    (
        re.compile(r".*,\s*(other|company|date|address|total|[A-Z][A-Z_]+_(key|value))$", re.IGNORECASE).match,
        "has a label after the text in every line, which box files of SROIE have not: remove the last column",
    ),
    (
        re.compile(r".*,\s*[01]?\.\d+$").match,
        "has a confidence after the text in every line, which box files of SROIE have not: remove the last column",
    ),
    (
        re.compile(r"(Latin|Arabic|Bangla|Chinese|Hindi|Japanese|Korean|Mixed|None|Symbols),").match,
        "has a script before the text in every line, as text detection of ICDAR MLT: remove the ninth column",
    ),
)
"""Signs of formats that look like SROIE's box files, in the text of each line."""


def _value(spans: list[WordSpan], how: Literal["exact", "approximate"]) -> Value:
    return Value(spans, how if spans else "missing")


def _first(page: PageText, texts: Sequence[str], value: str) -> Value:
    """The first occurrence with the value's punctuation, else the first without, else the nearest words."""
    places = occurrences(page, value)
    literal = [span for span in places if " ".join(texts[span.begin : span.end]) == value]
    if places:
        return Value((literal or places)[:1], "exact")
    near = nearest(page, value)
    return _value([near] if near else [], "approximate")


FORMAT = SourceFormat(read_sroie, _LABELS, own_labels={})

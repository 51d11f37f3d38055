"""SROIE: folders box (or bbox), key and img; printed lines with a box each, and four values of the whole receipt.

    box/000.csv   x1,y1,x2,y2,x3,y3,x4,y4,text    a line each, corners clockwise from the top left, pixels of the image
    key/000.json  {"company": ..., "date": ..., "address": ..., "total": ...}    any of them may be missing or blank
    img/000.jpg   only its size is read; without it the extent of the boxes is the page's

A text may have commas and quotation marks, which are none of CSV's: the first eight commas part the fields. .txt
stands for .csv and .json as well, as in the competition's own files. Lines are split into words in proportion to
their characters. Company and address are labelled where they stand first, a date at every place where it stands
(one left out would teach that a date is none), the total where total_match.py says. A date that is nowhere is
looked for once more with letters that OCR takes for digits (O, I, L, Z, S, B) read as these.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from pydantic import BaseModel

from receipt_layoutlm.data.images import image_size
from receipt_layoutlm.data.importers.draft import Draft, DraftWord, Found, extent, in_reading_order, thousandths
from receipt_layoutlm.data.importers.source_text import RECORD, numbered_lines, read_source, shaped
from receipt_layoutlm.data.importers.value_match import Span, Text, find_total, misread_digits, nearest, occurrences
from receipt_layoutlm.data.jsonl import normalised
from receipt_layoutlm.data.lines import bounds, split_line
from receipt_layoutlm.data.page import DataError

LABELS: Mapping[str, str] = {
    "company": "MERCHANT_NAME",
    "date": "DATE",
    "address": "ADDRESS_LINE",
    "total": "GRAND_TOTAL",
}
OWN_LABELS: Mapping[str, str] = {}
NO_LABELS: frozenset[str] = frozenset()

_CORNERS = 8
_ENCODINGS = ("utf-8-sig", "cp1252")
"""A few of the competition's files are in the second."""

_IMAGES = (".jpg", ".jpeg", ".png", ".JPG")


class Key(BaseModel):
    """The values of a whole receipt."""

    model_config = RECORD

    company: str = ""
    date: str = ""
    address: str = ""
    total: str = ""


@dataclass(frozen=True, slots=True)
class Value:
    """Where a value was found, and how."""

    spans: list[Span]
    how: str


def drafts(paths: Sequence[Path]) -> Iterator[Draft | DataError]:
    """A page for each file of the box folders, by name."""
    for folder in paths:
        boxes = next((folder / name for name in ("box", "bbox") if (folder / name).is_dir()), None)
        if boxes is None or not (folder / "key").is_dir():
            yield DataError("is not a folder of SROIE: it has to hold the folders box, key and img", file=str(folder))
            continue
        for path in sorted(path for path in boxes.iterdir() if path.suffix in (".csv", ".txt")):
            try:
                yield _draft(folder, path)
            except DataError as error:
                yield error


def _draft(folder: Path, path: Path) -> Draft:
    key_file = _beside(folder / "key", path.stem, (".json", ".txt"))
    if key_file is None:
        raise DataError(f"has no key/{path.stem}.json: add it, or take this file out", file=str(path))
    key = shaped(Key, read_source(key_file, _ENCODINGS), key_file)
    words, blank = _split_lines(path)
    image = _beside(folder / "img", path.stem, _IMAGES)
    size = image_size(image) if image else None
    width, height = size or extent(word.box for word in words)
    ordered = in_reading_order(words, (width, height))
    values = _find(ordered, (width, height), key)
    return Draft(
        file=str(path),
        line=None,
        page_id=path.stem,
        group=normalised(key.company) or path.stem,
        words=_labelled(ordered, values),
        scale=(width, height),
        width=width,
        height=height,
        blank=blank,
        is_size_guessed=size is None,
        found=tuple(Found(name, value.how) for name, value in values.items()),
    )


def _beside(folder: Path, stem: str, suffixes: Sequence[str]) -> Path | None:
    return next((path for suffix in suffixes if (path := folder / f"{stem}{suffix}").is_file()), None)


def _split_lines(path: Path) -> tuple[list[DraftWord], int]:
    """The words of all lines, and how many lines have no text."""
    words: list[DraftWord] = []
    blank = 0
    for number, line in numbered_lines(path, _ENCODINGS):
        *corners, text = [*line.split(",", _CORNERS), ""][: _CORNERS + 1]
        box = bounds(_numbers(corners, path, number))
        split = [DraftWord(word, part) for word, part in split_line(text, box)]
        words.extend(split)
        blank += not split
    return words, blank


def _numbers(texts: Sequence[str], path: Path, line: int) -> list[float]:
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        numbers = []
    if len(numbers) < _CORNERS or not all(map(isfinite, numbers)):
        raise DataError("is not x1,y1,x2,y2,x3,y3,x4,y4,text with eight numbers", file=str(path), line=line)
    return numbers


def _find(words: Sequence[DraftWord], scale: tuple[float, float], key: Key) -> dict[str, Value]:
    """Where each value that is given stands."""
    texts = [word.text for word in words]
    boxes = [thousandths(word.box, scale) for word in words]
    page = Text(texts)
    total = find_total(texts, boxes, key.total)
    found = {
        "company": _first(page, texts, key.company),
        "date": _date(page, texts, key.date),
        "address": _first(page, texts, key.address),
        "total": _value([total] if total else [], "exact"),
    }
    given = {name for name, value in key.model_dump().items() if value.strip()}
    return {name: value for name, value in found.items() if name in given}


def _value(spans: list[Span], how: str) -> Value:
    return Value(spans, how if spans else "missing")


def _first(page: Text, texts: Sequence[str], value: str) -> Value:
    """The first place with the value's own punctuation, else the first that spells it out, else the nearest."""
    places = occurrences(page, value)
    literal = [span for span in places if " ".join(texts[span.begin : span.end]) == value]
    if places:
        return Value((literal or places)[:1], "exact")
    near = nearest(page, value)
    return _value([near] if near else [], "approximate")


def _date(page: Text, texts: Sequence[str], value: str) -> Value:
    places = occurrences(page, value)
    if places:
        return Value(places, "exact")
    return _value(occurrences(Text([misread_digits(text) for text in texts]), misread_digits(value)), "approximate")


def _labelled(words: Sequence[DraftWord], values: Mapping[str, Value]) -> tuple[DraftWord, ...]:
    """The words with the label of the value they are part of; of two that overlap, the first in the table's order."""
    labelled = list(words)
    spans = [(name, span) for name in LABELS if name in values for span in values[name].spans]
    for entity, (name, span) in enumerate(spans):
        for index in range(span.begin, span.end):
            if not labelled[index].label:
                labelled[index] = DraftWord(words[index].text, words[index].box, name, entity)
    return tuple(labelled)

"""Rows of a file with one page each: JSON lines, a JSON array, objects over several lines, columns, or CSV by word."""

import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from receipt_layoutlm.data.page import DataError
from receipt_layoutlm.data.source_text import AS_LINES, TextOptions, parse_json, read_source

_PAGE, _WORD, _LABEL, _BOX = ("page", "word", "label", "box")
_COLUMNS = {
    _PAGE: ("page_id", "id", "page", "image", "file", "filename", "file_name", "image_name", "document", "doc_id"),
    _WORD: ("word", "words", "text", "token", "tokens"),
    _LABEL: ("label", "labels", "tag", "tags", "ner_tag", "ner_tags", "bio", "bio_tag"),
    _BOX: ("box", "bbox", "boxes", "bboxes"),
}
EDGES = (
    ("x0", "y0", "x1", "y1"),
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
)
SIZED = (("left", "top", "width", "height"), ("x", "y", "w", "h"), ("x", "y", "width", "height"))
"""Columns of a CSV with a row for each word; names of a box's edges, or of a corner and its size."""

_SIZES = (("image_width", "image_height"), ("page_width", "page_height"), ("width", "height"))

_SHOWN = 80  # characters of a header
_NUMBERS = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_BETWEEN = re.compile(r"[\s,]*")
_WRAPPED = ("rows", "data", "pages", "examples", "documents", "items", "records")
_SETS = ("train", "training", "validation", "valid", "val", "dev", "eval", "test")
"""Fields with a list of rows, where a file is one object; of the second, all are read."""


@dataclass(frozen=True, slots=True)
class Row:
    """A JSON value, and the line where it begins."""

    line: int
    value: object


def read_rows(path: Path, options: TextOptions, on_bad: Callable[[DataError], None]) -> tuple[list[Row], object]:
    """The rows of a file, and what a file that is one object has beside them. `on_bad` gets lines that are not JSON."""
    text = read_source(path, options)
    if not text.strip():
        return [], None
    if text.lstrip()[0] not in "[{":
        try:
            if header := _header(text):
                return _words_by_page(text, header, path), None
        except csv.Error as error:
            raise DataError(f"is not CSV: {error}", file=str(path)) from error
        if path.suffix.lower() in (".csv", ".tsv"):
            first = next(line for line in text.split("\n") if line.strip()).strip()
            raise DataError(
                f"has no columns id, word, box (or x0, y0, x1, y1) and label, with a row for each word, but "
                f"{first[:_SHOWN]!r}: name them so in the first line",
                file=str(path),
            )
    first = next(line for line in text.split("\n") if line.strip())
    if not isinstance(_json(first), dict) and (values := _values(text)) is not None:
        return _unwrapped(values, options)
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append(Row(number, parse_json(line)))
            except ValueError as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                on_bad(DataError(f"is not JSON: {reason}", file=str(path), line=number))
    return _unwrapped(rows, options)


def _json(text: str) -> object:
    try:
        return parse_json(text)
    except ValueError:
        return None


def _values(text: str) -> list[Row] | None:
    """The objects of a JSON array, or one after another; None if the text is not JSON."""
    decoder, line, place = json.JSONDecoder(), 1, 0
    rows: list[Row] = []
    end = _BETWEEN.match(text, 0).end()  # type: ignore[union-attr]
    is_array = text[end] == "["
    end += is_array
    while True:
        end = _BETWEEN.match(text, end).end()  # type: ignore[union-attr]
        line, place = line + text.count("\n", place, end), end
        if end == len(text) or (is_array and text[end] == "]"):
            return rows if not text[end + 1 :].strip() else None
        try:
            value, end = decoder.raw_decode(text, end)
        except (ValueError, RecursionError):
            return None
        rows.append(Row(line, value))


def _unwrapped(rows: list[Row], options: TextOptions) -> tuple[list[Row], object]:
    """The rows inside of one object: lists of them, each perhaps under "row", an object by id, or columns."""
    if len(rows) == 1 and isinstance(value := rows[0].value, dict):
        line = rows[0].line
        has_words = bool({"words", "tokens"} & value.keys())
        sets = [key for key in _SETS if isinstance(value.get(key), list)]
        inner = next((value[key] for key in _WRAPPED if isinstance(value.get(key), list)), None)
        if inner is None and sets:
            inner = [each for key in sets for each in value[key]]
            options.note(f"pages of {', '.join(sets)} read as one data set")
        if inner is not None and not has_words:
            inside = [
                each["row"] if isinstance(each, dict) and isinstance(each.get("row"), dict) else each for each in inner
            ]
            return [Row(line, each) for each in inside], {key: value[key] for key in value.keys() - {*_WRAPPED, *_SETS}}
        if value and all(isinstance(each, dict) for each in value.values()):
            if not has_words:
                return [Row(line, {"id": key, **each}) for key, each in value.items()], None
            value = {key: list(column.values()) for key, column in value.items()}  # as pandas writes columns
        words = value.get("words") or value.get("tokens")
        if (
            isinstance(words, list)
            and words
            and isinstance(words[0], list)
            and len(words[0])
            and isinstance(words[0][0], str)
        ):
            columns = {
                key: column for key, column in value.items() if isinstance(column, list) and len(column) == len(words)
            }
            return [
                Row(line, {key: column[index] for key, column in columns.items()}) for index in range(len(words))
            ], None
    return rows, None


# CSV


@dataclass(frozen=True, slots=True)
class _Header:
    """The columns of a CSV: separator, page, word, label, and the box in one column or four."""

    separator: str
    page: str
    word: str
    label: str
    box: tuple[str, ...]
    is_sized: bool
    size: tuple[str, ...]


def _header(text: str) -> _Header | None:
    """The header of a CSV with a row for each word; None if the text begins with none."""
    first = next(line for line in text.split("\n") if line.strip())
    separator = max(",;\t|", key=first.count)
    names = {
        name.strip().casefold(): name.strip() for name in next(csv.reader([first.strip("\r")], delimiter=separator))
    }

    def column(kind: str) -> str | None:
        return next((names[name] for name in _COLUMNS[kind] if name in names), None)

    page, word, label, box = (column(kind) for kind in (_PAGE, _WORD, _LABEL, _BOX))
    edges = next((group for group in (*EDGES, *SIZED) if names.keys() >= {*group}), None)
    if page is None or word is None or label is None or (box is None and edges is None):
        return None
    places = (box,) if box is not None else tuple(names[name] for name in edges or ())
    is_sized = box is None and edges in SIZED
    sizes = next((group for group in (_SIZES[:2] if is_sized else _SIZES) if names.keys() >= {*group}), ())
    return _Header(separator, page, word, label, places, is_sized, tuple(names[name] for name in sizes))


def _words_by_page(text: str, header: _Header, path: Path) -> list[Row]:
    """A row for each page of a CSV, in the order of their first words; other columns are ignored."""
    pages: dict[str, dict[str, Any]] = {}
    begins: dict[str, int] = {}
    reader = csv.DictReader(StringIO(text.lstrip("\ufeff")), delimiter=header.separator, skipinitialspace=True)
    reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
    for row in reader:
        page_id = row.get(header.page) or ""
        begins.setdefault(page_id, reader.line_num)
        size = dict(zip(("width", "height"), (row.get(name) or None for name in header.size), strict=False))
        page = pages.setdefault(page_id, {"words": [], "boxes": [], "tags": [], **size})
        cells = [row.get(cell) or "" for cell in header.box]
        if len(cells) > 1:  # 0,25 where commas are decimal
            cells = [cell.replace(",", ".") for cell in cells]
        box = [float(number) for cell in cells for number in _NUMBERS.findall(cell)]
        if len(box) > 8:
            reason = f"has {len(box)} numbers for the box in {header.box[0]}, as if each row were a page: {AS_LINES}"
            raise DataError(reason, file=str(path), line=reader.line_num)
        if len(box) != 4:
            reason = f"has {len(box)} numbers for the box in {', '.join(header.box)}: write four"
            raise DataError(reason, file=str(path), line=reader.line_num)
        if header.is_sized:
            box = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
        page["words"].append(row.get(header.word) or "")
        page["boxes"].append(box)
        page["tags"].append(row.get(header.label) or "O")
    return [Row(begins[page_id], {"id": page_id, **page}) for page_id, page in pages.items()]

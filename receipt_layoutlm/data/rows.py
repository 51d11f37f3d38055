"""Rows of a file with one page each: JSON lines, a JSON array, objects over several lines, columns, or CSV by word."""

import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from receipt_layoutlm.data.page import DataError
from receipt_layoutlm.data.source_text import AS_LINES, TextOptions, parse_json, read_source

_PAGE, _WORD, _LABEL, _BOX = ("page", "word", "label", "box")
_COLUMNS = {
    _PAGE: ("page_id", "id", "page", "image", "file", "filename", "file_name", "image_name", "document", "doc_id"),
    _WORD: ("word", "words", "text", "token", "tokens"),
    _LABEL: ("label", "labels", "tag", "tags", "ner_tag", "ner_tags", "bio", "bio_tag"),
    _BOX: ("box", "bbox", "boxes", "bboxes"),
}
_EDGES = (
    ("x0", "y0", "x1", "y1"),
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
)
_SIZED = (("left", "top", "width", "height"), ("x", "y", "w", "h"), ("x", "y", "width", "height"))
"""Columns of a CSV with a row for each word; names of a box's edges, or of a corner and its size."""

_SHOWN = 80  # characters of a header
_NUMBERS = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_BETWEEN = re.compile(r"[\s,]*")
_WRAPPED = ("rows", "data", "pages", "examples", "train")
"""Fields with the list of rows, where a file is one object."""


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
        return _unwrapped(values)
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append(Row(number, parse_json(line)))
            except ValueError as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                on_bad(DataError(f"is not JSON: {reason}", file=str(path), line=number))
    return _unwrapped(rows)


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


def _unwrapped(rows: list[Row]) -> tuple[list[Row], object]:
    """The rows inside of one object: a list of them, each perhaps under "row", or columns of equal length."""
    if len(rows) == 1 and isinstance(value := rows[0].value, dict):
        line = rows[0].line
        inner = next((value[key] for key in _WRAPPED if isinstance(value.get(key), list)), None)
        if inner is not None and not {"words", "tokens"} & value.keys():
            inside = [
                each["row"] if isinstance(each, dict) and isinstance(each.get("row"), dict) else each for each in inner
            ]
            return [Row(line, each) for each in inside], {key: value[key] for key in value.keys() - {*_WRAPPED}}
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
    edges = next((group for group in (*_EDGES, *_SIZED) if names.keys() >= {*group}), None)
    if page is None or word is None or label is None or (box is None and edges is None):
        return None
    places = (box,) if box is not None else tuple(names[name] for name in edges or ())
    return _Header(separator, page, word, label, places, box is None and edges in _SIZED)


def _words_by_page(text: str, header: _Header, path: Path) -> list[Row]:
    """A row for each page of a CSV, in the order of their first words; other columns are ignored."""
    pages: dict[str, dict[str, list[object]]] = {}
    begins: dict[str, int] = {}
    reader = csv.DictReader(StringIO(text.lstrip("\ufeff")), delimiter=header.separator, skipinitialspace=True)
    reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
    for row in reader:
        page_id = row.get(header.page) or ""
        begins.setdefault(page_id, reader.line_num)
        page = pages.setdefault(page_id, {"words": [], "boxes": [], "tags": []})
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

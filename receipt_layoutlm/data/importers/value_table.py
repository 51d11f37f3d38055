"""Values of whole receipts: a spreadsheet saved as CSV, a row a scan, or a folder with a JSON file a scan.

    file,company,date,total             000.json
    000.jpg,ACME,2018-12-25,9.00        {"company": "ACME", "date": "2018-12-25", "total": 9.00}

The column `file`, else the first one, has the file's name, with or without folder and ending. Commas, semicolons, tabs
and bars separate the cells of a CSV; line numbers are those of the file.
"""

import csv
import io
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from receipt_layoutlm.data.page import DataError, bad_lines, validation_reason
from receipt_layoutlm.data.source_text import NullableText, TextOptions, parse_json, read_source
from receipt_layoutlm.suggestions import nearest_name

_SEPARATORS = ",;\t|"
_EXCEL_HINT = "sep="  # a first line by which Excel is told the separator
_FILE_COLUMNS = ("file", "filename", "file name", "file_name", "image", "scan_file", "path")
_SHOWN = 5
_OBJECT = TypeAdapter(dict[str, NullableText | int | float])
_JSON = ".json"


@dataclass(frozen=True, slots=True)
class ValueRow:
    """The texts of one scan by column, stripped; `file` is the scan's name as it is given there."""

    file: str
    texts: Mapping[str, str]
    path: Path
    line: int | None = None

    def error(self, reason: str) -> DataError:
        return DataError(reason, file=str(self.path), line=self.line)


def read_value_rows(path: Path, options: TextOptions) -> list[ValueRow]:
    """The rows of a CSV file, or of the JSON files in a folder. Raises DataError with file and line."""
    if not path.is_dir():
        return _csv_rows(path, read_source(path, options))
    files = sorted(each for each in path.iterdir() if each.suffix.lower() == _JSON and not each.name.startswith("."))
    if not files:
        raise DataError("the folder has no .json file: it needs one for each scan, named like it", file=str(path))
    return [_json_row(file, options) for file in files]


def _json_row(path: Path, options: TextOptions) -> ValueRow:
    try:
        values = _OBJECT.validate_python(parse_json(read_source(path, options)))
    except json.JSONDecodeError as error:
        raise DataError(f"is not JSON: {error}", file=str(path)) from error
    except ValidationError as error:
        reason = f'{validation_reason(error)}: write an object of texts and numbers, like {{"total": 9.00}}'
        raise DataError(reason, file=str(path)) from error
    return ValueRow(path.stem, {name.strip(): str(value).strip() for name, value in values.items()}, path)


def _csv_rows(path: Path, text: str) -> list[ValueRow]:
    skipped = 0
    first, _, rest = text.partition("\n")
    separator = first.strip().strip('"')[len(_EXCEL_HINT) :] if first.strip('"').startswith(_EXCEL_HINT) else ""
    if separator:
        text, skipped = rest, 1
    header, *rows = _cells(path, text, separator or _separator(text), skipped) or [(1, [])]
    names = _columns(path, header)
    file_at = next((index for index, name in enumerate(names) if name.casefold() in _FILE_COLUMNS), 0)
    bad: list[DataError] = []
    found: list[ValueRow] = []
    for line, cells in rows:
        if not any(cells):
            continue
        if len(cells) != len(names):
            reason = f"has {len(cells)} cells, the header has {len(names)}: quote a value that has the separator in it"
            bad.append(DataError(reason, file=str(path), line=line))
        elif not cells[file_at]:
            bad.append(DataError(f"has no file name in the column {names[file_at]}", file=str(path), line=line))
        else:
            texts = {name: cell for name, cell in zip(names, cells, strict=True) if name and name != names[file_at]}
            found.append(ValueRow(cells[file_at], texts, path, line))
    if bad:
        raise bad_lines(bad)
    if not found:
        raise DataError("has no row below the header", file=str(path))
    return found


def _separator(text: str) -> str:
    """The separator of the header, which is outside of quotation marks."""
    header = "".join(text.split("\n", 1)[0].split('"')[::2])
    return max(_SEPARATORS, key=header.count)


def _cells(path: Path, text: str, separator: str, skipped: int) -> list[tuple[int, list[str]]]:
    """Line number and stripped cells of each row."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows = []
    line = 1 + skipped
    try:
        for cells in reader:
            rows.append((line, [" ".join(cell.split()) for cell in cells]))
            line = reader.line_num + 1 + skipped
    except csv.Error as error:
        reason = f"is not CSV ({error}): a quotation mark inside a value is written twice"
        raise DataError(reason, file=str(path), line=line) from error
    return rows


def _columns(path: Path, header: tuple[int, list[str]]) -> list[str]:
    line, names = header
    if len(names) < 2:
        reason = (
            f"has one column only, {', '.join(names) or 'an empty one'}: it needs the file name and one for each label"
        )
        raise DataError(reason, file=str(path), line=line)
    if any(Path(name).suffix.lower() in (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".pdf") for name in names[:1]):
        reason = f"begins with a scan ({names[0]}) and not with the names of the columns: add a line with them above it"
        raise DataError(reason, file=str(path), line=line)
    seen: dict[str, str] = {}
    for name in filter(None, names):
        if name.casefold() in seen:
            raise DataError(f"has the column {name!r} twice: rename or remove one", file=str(path), line=line)
        seen[name.casefold()] = name
    return names


@dataclass(frozen=True, slots=True)
class Joined:
    """The row of each scan that has one, the rows that fit no scan, and the scans without a row."""

    rows: dict[Path, ValueRow]
    refused: list[DataError]
    without_row: list[Path]


def join_rows(scans: Sequence[Path], rows: Iterable[ValueRow]) -> Joined:
    """Find the scan of each row by its name, with or without ending, and leading zeros that spreadsheets drop."""
    known: dict[str, list[Path]] = {}
    for path in scans:
        stem = _folded(path.stem)
        for name in {_folded(path.name), stem, (stem.lstrip("0") or "0") if stem.isdecimal() else stem}:
            known.setdefault(name, []).append(path)
    joined: dict[Path, ValueRow] = {}
    refused: list[DataError] = []
    for row in rows:
        parts = [_folded(part) for part in row.file.replace("\\", "/").split("/") if part]
        fitting = known.get(parts[-1], []) if parts else []
        if len(fitting) > 1:  # told apart by their folders
            fitting = [path for path in fitting if _ends_with(path, parts)] or fitting
        if not fitting:
            near = nearest_name(row.file, known)
            hint = f"; did you mean {known[near][0].name}?" if near else ""
            refused.append(row.error(f"there is no scan {row.file!r}{hint}"))
        elif len(fitting) > 1:
            names = ", ".join(str(path) for path in fitting[:_SHOWN])
            refused.append(row.error(f"{row.file!r} may be {names}: write the name with its folder and ending"))
        elif (other := joined.get(fitting[0])) is not None:
            place = f"line {other.line}" if other.line else str(other.path)
            refused.append(row.error(f"{row.file!r} has a row already, in {place}: keep one of them"))
        else:
            joined[fitting[0]] = row
    return Joined(joined, refused, [path for path in scans if path not in joined])


def _ends_with(path: Path, parts: Sequence[str]) -> bool:
    own = [_folded(part) for part in path.parts]
    return own[-len(parts) :] in (list(parts), [*parts[:-1], own[-1]])


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()  # macOS stores accents apart

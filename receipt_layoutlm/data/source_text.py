"""Text of source files: plain or gzip, in UTF-8, UTF-16 or another encoding. Errors name file and line."""

import codecs
import errno
import gzip
import io
import json
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import from_json

from receipt_layoutlm.data.page import DataError, validation_reason

RECORD = ConfigDict(frozen=True, coerce_numbers_to_str=True, allow_inf_nan=False)
"""Of a format's records: unknown fields are ignored; a number may be a text, a text a number."""

NullableText = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
"""A text that may be null, which is no text."""

MOST_BYTES: Final = 4 << 30
"""Of a file of pages, packed or unpacked; a million receipts have about as many."""

AS_LINES = "write its rows as JSON lines, in pandas with df.to_json('pages.jsonl', orient='records', lines=True)"

_NOT_TEXT = (
    (
        b"version https://git-lfs.github.com/spec/",
        "is a Git LFS pointer, not the file: run 'git lfs pull' in the clone",
    ),
    (b"\x00\x05\x16\x07", "is an AppleDouble file of macOS, without the content of the file that it accompanies"),
    (b"PAR1", "is a Parquet file: 'layoutlm-cli dataset import hf' reads it"),
    (b"ARROW1", "is an Arrow file: 'layoutlm-cli dataset import hf' reads it"),
    (b"\xff\xff\xff\xff", "is an Arrow stream: 'layoutlm-cli dataset import hf' reads it"),
    (b"PK\x03\x04", "is a ZIP archive: unpack it; of an Excel workbook, save the sheet as CSV"),
    (b"Rar!", "is an archive: unpack it"),
    (b"7z\xbc\xaf", "is an archive: unpack it"),
    (b"SQLite format 3", "is a database, not a text file"),
    (b"\x93NUMPY", "is a NumPy file, not a text file"),
    (b"RIFF", "is an image: name the file or folder with the words and labels"),
    (b"II*\x00", "is an image: name the file or folder with the words and labels"),
    (b"MM\x00*", "is an image: name the file or folder with the words and labels"),
    (b"\x89PNG", "is an image: name the file or folder with the words and labels"),
    (b"\xff\xd8\xff", "is an image: name the file or folder with the words and labels"),
    (b"%PDF", "is a PDF: name the file or folder with the words and labels"),
)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WESTERN = "cp1252"
_OTHERS = (
    *("gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1251", "koi8_r", "cp1253", "cp1255", "cp1256", "cp874"),
    *("cp1250", "cp1254", _WESTERN, "mac_roman", "cp850"),
)
_RARE = re.compile(
    rb"[\x8a\x8c\x8e\x9a\x9c\x9e\x9f]|(?<=[A-Za-z])[\x80-\x84\x86-\x90\x98\xa5\xac\xaf\xb3\xb9\xbc-\xbf]"
)
"""Letters that western texts hardly have, and signs that never follow a letter in them: other encodings' letters."""
_FOREIGN_RUN = re.compile(rb"[\x80-\xff]+")
_PREVIEW = 24  # characters
_OFFERED = 6  # encodings

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class TextOptions:
    """How bytes become text. `encoding` is that of files which are not Unicode; `note` gets what was guessed."""

    encoding: str | None = None
    note: Callable[[str], None] = lambda text: None


def unpacked(packed: bytes, at_most: int = MOST_BYTES) -> bytes:
    """The content of gzip bytes. Raises OSError, EOFError or zlib.error, and OSError for more than `at_most` bytes."""
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise OSError(errno.EFBIG, f"it unpacks to more than {at_most} bytes")
    return content


def read_content(path: Path, at_most: int = MOST_BYTES) -> bytes:
    """The bytes of a file, decompressed if it is gzip. Raises DataError for a file without content of its own.

    Also for one of more than `at_most` bytes, packed or unpacked.
    """
    try:
        if (size := path.stat().st_size) > at_most:
            raise OSError(errno.EFBIG, f"it has {size} bytes, more than the {at_most} that are read")
        content = path.read_bytes()
        content = unpacked(content, at_most) if content.startswith(b"\x1f\x8b") else content
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"cannot be read: {reason}", file=str(path)) from error
    if content.startswith(_NOT_TEXT[0][0]):
        raise DataError(_NOT_TEXT[0][1], file=str(path))
    return content


def read_source(path: Path, options: TextOptions = TextOptions()) -> str:
    """The text of a file; DataError if it is no text, or in an encoding that cannot be told with certainty."""
    content = read_content(path)
    for mark, reason in _NOT_TEXT:
        if content.startswith(mark) and not _is_utf16(content):
            raise DataError(reason, file=str(path))
    return _decoded(content, path, options)


def read_markup(path: Path, options: TextOptions = TextOptions()) -> str:
    """The text of an HTML or XML file; DataError also for one that declares entities, which may grow without end."""
    text = read_source(path, options)
    if declared := re.search(r"<!ENTITY\b", text):
        line = text.count("\n", 0, declared.start()) + 1
        raise DataError("declares entities of its own (<!ENTITY …>), which are not read", file=str(path), line=line)
    return text


def parse_json(text: str) -> object:
    """The JSON value of a text. Raises JSONDecodeError, also for deep nesting and for half a surrogate pair."""
    try:
        value: object = from_json(text)
    except ValueError as error:
        try:
            json.loads(text)  # whose error has the place
        except RecursionError:
            raise json.JSONDecodeError("it is nested too deeply", text, 0) from error
        raise json.JSONDecodeError(str(error).partition(" at line")[0], text, 0) from error
    return value


def _is_utf16(content: bytes) -> bool:
    return content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and b"\x00" in content


def _decoded(content: bytes, path: Path, options: TextOptions) -> str:
    for mark, encoding in _MARKS:
        if content.startswith(mark) and (encoding != "utf-16" or _is_utf16(content)):
            return _decode(content, encoding, path)
    if b"\x00" in content[:400]:  # of JSON and numbers, every other byte of UTF-16 is 0
        encoding = options.encoding or ("utf-16-be" if content[:1] == b"\x00" else "utf-16-le")
        options.note(f"read as {encoding}" + ("" if options.encoding else ", guessed"))
        return _decode(content, encoding, path)
    with suppress(UnicodeDecodeError):
        return content.decode("utf-8")
    if options.encoding:
        options.note(f"read as {options.encoding}")
        return _decode(content, options.encoding, path)
    runs = _FOREIGN_RUN.findall(content)
    # accented letters stand alone between others; texts of other scripts are runs of such bytes
    are_single = 2 * sum(len(run) for run in runs if len(run) > 1) < sum(map(len, runs))
    if are_single and 3 * len(_RARE.findall(content)) < sum(map(len, runs)):
        with suppress(UnicodeDecodeError):
            text = content.decode(_WESTERN)
            options.note(f"read as {_WESTERN}, guessed: --encoding names another encoding")
            return text
    raise _undecided(content, path)


def _decode(content: bytes, encoding: str, path: Path) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"is not in the encoding {encoding}", file=str(path), line=line) from error


def _undecided(content: bytes, path: Path) -> DataError:
    """The error of a text that is not UTF-8, with the encodings that it may be in and how they read it."""
    first = _FOREIGN_RUN.search(content)
    assert first is not None
    place = content.count(b"\n", 0, first.start())
    readings: dict[str, str] = {}
    for encoding in _OTHERS:
        with suppress(UnicodeDecodeError):
            line = content.decode(encoding).split("\n")[place]
            begin = next(index for index, character in enumerate(line) if not character.isascii())
            reading = line[begin : begin + _PREVIEW].strip()
            if not readings or any(map(str.isalpha, reading.split()[0])):
                readings.setdefault(reading, encoding)
    likely = sorted(readings.items(), key=lambda item: _odd_words(item[0]))[:_OFFERED]
    reads = ", ".join(f"{encoding} reads {reading!r}" for reading, encoding in likely)
    reason = (
        f"is not UTF-8: {reads}; name the right one with --encoding, or save it as UTF-8"
        if reads
        else "is not UTF-8: save it as UTF-8"
    )
    return DataError(reason, file=str(path), line=place + 1)


def _odd_words(text: str) -> int:
    """The number of words that mix scripts or have signs beyond ASCII, as a wrong encoding makes them."""
    count = 0
    for word in text.split():
        kinds = {unicodedata.name(each, "?").split(" ")[0] for each in word if each.isalpha() or not each.isascii()}
        count += len(kinds - {"HIRAGANA", "KATAKANA"}) > 1 or not kinds.isdisjoint(
            ("HALFWIDTH", "FULLWIDTH", "BOX", "?")
        )
    return count


def numbered_lines(path: Path, options: TextOptions = TextOptions()) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, numbered from 1; only line feeds end a line."""
    for number, line in enumerate(read_source(path, options).split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")


T = TypeVar("T")
OneOrMany = Annotated[tuple[T, ...], BeforeValidator(lambda value: [value] if isinstance(value, dict) else value)]
"""The content of a JSON file that holds a record, or a list of them."""


def shaped(model: type[M], text: str, path: Path, line: int | None = None) -> M:
    """The record in a JSON text; DataError with the place and the first wrong field."""
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        hint = "; is this a file of this format?" if error.errors()[0]["type"] == "missing" else ""
        raise DataError(validation_reason(error) + hint, file=str(path), line=line) from error


_INSIDE = {
    "annotations",
    "images",
    "image",
    "img",
    "imgs",
    "image_files",
    "json",
    "box",
    "boxes",
    "bbox",
    "key",
    "entities",
}
"""Folders inside of a format's folder that a person may name in its place."""


def is_leftover(path: Path) -> bool:
    """Whether a path below a folder is hidden or was added by an archiver or a file manager, not by the format."""
    return any(part.startswith(".") or part in ("__MACOSX", "__pycache__", "Thumbs.db") for part in path.parts)


def files_below(paths: Sequence[Path], *patterns: str) -> list[Path]:
    """The files given, and of each folder the files that match the first pattern with a match.

    Leftovers are skipped. Of a folder that a format has inside its own, the files of the folder above it.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        matches = _matches(path, patterns)
        if not matches and path.name.lower() in _INSIDE:
            matches = _matches(path.resolve().parent, patterns)
        if not matches:
            raise DataError(f"the folder has no {' or '.join(patterns)}{packed(path)}", file=str(path))
        files.extend(matches)
    return files


def packed(folder: Path) -> str:
    """The end of an error on a folder without its files: the archive in it that may hold them, "" if there is none."""
    names = (path.name for path in sorted(folder.iterdir()) if path.suffix in (".zip", ".gz", ".tgz", ".rar", ".7z"))
    return f": unpack {name}" if (name := next(names, None)) else ""


def _matches(folder: Path, patterns: Sequence[str]) -> list[Path]:
    for pattern in patterns:
        below = (path for path in sorted(folder.rglob(pattern)) if path.is_file())
        if found := [path for path in below if not is_leftover(path.relative_to(folder))]:
            return found
    return []

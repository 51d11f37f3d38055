"""Reads source files: plain or gzip, with or without a byte order mark. Errors name file and line."""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from receipt_layoutlm.data.page import DataError, validation_reason

RECORD = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)
"""Of a format's records: unknown fields are ignored."""

M = TypeVar("M", bound=BaseModel)


def read_source(path: Path, encodings: Sequence[str] = ("utf-8-sig",)) -> str:
    """The text of a file in the first encoding that fits; DataError with the line when none does."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot be read: {error}", file=str(path)) from error
    for encoding in encodings[:-1]:
        with suppress(UnicodeDecodeError):
            return content.decode(encoding)
    try:
        return content.decode(encodings[-1])
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError("is not UTF-8: save the file as UTF-8", file=str(path), line=line) from error


def numbered_lines(path: Path, encodings: Sequence[str] = ("utf-8-sig",)) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, numbered from 1; only line feeds end a line."""
    for number, line in enumerate(read_source(path, encodings).split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")


def shaped(model: type[M], text: str, path: Path, line: int | None = None) -> M:
    """The record in a JSON text; DataError with the place and the first wrong field."""
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        hint = "; is this a file of this format?" if error.errors()[0]["type"] == "missing" else ""
        raise DataError(validation_reason(error) + hint, file=str(path), line=line) from error


def files_below(paths: Sequence[Path], *patterns: str) -> list[Path]:
    """The files given, and of each folder the files that match the first pattern with a match."""
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        matches = next((below for pattern in patterns if (below := sorted(path.rglob(pattern)))), [])
        if not matches:
            raise DataError(f"the folder has no {' or '.join(patterns)}", file=str(path))
        files.extend(matches)
    return files

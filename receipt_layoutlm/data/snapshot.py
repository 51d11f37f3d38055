"""Page files: JSONL to import, and snapshots with their fingerprint.

A snapshot is a gzip file of canonical lines in the order of the pages. Its fingerprint is the SHA-256 of the
uncompressed lines, so that snapshots with the same fingerprint contain the same pages.
"""

import gzip
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from receipt_layoutlm.data.jsonl import ReadOptions, naming_import, read_labelled_lines
from receipt_layoutlm.data.page import (
    DEFAULT_ORDER,
    Box,
    DataError,
    Page,
    WordOrder,
    bad_lines,
    page_from_line,
    page_to_line,
)
from receipt_layoutlm.data.source_text import read_content

__all__ = [
    "Box",
    "DataError",
    "Page",
    "fingerprint",
    "in_given_order",
    "label_counts",
    "page_from_line",
    "page_to_line",
    "read_jsonl",
    "read_snapshot",
    "sample_pages",
    "seeded_rank",
    "survey_jsonl",
    "write_snapshot",
]


def _canonical_bytes(pages: Iterable[Page]) -> bytes:
    return "".join(f"{page_to_line(page)}\n" for page in pages).encode()


def fingerprint(pages: Iterable[Page]) -> str:
    """SHA-256 (lower-case hex) of the pages' canonical lines, in their order."""
    return hashlib.sha256(_canonical_bytes(pages)).hexdigest()


def write_snapshot(pages: Sequence[Page], path: Path) -> str:
    """Writes pages as gzip, replacing the file atomically; returns the fingerprint."""
    content = _canonical_bytes(pages)
    packed = io.BytesIO()
    # without time and name in the header, equal pages give equal files
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=packed, mtime=0) as file:
        file.write(content)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(packed.getvalue())
    partial.replace(path)
    return hashlib.sha256(content).hexdigest()


def read_snapshot(path: Path, expected_fingerprint: str | None = None) -> list[Page]:
    """The pages of a snapshot. Raises DataError if it is damaged or has another fingerprint."""
    content = read_content(path)
    actual = hashlib.sha256(content).hexdigest()
    if expected_fingerprint is not None and actual != expected_fingerprint:
        raise DataError(f"its fingerprint is {actual}, expected {expected_fingerprint}", file=str(path))
    return _read_lines(path, content)


def read_jsonl(path: Path, order: WordOrder = DEFAULT_ORDER) -> list[Page]:
    """The pages of a JSONL file (plain or gzip), one a line as `jsonl.ImportedPage` describes, in order.

    With `order` "given" the words of all pages are read as they are given. Bad lines raise DataError with file, line
    and reason; blank lines are skipped.
    """
    pages, refused = survey_jsonl(path)
    if refused:
        raise bad_lines(refused)
    if not pages:
        raise DataError("the file has no pages", file=str(path))
    return in_given_order(pages) if order == "given" else pages


def in_given_order(pages: Iterable[Page]) -> list[Page]:
    """The pages with their words to be read as they are given."""
    return [replace(page, order="given") for page in pages]


def survey_jsonl(path: Path) -> tuple[list[Page], list[DataError]]:
    """The pages of a JSONL file, and the error of every other line. Raises DataError if the file cannot be read."""
    refused: list[DataError] = []
    pages: list[Page] = []
    line_of: dict[str, int] = {}
    try:
        lines = read_labelled_lines(path, ReadOptions(), refused.append)
    except DataError as error:
        _refuse_other_format(path)
        raise naming_import(error) from error
    for line in lines:
        try:
            if line.page_id in line_of:
                raise ValueError(f"page id {line.page_id!r} is already used in line {line_of[line.page_id]}")
            pages.append(line.page())
            line_of[line.page_id] = line.line
        except ValueError as error:
            refused.append(DataError(str(error), file=str(path), line=line.line))
    if refused and not pages:
        _refuse_other_format(path)
    return pages, sorted(refused, key=lambda error: error.line or 0)


def _refuse_other_format(path: Path) -> None:
    """Raises DataError with the name of the format, and its command, if the file is another tool's."""
    from receipt_layoutlm.data.importers.recognise import recognised  # importers store snapshots

    known = recognised(path)
    if known and known.importer != "jsonl":
        raise DataError(known.text(path), file=str(path))


def _read_lines(path: Path, content: bytes) -> list[Page]:
    """The pages of all lines that are not blank. DataError for the first line without a page or with a used id."""
    pages: list[Page] = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            page = page_from_line(line.decode())
            if page.page_id in line_of:
                raise ValueError(f"page id {page.page_id!r} is already used in line {line_of[page.page_id]}")
        except ValueError as error:
            raise DataError(str(error), file=str(path), line=number) from error
        line_of[page.page_id] = number
        pages.append(page)
    return pages


def sample_pages(pages: Sequence[Page], n: int, seed: int) -> list[Page]:
    """A seeded sample of n pages (all, if there are fewer), sorted by page id, whatever the order of the pages.

    A larger sample of the same seed contains the smaller one.
    """
    sample = sorted(pages, key=lambda page: seeded_rank("sample", seed, page.page_id))[:n]
    return sorted(sample, key=lambda page: page.page_id)


def seeded_rank(purpose: str, seed: int, name: str) -> bytes:
    """A key for a random order; it depends on the arguments only, on every machine and Python version."""
    return hashlib.blake2b(json.dumps([purpose, seed, name]).encode(), digest_size=16).digest()


def label_counts(pages: Iterable[Page]) -> dict[str, int]:
    """Entities per label, labels in alphabetical order."""
    counts = Counter(tag[2:] for page in pages for tag in page.tags if tag.startswith("B-"))
    return dict(sorted(counts.items()))

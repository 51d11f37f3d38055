"""Pages in files: import, snapshot, fingerprint, sample; splits.py divides them.

A snapshot is a gzip file of canonical lines in the order of the pages. Its fingerprint is the SHA-256 of the
uncompressed lines, so two snapshots with one fingerprint hold the same pages, whatever compressed them.
"""

import gzip
import hashlib
import io
import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pydantic import ValidationError

from receipt_layoutlm.data.jsonl import ImportedPage
from receipt_layoutlm.data.page import Box, DataError, Page, page_from_line, page_to_line, validation_reason

__all__ = [
    "Box",
    "DataError",
    "Page",
    "fingerprint",
    "label_counts",
    "page_from_line",
    "page_of_import",
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
    """SHA-256 (lower-case hex) of the pages' canonical lines, in the order given."""
    return hashlib.sha256(_canonical_bytes(pages)).hexdigest()


def write_snapshot(pages: Sequence[Page], path: Path) -> str:
    """Write pages as gzip, replacing the file at once; returns the fingerprint."""
    content = _canonical_bytes(pages)
    packed = io.BytesIO()
    # neither a time nor a name in the header: equal pages give equal files
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=packed, mtime=0) as file:
        file.write(content)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(packed.getvalue())
    partial.replace(path)
    return hashlib.sha256(content).hexdigest()


def read_snapshot(path: Path, expected_fingerprint: str | None = None) -> list[Page]:
    """The pages of a snapshot; DataError when it is damaged or its fingerprint is not the expected one."""
    content = _read_bytes(path)
    found = hashlib.sha256(content).hexdigest()
    if expected_fingerprint is not None and found != expected_fingerprint:
        raise DataError(f"its fingerprint is {found}, expected {expected_fingerprint}", file=str(path))
    return _read_lines(path, content, page_from_line)


def read_jsonl(path: Path) -> list[Page]:
    """Import a JSONL file (plain or gzip), one page a line as `jsonl_import.ImportedPage` describes.

    The pages keep the order of the file and the words their order on the line. The first thing that is wrong
    raises DataError with file, line and reason; blank lines are skipped.
    """
    pages = _read_lines(path, _read_bytes(path).removeprefix(b"\xef\xbb\xbf"), page_of_import)
    if not pages:
        raise DataError("the file holds no pages", file=str(path))
    return pages


def survey_jsonl(path: Path) -> tuple[list[Page], list[DataError]]:
    """The pages of a JSONL file, and every line that is none; raises DataError when the file cannot be read at all."""
    refused: list[DataError] = []
    pages = _read_lines(path, _read_bytes(path).removeprefix(b"\xef\xbb\xbf"), page_of_import, refused.append)
    return pages, refused


def page_of_import(line: str) -> Page:
    """The page of a line as a person brings it; ValueError with the reason when it is none."""
    try:
        given = ImportedPage.model_validate_json(line)
    except ValidationError as error:
        raise ValueError(validation_reason(error)) from error
    return Page(
        page_id=given.page_id,
        group=given.merchant_group(),
        words=given.words,
        boxes=given.whole_boxes(),
        tags=given.iob2_tags(),
        width=given.width,
        height=given.height,
        image=given.image,
    )


def _refuse(error: DataError) -> None:
    raise error


def _read_lines(
    path: Path, content: bytes, parse: Callable[[str], Page], on_bad: Callable[[DataError], None] = _refuse
) -> list[Page]:
    """Parse each line that is not blank; `on_bad` gets each one that is no page, or is the second of one page id."""
    pages: list[Page] = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            page = parse(line.decode())
        except ValueError as error:
            on_bad(DataError(str(error), file=str(path), line=number))
            continue
        if page.page_id in line_of:
            reason = f"page id {page.page_id!r} stands in line {line_of[page.page_id]} already"
            on_bad(DataError(reason, file=str(path), line=number))
            continue
        line_of[page.page_id] = number
        pages.append(page)
    return pages


def _read_bytes(path: Path) -> bytes:
    """The file's content, unpacked when it begins like gzip."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot be read: {error}", file=str(path)) from error


def sample_pages(pages: Sequence[Page], n: int, seed: int) -> list[Page]:
    """A seeded sample of n pages (all, if there are fewer), sorted by page id; their order changes nothing.

    A smaller sample of the same seed is part of a larger one.
    """
    return _by_id(sorted(pages, key=lambda page: seeded_rank("sample", seed, page.page_id))[:n])


def _by_id(pages: Iterable[Page]) -> list[Page]:
    return sorted(pages, key=lambda page: page.page_id)


def seeded_rank(purpose: str, seed: int, name: str) -> bytes:
    """A place in a random order that depends on its arguments alone, on every machine and Python version."""
    return hashlib.blake2b(json.dumps([purpose, seed, name]).encode(), digest_size=16).digest()


def label_counts(pages: Iterable[Page]) -> dict[str, int]:
    """Entities per label, labels in alphabetical order."""
    counts = Counter(tag[2:] for page in pages for tag in page.tags if tag.startswith("B-"))
    return dict(sorted(counts.items()))

"""Pages in files and in parts: import, snapshot, fingerprint, split and sample.

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
from typing import Literal

from pydantic import ValidationError

from receipt_layoutlm.jsonl_import import ImportedPage
from receipt_layoutlm.page import Box, DataError, Page, page_from_line, page_to_line, validation_reason

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
    "split_pages",
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


def _read_lines(path: Path, content: bytes, parse: Callable[[str], Page]) -> list[Page]:
    """Parse each line that is not blank; DataError names the first bad one, or the second of one page id."""
    pages: list[Page] = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            page = parse(line.decode())
        except ValueError as error:
            raise DataError(str(error), file=str(path), line=number) from error
        if page.page_id in line_of:
            reason = f"page id {page.page_id!r} stands in line {line_of[page.page_id]} already"
            raise DataError(reason, file=str(path), line=number)
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


def split_pages(
    pages: Sequence[Page], split: Literal["group", "random"], eval_fraction: float, seed: int
) -> tuple[list[Page], list[Page]]:
    """Divide pages into a training and an evaluation part, each sorted by page id.

    "random" divides page by page. "group" keeps each group whole and comes as close to `eval_fraction` of the
    pages as whole groups allow. The parts depend on the set of pages and the seed, not on the order of the
    pages. DataError when one part would be empty.
    """
    members: dict[str, list[Page]] = {}
    for page in pages:
        members.setdefault(page.group if split == "group" else page.page_id, []).append(page)
    if len(members) < 2:
        fix = "import pages of other groups, or split at random" if len(pages) > 1 else "import more pages"
        raise DataError(f"{len(pages)} page(s) of {len(members)} group(s) cannot be divided into two parts: {fix}")
    order = sorted(members, key=lambda name: seeded_rank("split", seed, name))
    target = min(max(round(len(pages) * eval_fraction), 1), len(pages) - 1)
    held_out = _choose_sizes([len(members[name]) for name in order], target)
    parts: tuple[list[Page], list[Page]] = ([], [])
    for index, name in enumerate(order):
        parts[index in held_out].extend(members[name])
    return _by_id(parts[0]), _by_id(parts[1])


def _choose_sizes(sizes: Sequence[int], target: int) -> set[int]:
    """Some of the indices, but not all, whose sizes add up as closely to target as can be; early ones first.

    Subset sum: bit s of `sums[k]` says that some of the first k sizes add up to s.
    """
    sums = [1]
    for size in sizes:
        if sums[-1] >> target & 1:
            break
        sums.append(sums[-1] | sums[-1] << size)
    total = sum(sizes)
    possible = (s for s in range(1, total) if sums[-1] >> s & 1)
    rest = min(possible, key=lambda s: abs(s - target))
    chosen = set()
    for index in reversed(range(len(sums) - 1)):
        if not sums[index] >> rest & 1:
            chosen.add(index)
            rest -= sizes[index]
    return chosen


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

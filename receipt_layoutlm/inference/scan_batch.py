"""Reads many scans, in processes of one thread each. What was read is in the cache, so that an interrupted run goes on.

onnxruntime's threads spin while they wait: several threads a process cost more than they gain on busy cores.
"""

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.inference.scans import SCAN_SUFFIXES, ScanError, ScannedPage, ScanOptions, read_scan
from receipt_layoutlm.inference.sources import files_of


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """A file that was read. `name` is its path below the folder that was named; `digest` the SHA-256 of its content."""

    path: Path
    name: str
    digest: str
    pages: tuple[ScannedPage, ...]

    def as_pages(self, tags: Iterable[tuple[str, ...]] | None = None, group: str | None = None) -> list[Page]:
        """The pages with these tags, or unlabelled; a scan without a group is one by itself."""
        given: Iterable[tuple[str, ...] | None] = (None,) * len(self.pages) if tags is None else tags
        return [
            scanned.page(self.name, group or self.name, page_tags, self.digest)
            for scanned, page_tags in zip(self.pages, given, strict=True)
        ]


def scan_names(paths: Sequence[Path]) -> dict[Path, str]:
    """The scans among files and in folders, each with its name. Raises DataError where two have the same name."""
    names: dict[Path, str] = {}
    first: dict[str, Path] = {}
    for given in paths:
        for path in files_of([given], SCAN_SUFFIXES):
            name = path.relative_to(given).as_posix() if given.is_dir() else path.name
            if first.setdefault(name, path) != path:
                reason = f"has the name of {first[name]}: name the folder above both, or rename one"
                raise DataError(reason, file=str(path))
            names[path] = name
    return names


def read_scans(
    names: dict[Path, str], options: ScanOptions, workers: int
) -> Generator[ScannedFile | ScanError, None, None]:
    """Each file read, or the reason why it cannot be, in the order of the files.

    With several workers each has its own engine and models (some 500 MB). They finish their page when the iterator is
    closed, and end with this process. Raises UserError if one of them is ended.
    """
    read = partial(_read, options)
    if workers == 1 or len(names) < 2:
        yield from map(read, names, names.values())
        return
    context = multiprocessing.get_context("spawn")  # threads of this process do not survive a fork
    pool = ProcessPoolExecutor(min(workers, len(names)), context, initializer=_start_worker)
    try:
        yield from pool.map(read, names, names.values())
    except BrokenProcessPool as error:
        reason = "a process that reads scans was ended, most likely for want of memory"
        raise UserError(f"{reason}: run the command again with fewer --workers; what was read is kept") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read(options: ScanOptions, path: Path, name: str) -> ScannedFile | ScanError:
    try:
        read = tuple(read_scan(path, options=options, on_page=lambda number, count: None))
        with path.open("rb") as file:
            return ScannedFile(path, name, hashlib.file_digest(file, "sha256").hexdigest(), read)
    except ScanError as error:
        return error


def _start_worker() -> None:
    """Leave Ctrl-C to the process that started this one, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)  # the queue of calls never ends, since this process holds its writing side too

    threading.Thread(target=end_with_parent, daemon=True).start()

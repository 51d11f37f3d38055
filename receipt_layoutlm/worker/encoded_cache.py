"""Cache of encoded pages, shared by attempts and machines: below the worker's work_dir and in the bucket.

It only saves time. A failure on the disk or in the bucket is a warning, and the trainer encodes.
"""

import logging
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.paths import FolderRefused, make_own_folder
from receipt_layoutlm.references import fingerprint_of
from receipt_layoutlm.run.directory import ENCODED, RunDir, encoded_prefix
from receipt_layoutlm.run.manifest import MANIFEST, DamagedFolder
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import NotStored, StorageError

log = logging.getLogger(__name__)

DISK_BYTES: Final = 4 << 30  # on this disk: some 750,000 receipts of 120 words
END_PATIENCE_SECONDS: Final = 20.0  # for an upload that still runs when its job has ended


@dataclass(frozen=True)
class Entry:
    """Encoded pages of one snapshot: the link in the run directory, the folder on disk, the prefix in the bucket."""

    link: Path
    folder: Path
    prefix: str


class EncodedCache:
    """The cache for one attempt: fetched before its trainer starts, and updated on a thread while it trains.

    Only the end of the block waits for the thread, and only if `may_wait` allows.
    """

    def __init__(self, bucket: Bucket, may_wait: Callable[[], bool]) -> None:
        self._bucket, self._may_wait = bucket, may_wait
        self._entries: list[Entry] = []
        self._given_up = threading.Event()
        self._pool = ThreadPoolExecutor(1, "encoded")
        self._running: Future[None] | None = None

    def fetch(self, entries: list[Entry]) -> None:
        self._entries = entries
        fetch_entries(self._bucket, entries)

    def keep(self) -> None:
        self._running = self._pool.submit(keep_entries, self._bucket, self._entries, self._given_up)
        self._running.add_done_callback(_log_error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._running is not None and self._may_wait():
            wait([self._running], END_PATIENCE_SECONDS)
        self._given_up.set()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _log_error(done: Future[None]) -> None:
    """Log an unexpected error, which must not end the job."""
    if not done.cancelled() and (error := done.exception()) is not None:
        log.warning("encoded pages are not cached: %r", error)


def entries_of(config: TrainConfig, run_dir: RunDir, work_dir: Path, prefix: str) -> list[Entry]:
    """One entry for each snapshot of a job. `prefix` is that of the job's storage."""
    links = [(config.dataset, run_dir.encoded)]
    if config.eval_dataset is not None:
        links.append((config.eval_dataset, run_dir.eval_encoded))
    names = [(config.encoded_name(fingerprint_of(dataset)), link) for dataset, link in links]
    return [
        Entry(link, (work_dir / ENCODED / name).absolute(), encoded_prefix(name, prefix))
        for name, link in names
        if name is not None
    ]


def fetch_entries(bucket: Bucket, entries: list[Entry]) -> None:
    """Link the entries into the run directory, downloading those missing on this disk; the trainer makes the rest."""
    for entry in entries:
        try:
            make_own_folder(entry.folder.parent)  # encoded pages are trusted
            entry.link.symlink_to(entry.folder)
            if (entry.folder / MANIFEST).exists():
                os.utime(entry.folder)  # its age counts from its last use
            else:
                _download(bucket, entry)
        except (StorageError, FolderRefused, OSError) as error:
            log.warning("encoded pages cannot be fetched, so the trainer encodes: %s", error)


def _download(bucket: Bucket, entry: Entry) -> None:
    if not bucket.exists(entry.prefix + MANIFEST):
        return
    partial = entry.folder.with_name(f".{entry.folder.name}.{os.getpid()}.download")
    try:
        bucket.get_folder(entry.prefix, partial)
        with suppress(OSError):  # another worker on this machine was quicker
            partial.rename(entry.folder)
    except DamagedFolder as error:
        log.warning("encoded pages in the bucket are damaged, so the trainer encodes: %s", error)
        bucket.delete_prefix(entry.prefix)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def keep_entries(bucket: Bucket, entries: list[Entry], given_up: threading.Event) -> None:
    """Upload entries that the bucket lacks or has with other content; then free disk space."""
    for entry in entries:
        try:
            _upload(bucket, entry, given_up)
        except (StorageError, DamagedFolder, OSError) as error:
            log.warning("encoded pages are not cached in the bucket: %s", error)
    folders = {entry.folder for entry in entries}
    for parent in {folder.parent for folder in folders}:
        make_room(parent, DISK_BYTES, folders)


def _upload(bucket: Bucket, entry: Entry, given_up: threading.Event) -> None:
    if not (entry.folder / MANIFEST).exists():
        return
    stored = None
    with suppress(NotStored):
        stored = bucket.get_bytes(entry.prefix + MANIFEST)
    if stored == (entry.folder / MANIFEST).read_bytes():
        return
    if stored is not None:  # made with another tokenizer under the same name
        bucket.delete_prefix(entry.prefix)
    bucket.folder_upload(entry.folder, entry.prefix, given_up.is_set).run()


def make_room(parent: Path, limit: int, in_use: set[Path]) -> None:
    """Remove the least recently used folders until the rest takes at most `limit` bytes."""
    try:
        ages = sorted((folder.stat().st_mtime, folder) for folder in parent.iterdir())
    except OSError:
        return
    sizes = {folder: _size(folder) for _, folder in ages}
    total = sum(sizes.values())
    for _, folder in ages:
        if total > limit and folder not in in_use:
            shutil.rmtree(folder, ignore_errors=True)
            total -= sizes[folder]


def _size(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.iterdir())
    except OSError:  # another worker made room meanwhile
        return 0

"""Encoded pages that attempts and machines share: a folder below the worker's work_dir, and a copy in the bucket.

They only save time. Trouble with them, on the disk or in the bucket, is a warning: then the trainer encodes.
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
from receipt_layoutlm.references import fingerprint_of
from receipt_layoutlm.run.directory import RunDir, encoded_name, encoded_prefix
from receipt_layoutlm.run.manifest import MANIFEST, DamagedFolder
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import NotStored, StorageError

log = logging.getLogger(__name__)

FOLDER: Final = ".encoded"
DISK_BYTES: Final = 4 << 30  # kept on this disk: some 750,000 receipts of 120 words
END_PATIENCE_SECONDS: Final = 20.0  # for an upload that still runs when its job has ended


@dataclass(frozen=True)
class Entry:
    """The encoded pages of one snapshot: where the run directory shows them, where they lie, and their copy."""

    link: Path
    folder: Path
    prefix: str


class Sharing:
    """Of one attempt: fetch before its trainer starts; when it has its pages, keep what is new on a thread beside it.

    Nobody waits for the thread but the end of the block, and that only while `may_wait` says so.
    """

    def __init__(self, bucket: Bucket, may_wait: Callable[[], bool]) -> None:
        self._bucket, self._may_wait = bucket, may_wait
        self._entries: list[Entry] = []
        self._given_up = threading.Event()
        self._pool = ThreadPoolExecutor(1, "encoded")
        self._running: Future[None] | None = None

    def fetch(self, entries: list[Entry]) -> None:
        self._entries = entries
        fetch(self._bucket, entries)

    def keep(self) -> None:
        self._running = self._pool.submit(keep, self._bucket, self._entries, self._given_up)
        self._running.add_done_callback(_say)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._running is not None and self._may_wait():
            wait([self._running], END_PATIENCE_SECONDS)
        self._given_up.set()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _say(done: Future[None]) -> None:
    """An error that nobody expected: the job goes on, and the log has it."""
    if not done.cancelled() and (error := done.exception()) is not None:
        log.warning("encoded pages are not kept: %r", error)


def entries_of(config: TrainConfig, run_dir: RunDir, work_dir: Path, prefix: str) -> list[Entry]:
    """One for each snapshot of a job. `prefix` is that of the job's storage."""
    links = [(config.dataset, run_dir.encoded)]
    if config.eval_dataset is not None:
        links.append((config.eval_dataset, run_dir.eval_encoded))
    names = [encoded_name(config, fingerprint_of(dataset)) for dataset, _ in links]
    return [
        Entry(link, (work_dir / FOLDER / name).absolute(), encoded_prefix(name, prefix))
        for name, (_, link) in zip(names, links, strict=True)
    ]


def fetch(bucket: Bucket, entries: list[Entry]) -> None:
    """Show the run directory what is on this disk, or else in the bucket; what is nowhere the trainer will make."""
    for entry in entries:
        try:
            entry.link.symlink_to(entry.folder)
            if (entry.folder / MANIFEST).exists():
                os.utime(entry.folder)  # its age counts from its last use
            else:
                _download(bucket, entry)
        except (StorageError, OSError) as error:
            log.warning("encoded pages cannot be fetched, they are made anew: %s", error)


def _download(bucket: Bucket, entry: Entry) -> None:
    if not bucket.exists(entry.prefix + MANIFEST):
        return
    partial = entry.folder.with_name(f".{entry.folder.name}.{os.getpid()}.download")
    try:
        bucket.get_folder(entry.prefix, partial)
        with suppress(OSError):  # another worker on this machine was quicker
            partial.rename(entry.folder)
    except DamagedFolder as error:
        log.warning("encoded pages in the bucket are damaged, they are made anew: %s", error)
        bucket.delete_prefix(entry.prefix)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def keep(bucket: Bucket, entries: list[Entry], given_up: threading.Event) -> None:
    """Copy what the bucket lacks, or has otherwise, from this disk; then make room here."""
    for entry in entries:
        try:
            _upload(bucket, entry, given_up)
        except (StorageError, DamagedFolder, OSError) as error:
            log.warning("encoded pages are not kept in the bucket: %s", error)
    folders = {entry.folder for entry in entries}
    for parent in {folder.parent for folder in folders}:
        make_room(parent, DISK_BYTES, folders)


def _upload(bucket: Bucket, entry: Entry, given_up: threading.Event) -> None:
    if not (entry.folder / MANIFEST).exists():
        return
    stored = _stored_manifest(bucket, entry)
    if stored == (entry.folder / MANIFEST).read_bytes():
        return
    if stored is not None:  # made with another tokenizer under the same name
        bucket.delete_prefix(entry.prefix)
    bucket.folder_upload(entry.folder, entry.prefix, given_up.is_set).run()


def _stored_manifest(bucket: Bucket, entry: Entry) -> bytes | None:
    try:
        return bucket.get_bytes(entry.prefix + MANIFEST)
    except NotStored:
        return None


def make_room(parent: Path, limit: int, in_use: set[Path]) -> None:
    """Remove the folders that were not used for longest, until the rest takes at most `limit` bytes."""
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

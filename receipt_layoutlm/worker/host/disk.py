"""Frees worker disk space by evicting old run directories and caches.

Only for a work_dir of the worker's own: everything evicted is in the bucket or can be downloaded again.
"""

import logging
import os
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from receipt_layoutlm.paths import make_folders
from receipt_layoutlm.run.directory import ATTEMPTS, ENCODED

log = logging.getLogger(__name__)

CHECK_SECONDS = 30.0  # between two checks while a job trains


def free_bytes(folder: Path) -> int:
    """Bytes available to an ordinary user on the file system of a folder."""
    return shutil.disk_usage(folder).free


class DiskWatch:
    """Keeps at least `min_free` bytes free below `work_dir`. `caches` are folders that may be emptied.

    `jobs_in_hand` returns the job ids of every worker of this machine, which may share one work_dir.
    """

    def __init__(
        self,
        work_dir: Path,
        min_free: int,
        caches: Sequence[Path] = (),
        jobs_in_hand: Callable[[], Collection[str]] = frozenset,
        free: Callable[[Path], int] = free_bytes,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work_dir, self._min_free = work_dir, min_free
        self._caches, self._jobs_in_hand = caches, jobs_in_hand
        self._free, self._monotonic = free, monotonic
        self._check_at = float("-inf")
        self._has_warned = False

    def before_claim(self) -> str | None:
        """Free space; returns why no job can be claimed when that is not enough."""
        make_folders(self._work_dir)
        self._remove([*self._attempts(None), *self._cached()])
        return None if self._has_room() else self._shortage()

    def while_training(self, run_dir: Path) -> None:
        """Free space at intervals, sparing the run directory in use and the caches."""
        if self._monotonic() < self._check_at:
            return
        self._check_at = self._monotonic() + CHECK_SECONDS
        self._remove(self._attempts(run_dir))
        if not self._has_room() and not self._has_warned:
            log.warning("%s; checkpoints may fail", self._shortage())
        self._has_warned = not self._has_room()

    def _has_room(self) -> bool:
        return self._free(self._work_dir) >= self._min_free

    def _shortage(self) -> str:
        free = self._free(self._work_dir)
        return f"{free / 1e9:.1f} GB are free below {self._work_dir}, of {self._min_free / 1e9:.1f} GB required"

    def _attempts(self, in_use: Path | None) -> list[Path]:
        """Run directories that no worker is using, oldest first."""
        jobs = self._jobs_in_hand()
        unused = [path for path in run_directories(self._work_dir) if path.parent.name not in jobs]
        return sorted((path for path in unused if in_use is None or path.absolute() != in_use.absolute()), key=_age)

    def _cached(self) -> Iterator[Path]:
        for cache in (self._work_dir / ENCODED, *self._caches):
            yield from sorted(_entries(cache), key=_age)

    def _remove(self, folders: Sequence[Path]) -> None:
        """Remove folders in order until enough space is free."""
        for folder in folders:
            if self._has_room():
                return
            log.info("the disk is nearly full: removing %s", folder)
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # a file or a link, not what it points at
                folder.unlink()


def run_directories(work_dir: Path) -> list[Path]:
    """Run directories of all attempts below a work folder. No link is followed."""
    return [attempt for job in _folders(work_dir / ATTEMPTS) for attempt in _folders(job)]


def remove_run_directories(work_dir: Path, chosen: Iterable[Path]) -> None:
    """Remove run directories, and the links by which they were found. All of it is in the bucket."""
    for path in chosen:
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):  # it holds other attempts of the job
            path.parent.rmdir()
    for link in _entries(work_dir):
        if link.is_symlink() and not link.exists() and link.readlink().is_relative_to((work_dir / ATTEMPTS).absolute()):
            link.unlink()


def _folders(parent: Path) -> list[Path]:
    return [path for path in _entries(parent) if path.is_dir() and not path.is_symlink()]


def _entries(parent: Path) -> list[Path]:
    """Contents of a folder of this user; nothing of a link, which may lead out of the work folder, or of another's."""
    try:
        found = parent.lstat()
        is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
        return list(parent.iterdir()) if is_own else []
    except OSError:  # it is missing, or was removed meanwhile
        return []


def _age(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:  # another worker made room meanwhile
        return 0.0

"""Room on the disk of a worker: old run directories and caches go before a job suffers.

Only for a work_dir that is the worker's own: what it removes is in the bucket, or can be fetched again.
"""

import logging
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from receipt_layoutlm.worker.encoded_cache import FOLDER

log = logging.getLogger(__name__)

LOOK_SECONDS = 30.0  # between two looks while a job trains


def free_bytes(folder: Path) -> int:
    """What anybody may still write to the file system of a folder."""
    return shutil.disk_usage(folder).free


class DiskWatch:
    """Sees that at least `min_free` bytes are free below `work_dir`. `caches` are folders that may be emptied.

    `jobs_in_hand` tells the ids of the jobs of every worker here: several may share one work_dir.
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
        self._look_at = float("-inf")
        self._has_warned = False

    def before_claim(self) -> str | None:
        """Make room; why no job can be taken, when that is not enough."""
        self._work_dir.mkdir(parents=True, exist_ok=True)
        self._remove([*self._attempts(None), *self._cached()])
        return None if self._has_room() else self._lack()

    def while_training(self, run_dir: Path) -> None:
        """From time to time make room, without what the attempt in hand reads or writes."""
        if self._monotonic() < self._look_at:
            return
        self._look_at = self._monotonic() + LOOK_SECONDS
        self._remove(self._attempts(run_dir))
        if not self._has_room() and not self._has_warned:
            log.warning("%s; checkpoints may fail", self._lack())
        self._has_warned = not self._has_room()

    def _has_room(self) -> bool:
        return self._free(self._work_dir) >= self._min_free

    def _lack(self) -> str:
        free = self._free(self._work_dir)
        return f"{free / 1e9:.1f} GB are free below {self._work_dir}, and {self._min_free / 1e9:.1f} GB are wanted"

    def _attempts(self, in_use: Path | None) -> list[Path]:
        """Run directories of attempts that nobody works on, the oldest first."""
        jobs = self._jobs_in_hand()
        found = [path for path in self._work_dir.glob(".attempts/*/*") if path.parent.name not in jobs]
        return sorted((path for path in found if in_use is None or not _same(path, in_use)), key=_age)

    def _cached(self) -> Iterator[Path]:
        for cache in (self._work_dir / FOLDER, *self._caches):
            if cache.exists():
                yield from sorted(cache.iterdir(), key=_age)

    def _remove(self, folders: Sequence[Path]) -> None:
        """One after the other, until there is room."""
        for folder in folders:
            if self._has_room():
                return
            log.info("the disk is nearly full: %s is removed", folder)
            shutil.rmtree(folder, ignore_errors=True)
            if folder.exists():
                folder.unlink(missing_ok=True)


def _age(path: Path) -> float:
    return path.lstat().st_mtime


def _same(one: Path, other: Path) -> bool:
    return one.absolute() == other.absolute()

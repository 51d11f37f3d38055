"""Writes checkpoints on a thread of their own, from a copy of the state, so that training goes on meanwhile."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from safetensors import SafetensorError

WRITE_ERRORS = (OSError, SafetensorError)  # a full disk is either, by who met it


class CheckpointWriter:
    """One checkpoint at a time; the next one waits for it.

    A checkpoint that cannot be written is told to `on_error` and training goes on: the next one may fit.
    `failed` says whether the last one was such, so that nobody takes the run for saved.
    """

    def __init__(self, on_error: Callable[[str], None]) -> None:
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._on_error = on_error
        self._running: Future[None] | None = None
        self.failed = False

    @property
    def is_busy(self) -> bool:
        return self._running is not None and not self._running.done()

    def start(self, write: Callable[[], None]) -> None:
        """Run `write` on the thread, after the one before is done; raises what that one raised."""
        self.wait()
        self._running = self._pool.submit(self._write, write)

    def wait(self) -> None:
        """Until nothing is being written; raises what was raised there."""
        if self._running is not None:
            self._running.result()
            self._running = None

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
            self.failed = False
        except WRITE_ERRORS as error:
            self.failed = True
            self._on_error(str(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()  # what is being written is finished: its event comes before the run's last

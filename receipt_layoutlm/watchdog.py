"""Ends a trainer that does not move, or that has used up the running time of its job."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from receipt_dynamo import Attempt


class Watchdog:
    """Looks at the size of events.jsonl alone: each step, evaluation and checkpoint makes it grow."""

    def __init__(
        self,
        events: Path,
        hang_timeout: float,
        runtime_left: float | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._events = events
        self._hang_timeout = hang_timeout
        self._monotonic = monotonic
        self._moved_at = monotonic()
        self._size = self._size_now()
        self._ends_at = float("inf") if runtime_left is None else self._moved_at + runtime_left

    def verdict(self) -> Literal["hang", "max_runtime"] | None:
        """Why the trainer has to end now; None while it may go on."""
        now, size = self._monotonic(), self._size_now()
        if size != self._size:
            self._size, self._moved_at = size, now
        if now >= self._ends_at:  # first: a hang would be tried again
            return "max_runtime"
        return "hang" if now - self._moved_at >= self._hang_timeout else None

    def _size_now(self) -> int:
        try:
            return self._events.stat().st_size
        except FileNotFoundError:
            return 0


def ran_before(attempts: Sequence[Attempt]) -> float:
    """Seconds that a job's ended attempts ran, together; a person who retries the job for its time gives it anew."""
    seconds = 0.0
    for each in attempts:
        if each.ended_at is not None:
            seconds += (each.ended_at - each.started_at).total_seconds()
        if each.outcome == "failed: max_runtime":
            seconds = 0.0
    return seconds

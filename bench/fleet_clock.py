"""Simulated time: a clock and the events that are due, in order."""

import contextlib
import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

BEGINS = datetime(2026, 1, 5, 9, tzinfo=UTC)


@dataclass
class Clock:
    """The current simulated time, and the calls that are scheduled for later. Calls of one moment keep their order."""

    time: datetime = BEGINS
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __call__(self) -> datetime:
        return self.time

    @property
    def seconds(self) -> float:
        return (self.time - BEGINS).total_seconds()

    @contextlib.contextmanager
    def set_to(self, seconds: float) -> Iterator[None]:
        now, self.time = self.time, BEGINS + timedelta(seconds=seconds)
        yield
        self.time = now

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.seconds + seconds, next(self._numbers), call))

    def run(self, is_over: Callable[[], bool], max_seconds: float) -> None:
        """Make the scheduled calls until the simulation is over or the time is up."""
        while not is_over():
            at, _, call = heapq.heappop(self._events)
            if at > max_seconds:
                return
            self.time = BEGINS + timedelta(seconds=at)
            call()

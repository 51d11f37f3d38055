"""Prefetches the next step's batches on a background thread."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Makes things by number, and if enabled the next one on a thread while the present one is in use.

    Hides packing and copying on a GPU; a CPU has no time to spare for it.
    """

    def __init__(self, is_enabled: bool) -> None:
        self._pool = ThreadPoolExecutor(1, "prefetch") if is_enabled else None
        self._pending: tuple[tuple[int, int], Future[T]] | None = None

    def get(self, make: Callable[[int], T], series: int, number: int, count: int) -> T:
        """Result of `make(number)`, one of `count` in this series; raises what it raises."""
        if self._pending is not None and self._pending[0] == (series, number):
            made = self._pending[1].result()
        else:
            made = make(number)
        self._pending = None
        if self._pool is not None and number + 1 < count:
            self._pending = (series, number + 1), self._pool.submit(make, number + 1)
        return made

"""What the next optimizer step needs, made while this one computes."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Makes things by number, and with `is_ahead` the next one on a thread while the one before is in use.

    On a GPU that hides the packing and copying; a CPU has no time of its own for it.
    """

    def __init__(self, is_ahead: bool) -> None:
        self._pool = ThreadPoolExecutor(1, "ahead") if is_ahead else None
        self._coming: tuple[tuple[int, int], Future[T]] | None = None

    def take(self, make: Callable[[int], T], series: int, number: int, count: int) -> T:
        """What `make` makes of the number, of `count` in this series; raises what it raises."""
        if self._coming is not None and self._coming[0] == (series, number):
            made = self._coming[1].result()
        else:
            made = make(number)
        self._coming = None
        if self._pool is not None and number + 1 < count:
            self._coming = (series, number + 1), self._pool.submit(make, number + 1)
        return made

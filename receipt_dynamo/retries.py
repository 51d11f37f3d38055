"""Retries: random pauses between tries, within the bounds of a policy, until a stop condition holds.

Every loop that waits for a table or a bucket takes its pauses from here; which errors it retries is its own rule.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

_RNG: Final = random.SystemRandom()  # forked processes would draw the same pauses from a copied state


@dataclass(frozen=True)
class RetryPolicy:
    """Bounds of a pause in seconds. The upper bound doubles after each pause, up to `longest`."""

    first: float
    longest: float
    shortest: float = 0.0


CONFLICT: Final = RetryPolicy(first=1.0, longest=1.0, shortest=0.05)  # of transactions, which take milliseconds
THROTTLING: Final = RetryPolicy(first=0.1, longest=10.0)


class Pauses:
    """The pauses of one action. `wait` may end early, as an Event's does; then `give_up` says why."""

    def __init__(
        self,
        policy: RetryPolicy,
        give_up: Callable[[], bool],
        wait: Callable[[float], object],
        rng: random.Random = _RNG,
    ) -> None:
        self._policy, self._give_up, self._wait, self._rng = policy, give_up, wait, rng
        self._bound = policy.first

    @classmethod
    def within(
        cls,
        seconds: float,
        policy: RetryPolicy,
        monotonic: Callable[[], float],
        sleep: Callable[[float], object],
    ) -> Self:
        """Pauses that are given up so many seconds from now."""
        deadline = monotonic() + seconds
        return cls(policy, lambda: monotonic() >= deadline, sleep)

    def pause(self) -> bool:
        """Wait before the next try and return True; return False at once when it is time to give up."""
        if self._give_up():
            return False
        self._wait(self._rng.uniform(self._policy.shortest, self._bound))
        self._bound = min(2 * self._bound, self._policy.longest)
        return True

"""Pairs of overlapping looks: the real scaler, two looks at once on one table and one group.

    python bench/fleet_overlaps.py [--pairs 200] [--without-lock]

While the first look of a pair is at a random one of its requests to the group, the second begins, and the first goes on
once the second waits for the lock, or has ended. Between requests the group launches what was ordered, jobs are
submitted and claimed. Counted are pairs of which a look lowered the capacity under a machine that was starting while
jobs waited, or below what the other one had ordered a moment before.
"""

import argparse
import random
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fleet_simulation import engine

from receipt_dynamo import DynamoClient, FleetRows, JobQueue
from receipt_layoutlm.fleet.scaler.figures import Scaler
from receipt_layoutlm.fleet.scaler.group import Group, GroupChanged, GroupFigures
from receipt_layoutlm.fleet.scaler.lock import look_alone
from receipt_layoutlm.fleet.scaler.look import look

MAXIMUM = 10
REQUESTS = 2  # of a look that orders machines: it reads the group, and sets its capacity
SECONDS = 60.0  # nobody waits longer for the other look


@dataclass
class OverlappedGroup:
    """A group that launches what is ordered between two requests, and keeps what the looks set."""

    rng: random.Random
    now: Callable[[], datetime]
    between: Callable[[], None] = lambda: None  # called before each request
    desired: int = 0
    machines: list[str] = field(default_factory=list)
    set_to: list[int] = field(default_factory=list)
    lowered_under: int = 0  # machines that were starting

    def seen(self) -> Group:
        return Group(
            name="group",
            queue="default",
            maximum=MAXIMUM,
            read=self._read,
            launches=lambda _since: [],
            raise_to=self._raise_to,
            lower_to=self._lower_to,
            replace=lambda _instance_id: None,
            failure=lambda: None,
        )

    def _read(self) -> GroupFigures:
        self.between()
        there = frozenset(self.machines)
        return GroupFigures(self.desired, MAXIMUM, there, None, self.now(), starting=there)

    def _raise_to(self, capacity: int) -> None:
        """As AWS: whatever is set last counts, also when it is less than was set a moment before."""
        self.between()
        self._set(capacity)

    def _lower_to(self, capacity: int, seen: GroupFigures) -> None:
        self.between()
        if (self.desired, frozenset(self.machines)) != (seen.desired, seen.instances):
            raise GroupChanged("it has changed since it was read")
        self._set(capacity)

    def _set(self, capacity: int) -> None:
        self.desired = capacity
        self.set_to.append(capacity)
        self.lowered_under += max(0, len(self.machines) - capacity)
        del self.machines[capacity:]

    def launch(self) -> None:
        """Some of the ordered machines start."""
        for _ in range(self.rng.randint(0, max(0, self.desired - len(self.machines)))):
            self.machines.append(f"i-{self.rng.getrandbits(64):016x}")


class Pair:
    """Two looks, the second of which begins at a random request of the first."""

    def __init__(self, client: DynamoClient, seed: int) -> None:
        self.rng, self.time = random.Random(seed), datetime(2026, 5, 1, 12, tzinfo=UTC)
        self.queue = JobQueue(client, now=lambda: self.time, rng=random.Random(seed))
        self.group = OverlappedGroup(self.rng, lambda: self.time)
        self.scaler = Scaler(
            fleet="overlapping",
            queue=self.queue,
            rows=FleetRows(client, lambda: self.time),
            groups=[self.group.seen()],
            slots=1,
            instances=list,
            price=lambda _: 1.0,
            now=lambda: self.time,
        )
        self._job_ids: list[str] = []

    def submit(self, many: int) -> None:
        for _ in range(many):
            job = self.queue.submit(name="job", config={"config_version": 1}, created_by="bench")
            self._job_ids.append(job.job_id)

    def run(self, is_locked: bool) -> None:
        self.submit(self.rng.randint(1, 4))
        at, requests = self.rng.randint(1, REQUESTS), 0
        blocked, first_is_done = threading.Event(), threading.Event()
        second = threading.Thread(target=self._second, args=(is_locked, blocked, first_is_done))

        def overlap() -> None:
            nonlocal requests
            if threading.current_thread() is second:
                return
            requests += 1
            if requests == at:
                self.submit(self.rng.randint(0, 4))
                second.start()
                assert blocked.wait(SECONDS)
                self.group.launch()

        self.group.between = overlap
        self._look(is_locked, lambda _: None)
        first_is_done.set()
        assert requests >= at, "the first look had ended before the second began"
        second.join(SECONDS)
        self.group.launch()
        for job_id in self._job_ids:
            self.queue.cancel(job_id)

    def _second(self, is_locked: bool, blocked: threading.Event, first_is_done: threading.Event) -> None:
        def wait(_seconds: float) -> None:
            blocked.set()
            assert first_is_done.wait(SECONDS)

        self._look(is_locked, wait)
        blocked.set()

    def _look(self, is_locked: bool, wait: Callable[[float], None]) -> None:
        if is_locked:
            look_alone(self.scaler, self._job_ids, wait)
        else:
            look(self.scaler, self._job_ids)

    @property
    def is_wrong(self) -> bool:
        """Whether a look lowered the capacity, although jobs waited all the time."""
        return self.group.lowered_under > 0 or self.group.set_to != sorted(self.group.set_to)


def wrong_pairs(client: DynamoClient, pairs: int, is_locked: bool) -> int:
    """The number of pairs in which a look lowered the capacity."""
    wrong = 0
    for seed in range(pairs):
        pair = Pair(client, seed)
        pair.run(is_locked)
        wrong += pair.is_wrong
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--without-lock", action="store_true", help="the looks do not take the lock")
    options = parser.parse_args()
    with engine() as table:
        wrong = wrong_pairs(table(), options.pairs, not options.without_lock)
    print(f"{options.pairs} pairs of overlapping looks, {wrong} of which lowered the capacity while jobs waited")


if __name__ == "__main__":
    sys.exit(main())

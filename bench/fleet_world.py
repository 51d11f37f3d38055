"""A fleet on a simulated clock: what is submitted, what wakes the scaler, and what is measured on the way.

Real are JobQueue on a real table, `scaler.look` with its rows of the fleet, and `desired_workers` below it. Simulated
are time, the stream, the schedule and the events that wake the scaler, and what fleet_machines.py does.
"""

import contextlib
import heapq
import itertools
import random
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from fleet_machines import NOTICE, SimulatedGroup, SimulatedMachine

from receipt_dynamo import DynamoClient, FleetRows, Job, JobQueue, Timing
from receipt_dynamo.entities import ondemand_queue
from receipt_layoutlm.fleet.scaler.look import Look, Scaler, look

BEGINS = datetime(2026, 1, 5, 9, tzinfo=UTC)
FLEET = "simulated"
QUEUE = "default"

# seconds
SCHEDULE = 300.0
STREAM_WINDOW = 2.0  # in which records are gathered: MaximumBatchingWindowInSeconds of infra/workers.yaml
STREAM_DELAY = (0.3, 4.3)  # from there to the function's first request: four looks a second, and a container's start
LOOK = 1.0  # from there to the capacity raised
EVENT_DELAY = (1.0, 3.0)


@dataclass(frozen=True)
class Conditions:
    """One scenario. Times in seconds; `reclaimed_per_hour` is the share of spot machines that an hour takes away."""

    jobs: int
    job_seconds: float
    maximum: int
    slots: int = 1
    arrivals: tuple[tuple[float, int], ...] = ()  # at, how many; empty: all at once
    reclaimed_per_hour: float = 0.0
    noticed: float = 1.0  # share of reclaims that come with two minutes' notice
    waves: tuple[tuple[float, float], ...] = ()  # at, share of the machines that are reclaimed then
    boot_seconds: float = 240.0  # on average; a tenth more or less
    idle_seconds: float = 300.0
    start_seconds: float = 60.0  # from a claim to the first step
    stop_seconds: float = 20.0  # from a notice that was seen to the checkpoint in the bucket
    checkpoint_seconds: float = 600.0
    broken_from: float = 0.0
    broken_until: float = 0.0  # machines that start between these end themselves instead of taking a job
    races: int = 0  # jobs more that come while a machine ends itself
    drains: str = "yes"  # whether a machine looks once more at its slots before it ends
    wakes_at_ends: str = "yes"
    trials: str = "yes"
    lease_seconds: float = 90.0
    renew_seconds: float = 15.0
    ondemand_maximum: int = 0
    ondemand_after: int = 0
    max_hours: float = 48.0

    @property
    def ideal_hours(self) -> float:
        """Hours of machines that train all jobs, each step once, in all slots: no boot, no start, no waiting."""
        return (self.jobs + self.races) * self.job_seconds / self.slots / 3600


@dataclass
class Found:
    """What a run measured. Waits in seconds."""

    drained_seconds: float = 0.0
    instance_hours: float = 0.0
    machines: int = 0
    reclaimed: int = 0
    busy_ended: int = 0
    taken_from_the_living: int = 0  # jobs that a rescue took from a worker that was alive
    repeated_seconds: float = 0.0  # of training
    waits: list[float] = field(default_factory=list)  # of a released or rescued job, while the one who took it was free
    unnoticed: list[float] = field(default_factory=list)  # from a death without notice to the rescue
    race_waits: list[float] = field(default_factory=list)  # from a submit while the last machine ended to the claim
    raise_waits: list[float] = field(default_factory=list)  # from a submit to the look that raised the capacity
    # from a submit to the first training step, waiting in line included
    cold_starts: list[float] = field(default_factory=list)  # on a machine that was started after the submit
    warm_starts: list[float] = field(default_factory=list)  # on one that was there before
    looks: int = 0
    lowered: int = 0  # looks that left less ordered than there was


@dataclass
class Clock:
    """Simulated time, the same for everyone."""

    time: datetime = BEGINS

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


class World:
    """Everything that happens, in order of time."""

    def __init__(self, client: DynamoClient, conditions: Conditions, seed: int) -> None:
        self.conditions = conditions
        self.clock, self.found, self.rng = Clock(), Found(), random.Random(seed)
        timing = Timing(
            lease_seconds=conditions.lease_seconds,
            renew_seconds=conditions.renew_seconds,
            ondemand_after=conditions.ondemand_after,
        )
        self.queue = JobQueue(client, now=self.clock, rng=random.Random(seed), timing=timing)
        self.puts = 0  # so many times something was put into the queue
        self.job_ids: list[str] = []
        self.completed = 0
        self.races_left = conditions.races
        self.trained: dict[str, float] = {}  # the most that a job was ever trained
        self._died: dict[str, float] = {}  # jobs of machines that are gone without notice
        self._freed: dict[str, float] = {}  # jobs that were released or rescued, and wait
        self._raced: dict[str, float] = {}
        self._submitted: dict[str, float] = {}
        self.groups = [SimulatedGroup(self, QUEUE, conditions.maximum, conditions.reclaimed_per_hour)]
        if conditions.ondemand_maximum:
            self.groups.append(SimulatedGroup(self, ondemand_queue(QUEUE), conditions.ondemand_maximum, 0.0))
        self.rows = FleetRows(client, now=self.clock)
        self._scaler = self._new_scaler()
        self._named: list[str] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def _new_scaler(self) -> Scaler:
        return Scaler(
            fleet=FLEET,
            queue=self.queue,
            rows=self.rows,
            groups=[group.seen() for group in self.groups],
            slots=self.conditions.slots,
            instances=lambda: [machine.paid(BEGINS) for machine in self.machines()],
            price=lambda _: 1.0,
            now=self.clock,
        )

    # time

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.clock.seconds + seconds, next(self._numbers), do))

    def run(self) -> Found:
        """Until every job has ended and every machine is gone, or `max_hours` have passed."""
        for at, many in self.conditions.arrivals or ((0.0, self.conditions.jobs),):
            self.after(at, partial(self._submit_many, many))
        for at, share in self.conditions.waves:
            self.after(at, partial(self._wave, share))
        self.after(self.rng.uniform(0, SCHEDULE), self._schedule)
        while not self._is_over():
            at, _, do = heapq.heappop(self._events)
            if at > self.conditions.max_hours * 3600:
                break
            self.clock.time = BEGINS + timedelta(seconds=at)
            do()
        for machine in self.machines():
            machine.pay()
        return self.found

    def _is_over(self) -> bool:
        all_jobs = self.conditions.jobs + self.conditions.races
        return self.completed == all_jobs and not any(True for _ in self.machines())

    def machines(self) -> Iterator[SimulatedMachine]:
        for group in self.groups:
            yield from list(group.alive.values())

    # jobs

    def _submit_many(self, many: int) -> None:
        for _ in range(many):
            self.submit()

    def submit(self) -> str:
        job_id = str(uuid.UUID(int=self.rng.getrandbits(128), version=4))
        name = f"job-{len(self.job_ids)}"
        self.queue.submit(name=name, config={"config_version": 1}, created_by="bench", job_id=job_id)
        self.job_ids.append(job_id)
        self._submitted[job_id] = self.clock.seconds
        self._claimable(job_id)
        return job_id

    def race(self) -> None:
        """Somebody submits a job while a machine ends."""
        self._raced[self.submit()] = self.clock.seconds

    def _claimable(self, job_id: str) -> None:
        """Idle workers find it, and the stream tells the scaler, which looks once for all records of a moment."""
        self.puts += 1
        if not self._named:
            self.after(STREAM_WINDOW + self.rng.uniform(*STREAM_DELAY), self._by_stream)
        self._named.append(job_id)

    def released(self, job_id: str) -> None:
        self._freed[job_id] = self.clock.seconds
        self._claimable(job_id)

    def died_with(self, job_id: str) -> None:
        self._died[job_id] = self.clock.seconds

    def note_claim(self, instance_id: str) -> None:
        self.rows.note_claim(FLEET, instance_id)

    def trains(self, job_id: str, first_step_at: float, machine_started: float) -> None:
        submitted = self._submitted.pop(job_id, None)
        if submitted is not None:
            found = self.found.cold_starts if machine_started > submitted else self.found.warm_starts
            found.append(first_step_at - submitted)

    def claimed(self, job_id: str, free_since: float) -> None:
        now = self.clock.seconds
        if job_id in self._freed:
            self.found.waits.append(now - max(self._freed.pop(job_id), free_since))
        if job_id in self._raced:
            self.found.race_waits.append(now - self._raced.pop(job_id))

    def succeeded(self) -> None:
        self.completed += 1
        self.found.drained_seconds = self.clock.seconds

    def rescue(self) -> None:
        """An idle worker looks for dead ones. Not sent while nobody is dead: it could find nothing."""
        if self._died:
            self._renew_all()
            self._note_rescued(self.queue.rescue())

    def _renew_all(self) -> None:
        """What living holders would have sent by now, before somebody reads their leases."""
        for machine in self.machines():
            machine.renew()

    def _note_rescued(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            died = self._died.pop(job.job_id, None)
            if died is None:
                self.found.taken_from_the_living += 1
            else:
                self.found.unnoticed.append(self.clock.seconds - died)
            self.released(job.job_id)

    # what wakes the scaler

    def _by_stream(self) -> None:
        named, self._named = self._named, []
        self._look(named)

    def _schedule(self) -> None:
        self._look()
        self.after(SCHEDULE, self._schedule)

    def machine_ended(self) -> None:
        if self.conditions.wakes_at_ends == "yes":
            self.after(self.rng.uniform(*EVENT_DELAY), self._look)

    def _look(self, named: Sequence[str] = ()) -> Look:
        self._renew_all()
        before = [group.desired for group in self.groups]
        seen = look(self._scaler, named)
        assert not seen.errors, seen.errors
        self.found.looks += 1
        self.found.lowered += sum(group.desired < was for group, was in zip(self.groups, before, strict=True))
        if any(each.raised_to is not None for each in seen.groups):
            self.found.raise_waits.append(max(each.oldest_seconds for each in seen.groups) + LOOK)
        self._note_rescued(seen.rescued)
        return seen

    def _wave(self, share: float) -> None:
        for machine in self.machines():
            if self.rng.random() < share:
                machine.will_be_reclaimed(NOTICE)

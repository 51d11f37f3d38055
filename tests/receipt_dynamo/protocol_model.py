"""Schedules of the protocol: people, workers, rescuers, wrong clocks, time and faults, drawn from a seed.

A schedule is a value: the same one runs on the engine and in memory, and one that breaks a rule is made small.
"""

import itertools
import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from receipt_dynamo import DynamoClient
from receipt_layoutlm import infra
from tests.receipt_dynamo.protocol_faults import Broken, Fault, Line
from tests.receipt_dynamo.protocol_store import Engine, Memory, Store, Twin
from tests.receipt_dynamo.protocol_world import ACTORS, CROSSINGS, PRIORITIES, WORKERS, World

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")
Action = Callable[[World, int, Fault | None], None]
STEPS = 12  # actions of a schedule; one is up to eight calls
JOBS = 3
FAULT_SHARE = 0.5  # of the actions meet one
SCHEDULES_OF_A_TABLE = 100
_counter = itertools.count()

_PASSING = (
    ("lost",),
    ("lost", "lost"),
    ("lost", "conflict"),
    ("lost", "throttle", "conflict and a failed condition"),
    ("unsent", "unsent"),
    ("conflict",),
    ("conflict and a failed condition", "lost"),
    ("throttle", "throttle"),
    ("500", "503", "conflict"),
    ("in progress", "in progress", "lost"),
    ("outage",),
)
_DEADLY = (("kill before",), ("kill after",), ("lost", "kill before"), ("conflict", "kill after"))
_ON_READS = (("throttle",), ("throttle", "throttle"), ("500",), ("unsent", "unsent"), ("kill before",))
_STALE = (("stale 1",), ("stale 2",), ("stale 4",))
_CROSSED = tuple((f"meanwhile {what}",) for what in CROSSINGS)

FAULTS = (
    *(Fault("write", 0, kinds) for kinds in (*_PASSING, *_DEADLY)),
    *(Fault("write", 0, (*first, *kinds)) for first in ((), ("conflict",), ("lost",)) for kinds in _CROSSED),
    *(Fault("write", 1, kinds) for kinds in (("lost",), ("conflict",), ("kill before",))),
    *(Fault("read", at, kinds) for kinds in _ON_READS for at in (0, 1)),
    *(Fault("read", 1, kinds) for kinds in _CROSSED),
    *(Fault("read", 0, kinds) for kinds in _STALE * 3),
)
NUMBERS = 16
SKEWS = (0.0, -600.0, 600.0, -115.0, 115.0)  # seconds
WAYS = ("plain", "key", "key", "other key", "goes on")


def one_of(choices: Sequence[T], number: int) -> T:
    return choices[number % len(choices)]


class Tables(Protocol):
    """Where schedules are stored."""

    def open(self) -> str:
        """The table of the next schedule."""

    def leave(self) -> None:
        """Whatever a broken schedule leaves behind must not be seen by the next one."""


@dataclass
class EngineTables:
    """A table for many schedules, whose jobs all end; it is changed before it grows old."""

    admin: "DynamoDBClient"
    name: str = ""
    age: int = 0

    def open(self) -> str:
        if self.age == SCHEDULES_OF_A_TABLE or not self.name:
            self.leave()
            self.age, self.name = 0, f"table-{uuid.uuid4().hex}"
            infra.create_table(self.admin, self.name)
            # the engine's writes slow down with each record of a stream
            self.admin.update_table(TableName=self.name, StreamSpecification={"StreamEnabled": False})
        self.age += 1
        return self.name

    def leave(self) -> None:
        if self.name:
            self.admin.update_table(TableName=self.name, DeletionProtectionEnabled=False)
            self.admin.delete_table(TableName=self.name)
            self.name = ""


@dataclass
class MemoryTables:
    """A table for each schedule."""

    memory: Memory

    def open(self) -> str:
        self.memory.clear()
        return "table"

    def leave(self) -> None:
        pass


class Laboratory:
    """One client for all schedules on a store."""

    def __init__(self, store: Store, tables: Tables) -> None:
        self._tables, self.sent = tables, 0  # requests
        nowhere = "http://127.0.0.1:9"
        self.line = Line(DynamoClient("opened-for-each-schedule", endpoint_url=nowhere, region="us-east-1"), store)

    def broken_rule(self, schedule: "Schedule") -> str | None:
        """The rule that the schedule breaks, with the facts."""
        world = World(self.line, self._tables.open(), f"queue-{next(_counter)}")
        try:
            play(world, schedule)
        except Broken as broken:
            self._tables.leave()
            return str(broken)
        finally:
            self.sent += self.line.sent
        return None


def _work(world: World, number: int, fault: Fault | None) -> None:
    world.work(world.workers[number % WORKERS], 1 + number // WORKERS, fault)


def _go_on(world: World, number: int, fault: Fault | None) -> None:
    world.work(one_of(world.holders() or world.workers, number), 1, fault)


def _renew(world: World, number: int, fault: Fault | None) -> None:
    world.renew(one_of(world.holders() or world.workers, number), fault)


def _ending(how: str, calls: int) -> Action:
    def end(world: World, number: int, fault: Fault | None) -> None:
        for worker in world.holders()[number % WORKERS :][:1] or world.holders()[:1]:
            world.end_worker(worker, how)
            world.work(worker, calls, fault)

    return end


def _waiting(seconds: float) -> Action:
    return lambda world, _number, _fault: world.clock.pass_seconds(seconds)


def _rescue(world: World, number: int, fault: Fault | None) -> None:
    world.rescue(f"rescuer-{number % 2}", fault)


def _late_rescue(world: World, number: int, fault: Fault | None) -> None:
    world.late_rescue(f"rescuer-{number % 2}", fault)


def _scale(world: World, number: int, fault: Fault | None) -> None:
    world.scale(f"scaler-{number % 2}", fault)


def _late_scale(world: World, number: int, fault: Fault | None) -> None:
    world.late_scale((number % 2, number // 2 % 2), fault)


def _look_around_renewals(world: World, number: int, fault: Fault | None) -> None:
    """Two looks, farther apart than a lease lasts, and between them the holders renew."""
    look, name = (world.rescue, "rescuer-0") if number % 2 else (world.scale, "scaler-0")
    look(name)
    world.clock.pass_seconds(60)
    for worker in world.holders():
        world.renew(worker)
    world.clock.pass_seconds(60)
    look(name, fault)


def _submit(world: World, number: int, fault: Fault | None) -> None:
    how, priority = one_of(WAYS, number), one_of(PRIORITIES, number // len(WAYS))
    world.submit(how if len(world.stored) < JOBS else "key", priority, fault)  # a key that is known makes no job


def _cancel(world: World, number: int, fault: Fault | None) -> None:
    for job_id in world.jobs()[number % JOBS :][:1]:
        world.cancel(job_id, fault)


def _retry(world: World, number: int, fault: Fault | None) -> None:
    for job_id in (world.jobs("failed") or world.jobs())[number % JOBS :][:1]:
        world.retry(job_id, fault)


def _damage(world: World, number: int, _fault: Fault | None) -> None:
    for job_id in world.jobs("pending", "interrupted", "running")[number % JOBS :][:1]:
        world.damage(job_id)


def _against(does: Action, *crossings: str) -> Action:
    """The same, while others do something between its reads and its write."""

    def race(world: World, number: int, _fault: Fault | None) -> None:
        crossing = f"meanwhile {one_of(crossings, number)}"
        does(world, number // len(crossings), Fault("write", 0, (crossing,)))

    return race


def _claim(world: World, number: int, fault: Fault | None) -> None:
    for worker in world.idle()[number % WORKERS :][:1] or world.idle()[:1]:
        world.work(worker, 1, fault)


def _two_deaths(world: World, number: int, fault: Fault | None) -> None:
    """A worker dies at once, and the next one falls silent and comes back just when it is rescued."""
    for worker in world.idle()[:1]:
        world.work(worker, 1)
        worker.die()
        _late_rescue(world, number, fault)
        world.work(worker, 1)
        _against(_late_rescue, "holders_work", "holders_renew", "cancel")(world, number, None)


def _cancel_late(world: World, number: int, fault: Fault | None) -> None:
    """A job is cancelled while its holder, who does not hear of it, goes on."""
    for worker in world.holders()[number % WORKERS :][:1] or world.holders()[:1]:
        if worker.lease is not None:
            world.cancel(worker.lease.job_id)
        world.work(worker, 8, fault)


# what may happen next, and its weight
_WEIGHTED: dict[str, tuple[Action, int]] = {
    "work": (_work, 8),
    "go on": (_go_on, 6),
    "renew": (_renew, 2),
    "stop": (_ending("stop", 6), 2),
    "kill": (_ending("kill", 0), 1),
    "hang": (_ending("hang", 1), 2),
    "bad data": (_ending("bad_data", 1), 1),
    "out of memory": (_ending("out_of_memory", 1), 1),
    "wait a minute": (_waiting(60), 1),
    "wait for the lease to end": (_waiting(95), 1),
    "wait an hour": (_waiting(3600), 1),
    "rescue": (_rescue, 2),
    "late rescue": (_late_rescue, 2),
    "scaler": (_scale, 2),
    "late scaler": (_late_scale, 2),
    "scaler against others": (_against(_late_scale, "holders_renew", "holders_work", "cancel", "rescue"), 1),
    "looks around renewals": (_look_around_renewals, 2),
    "rescue against others": (_against(_late_rescue, "holders_renew", "holders_work", "cancel", "rescue"), 2),
    "claim against others": (_against(_claim, "claim", "cancel", "takeover"), 2),
    "cancel against others": (_against(_cancel, "holders_work", "holder_stops", "claim", "rescue"), 1),
    "cancel late": (_cancel_late, 2),
    "two deaths": (_two_deaths, 1),
    "submit": (_submit, 2),
    "cancel": (_cancel, 1),
    "retry": (_retry, 2),
    "damage": (_damage, 1),
}
DOES = {name: action for name, (action, _) in _WEIGHTED.items()}
ACTIONS = tuple(name for name, (_, weight) in _WEIGHTED.items() for _ in range(weight))


@dataclass(frozen=True)
class Schedule:
    """What happens, one after the other."""

    skews: tuple[float, ...]  # of ACTORS
    first: tuple[str, str]  # how the first job is submitted, and its priority
    second: str | None  # priority of another one
    steps: tuple[tuple[str, int, Fault | None], ...]


def drawn(seed: int, number: int) -> Schedule:
    rng = random.Random(f"{seed} {number}")
    steps = [
        (rng.choice(ACTIONS), rng.randrange(NUMBERS), rng.choice(FAULTS) if rng.random() < FAULT_SHARE else None)
        for _ in range(STEPS)
    ]
    skews = tuple(rng.choice(SKEWS) for _ in ACTORS)
    first, second = (rng.choice(WAYS), rng.choice(PRIORITIES)), rng.choice((None, *PRIORITIES))
    return Schedule(skews, first, second, tuple(steps))


def play(world: World, schedule: Schedule) -> None:
    """Raises Broken."""
    world.skews = dict(zip(ACTORS, schedule.skews, strict=True))
    world.submit(*schedule.first)
    if schedule.second is not None:
        world.submit("plain", schedule.second)
    for action, number, fault in schedule.steps:
        DOES[action](world, number, fault)
    world.settle()


def smallest(opened: Laboratory, schedule: Schedule) -> Schedule:
    """Without the steps, faults, skews and jobs that it breaks a rule without."""
    while True:
        shorter = [
            replace(schedule, steps=schedule.steps[:i] + schedule.steps[i + 1 :]) for i in range(len(schedule.steps))
        ]
        calmer = [
            replace(schedule, steps=(*schedule.steps[:i], (*step[:2], None), *schedule.steps[i + 1 :]))
            for i, step in enumerate(schedule.steps)
            if step[2] is not None
        ]
        plainer = [replace(schedule, skews=(0.0,) * len(ACTORS)), replace(schedule, second=None)]
        simpler = [each for each in (*shorter, *calmer, *plainer) if each != schedule]
        found = next((each for each in simpler if opened.broken_rule(each)), None)
        if found is None:
            return schedule
        schedule = found


def prove(opened: Laboratory, schedules: int, seed: int) -> None:
    """Raises, with the smallest schedule, when a rule is broken."""
    for number, what in broken_among(opened, schedules, seed):
        schedule = smallest(opened, drawn(seed, number))
        raise AssertionError(f"schedule {number} of seed {seed}: {what}\n{schedule}\n{opened.broken_rule(schedule)}")


def broken_among(opened: Laboratory, schedules: int, seed: int) -> Iterator[tuple[int, str]]:
    """Of so many schedules, counted from 1, those that break a rule, with the rule."""
    for number in range(1, schedules + 1):
        what = opened.broken_rule(drawn(seed, number))
        if what is not None:
            yield number, what


@contextmanager
def on_engine(endpoint: str, admin: "DynamoDBClient", twin: Memory | None = None) -> Iterator[Laboratory]:
    """Schedules on the engine; with a `twin`, which has to answer each request as the engine does."""
    engine, tables = Engine(endpoint), EngineTables(admin)
    try:
        yield Laboratory(engine if twin is None else Twin(engine, twin), tables)
    finally:
        tables.leave()
        engine.close()


def in_memory() -> Laboratory:
    memory = Memory()
    return Laboratory(memory, MemoryTables(memory))

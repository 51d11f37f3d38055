"""The state machine of the protocol: Hypothesis draws people, workers, rescuers, time and faults.

`counted` runs it schedule by schedule and says in how many a rule was broken.
"""

import itertools
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from receipt_dynamo import DynamoClient
from receipt_layoutlm import infra
from tests.receipt_dynamo.protocol_faults import Broken, Engine, Fault, Line
from tests.receipt_dynamo.protocol_world import ACTORS, CROSSINGS, PRIORITIES, WORKERS, World

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

T = TypeVar("T")
Action = Callable[[World, int, Fault | None], None]
STEPS = 12  # actions of a schedule; one is up to eight calls
JOBS = 3
NO_LIMIT = 1 << 30
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
faults = st.one_of(st.none(), st.sampled_from(FAULTS))
numbers = st.integers(0, 15)
SKEWS = (0.0, -600.0, 600.0, -115.0, 115.0)  # seconds
WAYS = ("plain", "key", "key", "other key", "goes on")


def one_of(choices: Sequence[T], number: int) -> T:
    return choices[number % len(choices)]


@dataclass
class Laboratory:
    """The engine, one client for all schedules, and a table that is changed before it grows old."""

    endpoint: str
    admin: "DynamoDBClient"
    table: str = ""
    count: int = 0  # schedules so far
    age: int = 0  # schedules on this table
    sent: int = 0  # requests
    enough: int = NO_LIMIT
    broken: list[tuple[int, str]] = field(default_factory=list)  # schedule and rule; kept only when counting

    def __post_init__(self) -> None:
        self.engine = Engine(self.endpoint)
        client = DynamoClient("opened-for-each-schedule", endpoint_url=self.endpoint, region="us-east-1")
        self.line = Line(client, self.engine)

    def open_world(self) -> World:
        if self.age == SCHEDULES_OF_A_TABLE or not self.table:
            self._change_table()
        self.count, self.age = self.count + 1, self.age + 1
        return World(self.line, self.engine, self.table, f"queue-{next(_counter)}")

    def _change_table(self) -> None:
        self.close_table()
        self.age = 0
        self.table = f"table-{uuid.uuid4().hex}"
        infra.create_table(self.admin, self.table)
        # the engine's writes slow down with each record of a stream
        self.admin.update_table(TableName=self.table, StreamSpecification={"StreamEnabled": False})

    def close_table(self) -> None:
        if self.table:
            self.admin.update_table(TableName=self.table, DeletionProtectionEnabled=False)
            self.admin.delete_table(TableName=self.table)
            self.table = ""


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


class ProtocolMachine(RuleBasedStateMachine):
    """A thin shell: each rule is one call of the world."""

    laboratory: Laboratory

    def __init__(self) -> None:
        super().__init__()
        self.world = self.laboratory.open_world()
        self.is_over = False

    def act(self, does: Callable[..., None], *given: Any) -> None:
        if self.is_over:
            return
        try:
            does(*given)
        except Broken as broken:
            self.is_over = True
            self.found(str(broken))

    def found(self, what: str) -> None:
        raise AssertionError(what)

    @initialize(
        first=st.sampled_from(PRIORITIES),
        second=st.sampled_from((None, *PRIORITIES)),
        how=st.sampled_from(WAYS),
        skews=st.tuples(*[st.sampled_from(SKEWS)] * len(ACTORS)),
    )
    def first_jobs(self, first: str, second: str | None, how: str, skews: tuple[float, ...]) -> None:
        self.world.skews = dict(zip(ACTORS, skews, strict=True))
        self.act(self.world.submit, how, first)
        if second is not None:
            self.act(self.world.submit, "plain", second)

    # One rule with weights, because Hypothesis leaves out about half of several rules in each schedule.
    @rule(action=st.sampled_from(ACTIONS), number=numbers, fault=faults)
    def step(self, action: str, number: int, fault: Fault | None) -> None:
        self.act(DOES[action], self.world, number, fault)

    def teardown(self) -> None:
        self.act(self.world.settle)
        self.laboratory.sent += self.world.line.sent
        if (
            self.world.stored and self.is_over
        ):  # whatever a broken schedule leaves behind must not be seen by the next one
            self.laboratory.close_table()


class CountingMachine(ProtocolMachine):
    """Notes a broken rule and lets the rest of the schedule pass, so that Hypothesis goes on to the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.is_over = len(self.laboratory.broken) >= self.laboratory.enough

    def found(self, what: str) -> None:
        self.laboratory.broken.append((self.laboratory.count, what))


def settings_for(schedules: int, *phases: Phase) -> settings:
    return settings(
        max_examples=schedules,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        print_blob=True,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def laboratory(endpoint: str, admin: "DynamoDBClient") -> Iterator[Laboratory]:
    opened = Laboratory(endpoint, admin)
    try:
        yield opened
    finally:
        opened.close_table()
        opened.engine.close()


def prove(opened: Laboratory, schedules: int, number: int) -> None:
    """Raises, with the smallest schedule, when a rule is broken."""
    machine = type("Machine", (ProtocolMachine,), {"laboratory": opened})
    run_state_machine_as_test(seed(number)(machine), settings=settings_for(schedules, Phase.generate, Phase.shrink))


def counted(opened: Laboratory, schedules: int, number: int, enough: int = NO_LIMIT) -> list[tuple[int, str]]:
    """Of so many schedules those that broke a rule, with the rule; after `enough` of them the rest do nothing."""
    machine = type("Machine", (CountingMachine,), {"laboratory": opened})
    opened.broken, opened.count, opened.enough = [], 0, enough
    run_state_machine_as_test(seed(number)(machine), settings=settings_for(schedules, Phase.generate))
    return opened.broken

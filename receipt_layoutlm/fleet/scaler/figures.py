"""What a look is given and what it results in: settings and sources, figures of each group, costs."""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field

from receipt_dynamo import FleetRows, Job, JobQueue
from receipt_layoutlm.fleet.scaler.costs import FleetInstance, Spent
from receipt_layoutlm.fleet.scaler.group import Group
from receipt_layoutlm.worker.alerts import Alerts
from receipt_layoutlm.worker.delivery import Deliver, deliver


class ScalerTimes(BaseModel):
    """Minutes that a machine may take until its worker is ready, and be idle; and that a job waits for a spot machine.

    After `ondemand_wait_minutes` without one the job moves to the on-demand group; 0: never.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    boot_deadline_minutes: float = Field(default=20.0, gt=0)
    idle_minutes: float = Field(default=5.0, gt=0)
    ondemand_wait_minutes: float = Field(default=20.0, ge=0)

    @property
    def boot_deadline(self) -> timedelta:
        return timedelta(minutes=self.boot_deadline_minutes)

    @property
    def idle(self) -> timedelta:
        return timedelta(minutes=self.idle_minutes)

    @property
    def ondemand_wait(self) -> timedelta:
        return timedelta(minutes=self.ondemand_wait_minutes)


@dataclass(frozen=True)
class Scaler:
    """Settings and sources of a look. `instances` and `price` meter the fleet; 0 dollars a day is no limit."""

    fleet: str
    queue: JobQueue
    rows: FleetRows
    groups: Sequence[Group]
    slots: int
    instances: Callable[[], Sequence[FleetInstance]]
    price: Callable[[FleetInstance], float | None]
    now: Callable[[], datetime]  # the server's time
    max_cost_per_day: float = 0.0
    times: ScalerTimes = field(default_factory=ScalerTimes)
    deliver: Deliver = deliver

    @cached_property
    def alerts(self) -> Alerts:
        """What the scaler tells about jobs: what no worker sees."""
        return Alerts(self.queue.client, f"scaler of {self.fleet}", self.now, self.deliver)


@dataclass(frozen=True)
class Costs:
    """Rest of the day's dollars (None: no limit), metered cost, and the reason why a limit cannot be enforced."""

    budget: float | None = None
    spent: Spent | None = None
    machines: Sequence[FleetInstance] = ()
    oldest_instance_hours: float = 0.0
    trouble: str = ""


@dataclass(frozen=True)
class GroupLook:
    """Figures of one group, and the capacity that it was set to, or the reason why it was not raised.

    `missing` machines were ordered before and have not come; `busy` ones hold a lease. `waiting` are claimable jobs,
    each with the time since when it is: at most one more than the group has slots. `hold` says why they get no machine.
    """

    group: str
    claimable: int = 0
    running: int = 0
    machines: int = 0
    missing: int = 0
    oldest_seconds: float = 0.0  # time since the longest-waiting job became due
    raised_to: int | None = None
    lowered_to: int | None = None
    reason: str = ""
    hold: str = ""
    waiting: Sequence[tuple[Job, datetime]] = ()
    busy: AbstractSet[str] = frozenset()


@dataclass(frozen=True)
class Look:
    """Results of one look at the whole fleet."""

    rescued: Sequence[Job]
    groups: Sequence[GroupLook]
    costs: Costs
    errors: Sequence[str]
    moved: Sequence[Job] = ()  # to the on-demand queue, because no spot machine came
    replaced: str | None = None  # a machine that did nothing for too long, and is terminated
    unreadable: int = 0  # rows that were passed over

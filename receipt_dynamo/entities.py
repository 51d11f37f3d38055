"""Records of the run store: frozen pydantic models, the only types that callers see.

Times are aware UTC with microseconds; places end in _uri, durations in _seconds.
"""

import random
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from receipt_dynamo.errors import InvalidInput
from receipt_dynamo.notebook import html_table

JsonObject = dict[str, JsonValue]


FIRST_TIME, LAST_TIME = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""Every stored time lies between: a lease or an age added to it is a time as well, in every zone."""


def as_utc(value: datetime) -> datetime:
    """An aware time in UTC. Raises ValueError beyond the years that computing with it takes."""
    # The original system wrote naive times, which meant UTC.
    time = (
        value if value.tzinfo is UTC else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    )
    if not FIRST_TIME <= time < LAST_TIME:
        raise ValueError(f"{time} is before {FIRST_TIME:%Y} or after {LAST_TIME:%Y}")
    return time


Time = Annotated[datetime, AfterValidator(as_utc)]
Count = Annotated[int, Field(ge=0, lt=2**53)]
"""Attempts, steps, renewals, used budgets: exact as a float, and one more still fits into the table."""


def utcnow() -> datetime:
    """Now, as aware UTC."""
    return datetime.now(UTC)


class JobStatus(StrEnum):
    """States of a job; docs/protocol.md draws the transitions."""

    PENDING = "pending"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_claimable(self) -> bool:
        return self in (JobStatus.PENDING, JobStatus.INTERRUPTED)

    @property
    def is_final(self) -> bool:
        """No further transition by itself; a person may retry a failed job."""
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


class Priority(StrEnum):
    """Claim order, the highest first; age decides within one priority."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 for the highest; the leading digit of the queue's sort key."""
        return list(Priority).index(self)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Row(_Record):
    """A record whose repr is one line: the attributes of `shown`, without documents."""

    shown: ClassVar[tuple[str, ...]] = ()

    def __repr_args__(self) -> Iterator[tuple[str, object]]:
        for name in self.shown:
            value = getattr(self, name)
            if value not in (None, ""):
                yield name, value.isoformat() if isinstance(value, datetime) else _plain(value)

    def __str__(self) -> str:
        return repr(self)

    def cells(self) -> dict[str, object]:
        """What a table of such records shows of this one."""
        return {name: getattr(self, name) for name in self.shown}

    def _repr_html_(self) -> str:
        return html_table([self])


def _plain(value: object) -> object:
    """An enum as its value; a text on one line, cut."""
    if not isinstance(value, str):
        return value
    line = " ".join(value.split())
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 1] + "…"


SHOWN_CHARACTERS = 80  # of one text in a repr


class Pointer(_Record):
    """Names one committed checkpoint: runs/{job_id}/attempt-{attempt}/checkpoint-{global_step}/."""

    attempt: Count
    global_step: Count
    manifest_sha256: str


class JobError(_Record):
    """Cause of a failed attempt. FINAL_CAUSES would fail again in the same way, so they are not retried."""

    cause: str
    message: str
    page_ids: tuple[str, ...] = ()
    log_tail: str = ""

    @property
    def is_retryable(self) -> bool:
        return self.cause not in FINAL_CAUSES


FINAL_CAUSES = frozenset({"non_finite_loss", "bad_data", "bad_config", "max_runtime", "cost_limit"})


class Budgets(_Record):
    """Used budgets of a job: errors (reported by a worker) and interruptions (a release, an expired lease)."""

    errors: Count = 0
    interruptions: Count = 0
    errors_in_a_row: Count = 0  # since the checkpoint pointer last moved
    interruptions_in_a_row: Count = 0
    out_of_memory: Count = 0  # errors of that cause; a trainer that the kernel killed for memory is one
    max_errors: Count = 5
    max_errors_in_a_row: Count = 3
    max_interruptions: Count = 20
    max_interruptions_in_a_row: Count = 5

    def unused(self) -> "Budgets":
        """The same limits with nothing used up."""
        return Budgets.model_validate(self.model_dump(include=_LIMITS))

    def after_error(self, cause: str, *, progressed: bool) -> "Budgets":
        return self.model_copy(
            update={
                "errors": self.errors + 1,
                "errors_in_a_row": 1 if progressed else self.errors_in_a_row + 1,
                "interruptions_in_a_row": 0 if progressed else self.interruptions_in_a_row,
                "out_of_memory": self.out_of_memory + (cause == "out_of_memory"),
            }
        )

    def after_interruption(self, *, progressed: bool) -> "Budgets":
        return self.model_copy(
            update={
                "interruptions": self.interruptions + 1,
                "interruptions_in_a_row": 1 if progressed else self.interruptions_in_a_row + 1,
                "errors_in_a_row": 0 if progressed else self.errors_in_a_row,
            }
        )

    @property
    def exhausted_by(self) -> str | None:
        """The exhausted budget in words, or None."""
        if self.errors >= self.max_errors:
            return f"{self.errors} errors"
        if self.out_of_memory >= 2:
            return "running out of memory twice"
        if self.interruptions > self.max_interruptions:
            return f"{self.interruptions} interruptions"
        if self.errors_in_a_row >= self.max_errors_in_a_row:
            return f"{self.errors_in_a_row} errors in a row without a new checkpoint"
        if self.interruptions_in_a_row >= self.max_interruptions_in_a_row:
            return f"{self.interruptions_in_a_row} interruptions in a row without a new checkpoint"
        return None


_LIMITS = {name for name in Budgets.model_fields if name.startswith("max_")}


class Timing(_Record):
    """Timing of the protocol in seconds, the same for every worker and rescuer of a table."""

    lease_seconds: float = 90.0
    renew_seconds: float = 15.0
    stop_before_seconds: float = 10.0  # the trainer is stopped this long before its lease runs out
    rescue_grace_seconds: float = 30.0  # added to the lease, so that clocks may differ by as much
    first_backoff_seconds: float = 30.0
    longest_backoff_seconds: float = 1800.0
    # this many interruptions within the window move a job to the queue of on-demand machines; 0 = never
    ondemand_after: int = 0
    ondemand_window_seconds: float = 3600.0

    def backoff(self, errors_in_a_row: int, rng: random.Random) -> timedelta:
        """Wait before the next attempt: full jitter under a bound that doubles with each error in a row."""
        bound = self.first_backoff_seconds * 2 ** max(0, errors_in_a_row - 1)
        return timedelta(seconds=rng.uniform(0, min(self.longest_backoff_seconds, bound)))


ONDEMAND_SUFFIX = ".ondemand"


def ondemand_queue(queue: str) -> str:
    """The on-demand queue beside a queue of spot machines; an on-demand queue is its own."""
    return queue if queue.endswith(ONDEMAND_SUFFIX) else queue + ONDEMAND_SUFFIX


def spot_queue(queue: str) -> str:
    """The queue of spot machines beside an on-demand queue; any other is its own."""
    return queue.removesuffix(ONDEMAND_SUFFIX)


class Storage(_Record):
    """Location of a job's artifacts: s3://{bucket}/{prefix}runs/{job_id}/…"""

    bucket: str
    prefix: str = ""


def score_of(results: JsonObject) -> float | None:
    """The headline of the best evaluation in a job's results."""
    value = results.get("metric_value")
    return float(value) if isinstance(value, int | float) else None


class Job(_Row):
    """A submitted training run and its state. `job_config` and `results` are opaque documents."""

    shown = ("job_id", "name", "status", "score")

    job_id: str
    name: str
    status: JobStatus
    created_at: Time
    created_by: str
    job_config: JsonObject
    description: str = ""
    priority: Priority = Priority.MEDIUM
    queue: str = "default"
    interrupted_at: tuple[Time, ...] = ()  # its last interruptions, kept where Timing.ondemand_after counts them
    moved_at: Time | None = None  # when it was moved to the on-demand queue, from the queue of spot machines
    attempt: Count = 0  # number of the newest attempt, 0 before the first claim
    budgets: Budgets = Budgets()
    not_before: Time | None = None
    started_at: Time | None = None
    ended_at: Time | None = None
    storage: Storage | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    results: JsonObject | None = None
    promoted_at: Time | None = None  # when its model first came into use; such a job is not deleted
    error: JobError | None = None
    max_cost: float | None = Field(None, gt=0, allow_inf_nan=False)  # US dollars of all its attempts
    notify: str | None = None  # an SNS topic, or the SSM parameter that holds a URL

    @property
    def score(self) -> float | None:
        """The headline of the best evaluation, once the job has succeeded."""
        return score_of(self.results or {})

    def cells(self) -> dict[str, object]:
        return {
            **super().cells(),
            "created_at": self.created_at,
            "attempt": self.attempt,
            "created_by": self.created_by,
        }

    def is_due(self, now: datetime) -> bool:
        """Whether the backoff after an error, if any, is over."""
        return self.not_before is None or self.not_before <= now


class Machine(_Record):
    """Machine of an attempt."""

    instance_type: str | None = None
    spot: bool | None = None
    region: str | None = None
    price_per_hour: float | None = None  # US dollars


class Lease(_Row):
    """The right to work on a job. Attempt number with lease_token: the fence of every worker-side write."""

    shown = ("job_id", "attempt", "worker_id", "expires_at", "progress")

    job_id: str
    attempt: Count
    lease_token: str | None = None
    worker_id: str | None = None
    expires_at: Time | None = None
    renewals: Count = 0
    cancel_requested: bool = False
    progress: str = ""
    checkpoint: Pointer | None = None
    best: Pointer | None = None
    previous: Pointer | None = None  # the resume point before this one, and what was the best then
    previous_best: Pointer | None = None
    deleting_at: Time | None = None  # since when the job is being deleted, which nothing but the deletion ends


class Attempt(_Row):
    """One try at a job, from claim to end."""

    shown = ("job_id", "attempt", "worker_id", "started_at", "outcome")

    job_id: str
    attempt: Count
    worker_id: str
    started_at: Time
    machine: Machine = Machine()
    resume_step: Count = 0
    ended_at: Time | None = None
    outcome: str | None = None
    last_step: int | None = None
    lost_steps: int | None = None
    checkpoints: int | None = None
    # start, encode, train, evaluate, checkpoint, upload, as far as known
    phase_seconds: dict[str, float] = Field(default_factory=dict)
    progress: str = ""  # the last progress of an attempt whose lease expired
    ended_by: str | None = None  # lease_token of the worker that ended it itself; None after a rescue

    @property
    def cost(self) -> float | None:
        """US dollars, when the price per hour is known and the attempt has ended."""
        return None if self.ended_at is None else self.cost_until(self.ended_at)

    def cost_until(self, now: datetime) -> float | None:
        """US dollars until its end, or until now while it runs; None when the price per hour is unknown."""
        if self.machine.price_per_hour is None:
            return None
        return self.machine.price_per_hour * ((self.ended_at or now) - self.started_at).total_seconds() / 3600


class AttemptEnd(_Record):
    """A worker's figures of its attempt at the end."""

    last_step: int | None = None
    lost_steps: int | None = None
    checkpoints: int | None = None
    phase_seconds: dict[str, float] | None = None


class JobMetric(_Row):
    """One evaluation. metric_value is the headline and always greater-is-better."""

    shown = ("job_id", "global_step", "metric_name", "metric_value", "attempt")

    job_id: str
    timestamp: Time
    metric_name: str
    metric_value: float = Field(allow_inf_nan=False)
    precision: float | None = None
    recall: float | None = None
    per_label: dict[str, dict[str, float]] = Field(default_factory=dict)  # label -> precision, recall, f1, support
    train_loss: float | None = None
    eval_loss: float | None = None
    lr: float | None = None
    o_entity_ratio: float | None = None
    epoch: float | None = None
    global_step: int | None = None
    attempt: int | None = None
    seq: int | None = None
    is_best: bool = False
    # further measurements, or further values of rows of the original system
    extras: JsonObject = Field(default_factory=dict)


class JobLog(_Row):
    """One event of a job: run_config first, run_summary last."""

    shown = ("job_id", "timestamp", "level", "event", "message")

    job_id: str
    timestamp: Time
    level: str
    event: str
    message: str
    data: JsonObject = Field(default_factory=dict)
    attempt: int | None = None
    seq: int | None = None


AlertLevel = Literal["info", "warning", "error"]


class Alert(_Row):
    """Something about a job that people want to hear of. Kind and occasion are its only ones of the job.

    The occasion of a final state is its attempt, since a failed job may be retried; other kinds have none.
    """

    shown = ("job_id", "raised_at", "level", "kind", "message")

    job_id: str
    job_name: str
    kind: Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")]
    occasion: Annotated[str, Field(pattern=r"^[0-9]{0,20}$")] = ""
    level: AlertLevel
    message: str
    attempt: Count
    raised_at: Time
    raised_by: str
    delivery: dict[str, str] = {}  # target -> "sent", or why not; empty until it was tried


Event = TypeVar("Event", JobMetric, JobLog)


def later(event: Event) -> Event:
    """The event one microsecond later: two events of a job never share a time."""
    return event.model_copy(update={"timestamp": event.timestamp + timedelta(microseconds=1)})


class Dataset(_Row):
    """A pinned snapshot of pages: datasets/{fingerprint}.jsonl.gz in the bucket."""

    shown = ("name", "fingerprint", "created_at", "source")

    name: str
    created_at: Time
    fingerprint: str
    source: str
    counts: dict[str, int] = {}  # pages, words, groups, size (bytes, compressed)
    labels: dict[str, int] = {}  # entities by label


PAGE_ID_BYTES = 1000  # of a forgotten page, whose id is in a sort key of at most 1,024


def _fits_a_key(page_id: str) -> str:
    if not 0 < len(page_id.encode()) <= PAGE_ID_BYTES:
        raise ValueError(f"a page id must have 1 to {PAGE_ID_BYTES} bytes to be forgotten")
    return page_id


class ForgottenPage(_Record):
    """A page that is excluded from every new snapshot, whatever its source."""

    page_id: Annotated[str, AfterValidator(_fits_a_key)]
    forgotten_at: Time
    forgotten_by: str


class FleetPause(BaseModel):
    """No worker of the fleet claims and no machine is started before `until`."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer scaler may write more

    fleet: str
    reason: str
    paused_at: Time
    until: Time


class FleetCost(BaseModel):
    """US dollars that the machines of a fleet cost on one day (UTC), up to `metered_until`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    fleet: str
    day: date
    dollars: float = 0.0
    metered_until: Time | None = None


class FleetWarmUp(BaseModel):
    """Machines that a person ordered ahead of jobs: until then the scaler does not take the order back."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    fleet: str
    machines: int = Field(ge=0)
    until: Time


class ServedQueue(BaseModel):
    """What the scaler of a fleet remembers of a queue from look to look.

    `ordered_for` are the first jobs for which it ordered machines at `ordered_at`. Since `unfilled_since` machines are
    ordered and none came; `trouble` says why. `returned_at` is when the jobs of an on-demand queue last went back.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer scaler may write more

    queue: str
    fleet: str
    seen_at: Time
    ordered_at: Time | None = None
    ordered_for: tuple[str, ...] = ()
    unfilled_since: Time | None = None
    trouble: str = ""
    returned_at: Time | None = None

    def is_current(self, now: datetime) -> bool:
        """Whether the fleet, which looks every five minutes, has looked lately: else it serves the queue no more."""
        return now - self.seen_at < timedelta(minutes=30)


_UNIQUE_KEYS = uuid.UUID("6f6a1c1e-8f57-5d2a-9f0e-2c7a1f0f3b11")  # namespace of ids made from unique keys


StageName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]


class Promotion(_Record):
    """A version of a stage, such as production. The newest one is in use; a rollback names the model of an earlier one.

    evidence: the gates that were asked, with their figures.
    """

    stage: StageName
    version: Annotated[int, Field(ge=1, le=999_999)]
    action: Literal["promote", "rollback"]
    job_id: str
    job_name: str
    model_uri: str
    manifest_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    promoted_at: Time
    promoted_by: str
    reason: str
    evidence: JsonObject = {}


def new_job_id(unique_key: str | None = None) -> str:
    """A random id, or the fixed id of a key, so that one create-only put decides which submit was first."""
    if unique_key == "":  # an unset variable of a shell, with which all jobs would be one
        raise InvalidInput("the unique key (--unique-key) is empty: give a text, or leave it out")
    return str(uuid.uuid4() if unique_key is None else uuid.uuid5(_UNIQUE_KEYS, unique_key))


def parse_status(status: str) -> JobStatus:
    """Raises InvalidInput for an unknown status."""
    try:
        return JobStatus(status)
    except ValueError:
        raise InvalidInput(f"unknown status {status!r}: use one of {', '.join(JobStatus)}") from None


_JOB_ID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def parse_job_id(job_id: str) -> str:
    """The id in its one spelling; raises InvalidInput when it is no UUID."""
    if _JOB_ID.fullmatch(job_id):
        return job_id
    try:
        return str(uuid.UUID(job_id))
    except ValueError:
        raise InvalidInput(f"malformed job id {job_id!r}: expected a UUID") from None

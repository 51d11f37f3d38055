"""Context of a worker: its identity, policy and host, its queue and buckets."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Literal

from receipt_dynamo import Job, JobQueue, Machine, utcnow
from receipt_layoutlm.redact import secrets_of
from receipt_layoutlm.run.events import Event
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.worker.admission import JobPolicy
from receipt_layoutlm.worker.alerts import Alerts
from receipt_layoutlm.worker.delivery import Deliver, deliver
from receipt_layoutlm.worker.host.disk import DiskWatch
from receipt_layoutlm.worker.host.fleet import FleetMembership
from receipt_layoutlm.worker.host.registry import Registration
from receipt_layoutlm.worker.host.spot import SpotWatch
from receipt_layoutlm.worker.host.systemd import SILENT, Notifier

EndReason = Literal["idle", "drained", "stopped", "leaving"]


@dataclass(frozen=True)
class WorkerIdentity:
    """Name of a worker and type of its machine, as its attempts keep them."""

    worker_id: str
    machine: Machine


@dataclass(frozen=True)
class Host:
    """The machine that a worker runs on. A laptop is a Host with nothing in it."""

    spot: SpotWatch | None = None
    disk: DiskWatch | None = None
    registry: Registration | None = None
    fleet: FleetMembership | None = None
    price_per_hour: Callable[[], float | None] = lambda: None  # US dollars, now
    notifier: Notifier = SILENT
    upkeep: Callable[[], None] = lambda: None  # after each job

    @property
    def is_interrupted(self) -> bool:
        """Whether EC2 is taking this machine away."""
        return self.spot is not None and self.spot.interruption is not None

    @property
    def is_at_risk(self) -> bool:
        """Whether EC2 has said that an interruption has become more likely."""
        return self.spot is not None and self.spot.rebalance_recommended

    @property
    def is_outdated(self) -> bool:
        """Whether this machine of a fleet is so old that it makes room for a new one."""
        return self.fleet is not None and self.fleet.is_outdated()

    def is_paused(self) -> bool:
        """Whether its fleet claims no jobs now."""
        return self.fleet is not None and self.fleet.is_paused()

    def others_busy(self) -> bool:
        """Whether another worker has a job in hand; asked of a fleet's machines only, which end as a whole."""
        return self.fleet is not None and self.registry is not None and self.registry.others_busy()

    @contextmanager
    def busy(self, job_id: str) -> Iterator[None]:
        """Show the other workers of this machine, and its fleet, that a job is in hand inside the block."""
        with ExitStack() as stack:
            if self.registry is not None:
                stack.enter_context(self.registry.busy(job_id))
            if self.fleet is not None:
                self.fleet.record_activity()
                stack.callback(self.fleet.record_activity)
            yield
        self.upkeep()

    def boot_seconds(self, job: Job) -> float | None:
        """Seconds that the job in hand waited for the boot of this machine."""
        if self.fleet is None or self.registry is None or not self.registry.is_first_claim:
            return None
        return self.fleet.boot_seconds(job)


@dataclass(frozen=True)
class WorkerContext:
    """Everything that running a job needs beside its lease. `open_bucket` takes the name of a job's bucket."""

    identity: WorkerIdentity
    policy: JobPolicy
    host: Host
    queue: JobQueue
    open_bucket: Callable[[str], Bucket]
    environment: Mapping[str, str]  # of this process: passed on to the trainer without the secrets in it
    stop: threading.Event  # set by a signal: release the job in hand and end
    drain: threading.Event = field(default_factory=threading.Event)  # finish the job in hand and end
    observe: Callable[[Job, Event], None] = lambda _job, _event: None
    ended: Callable[[str], None] = lambda _job_id: None  # after each attempt, with the id of its job
    now: Callable[[], datetime] = utcnow
    report_command: Sequence[str] = ()  # stores the report of a job, whose id follows; empty: none is made
    report_seconds: float = 60.0  # that it may take
    deliver: Deliver = deliver  # sends an alert to its target

    @property
    def must_stop(self) -> bool:
        """Whether the job in hand has to be released now."""
        return self.stop.is_set() or self.host.is_interrupted

    @property
    def machine(self) -> Machine:
        """The machine with its current price, as an attempt keeps it."""
        return self.identity.machine.model_copy(update={"price_per_hour": self.host.price_per_hour()})

    @property
    def end_reason(self) -> EndReason:
        """Why this worker has ended; infra/terminate_instance.sh acts on the word."""
        if self.host.is_at_risk or self.host.is_interrupted or self.host.is_outdated:
            return "leaving"
        if self.stop.is_set():
            return "stopped"
        return "drained" if self.drain.is_set() else "idle"

    @cached_property
    def alerts(self) -> Alerts:
        """What this worker tells about jobs."""
        return Alerts(self.queue.client, self.identity.worker_id, self.now, self.deliver)

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """Values of the environment that must not leave this machine."""
        return secrets_of(self.environment)

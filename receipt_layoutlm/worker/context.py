"""What a worker works with: its queue, its buckets, whom it trusts, and what may tell it to stop."""

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

from receipt_dynamo import Job, JobQueue, Machine, utcnow
from receipt_layoutlm.redact import secrets_of
from receipt_layoutlm.run.events import Event
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.worker.admission import Trust
from receipt_layoutlm.worker.host.disk import DiskWatch
from receipt_layoutlm.worker.host.spot import SpotWatch
from receipt_layoutlm.worker.host.systemd import SILENT, Notifier

WhyEnded = Literal["idle", "drained", "stopped", "leaving"]


def _ignore(_job: Job, _event: Event) -> None:
    pass


def _no() -> bool:
    return False


def _unknown() -> None:
    return None


def _none_of(_job: Job) -> None:
    return None


@dataclass(frozen=True)
class Workplace:
    """What a worker works with. `open_bucket` is called with a job's bucket name."""

    queue: JobQueue
    open_bucket: Callable[[str], Bucket]
    stop: threading.Event  # set by a signal: give the job back, end
    worker_id: str
    machine: Machine
    trust: Trust
    environment: Mapping[str, str]  # of this process: what the trainer gets of it, and which secrets to strike out
    work_dir: Path | None = None  # overrides the job's own
    drain: threading.Event = field(default_factory=threading.Event)  # finish the job in hand, take no other
    spot: SpotWatch | None = None
    idle_seconds: float = 5.0  # between two looks into an empty queue
    rescue_seconds: float = 20.0  # between two looks for dead workers: 90 + 30 + 20 + 5 < 150 s to be found
    now: Callable[[], datetime] = utcnow
    observe: Callable[[Job, Event], None] = _ignore
    is_paused: Callable[[], bool] = _no  # whether the fleet takes no jobs now
    busy: Callable[[str], AbstractContextManager[object]] = nullcontext  # entered while this job (its id) is in hand
    others_busy: Callable[[], bool] = _no  # whether another worker of this machine has a job in hand
    price_per_hour: Callable[[], float | None] = _unknown  # of this machine now, in US dollars
    boot_seconds: Callable[[Job], float | None] = _none_of  # of its wait, for the first job claimed on a machine
    disk: DiskWatch | None = None
    notify: Notifier = SILENT

    @property
    def must_go(self) -> bool:
        """Whether the job in hand has to be given back now."""
        return self.stop.is_set() or (self.spot is not None and self.spot.interruption is not None)

    @property
    def priced_machine(self) -> Machine:
        """This machine with its price of now, as an attempt keeps it."""
        return self.machine.model_copy(update={"price_per_hour": self.price_per_hour()})

    @property
    def takes_no_more(self) -> bool:
        return self.must_go or self.drain.is_set()

    @property
    def is_at_risk(self) -> bool:
        """Whether EC2 has said that a notice has become more likely."""
        return self.spot is not None and self.spot.rebalance_recommended

    @property
    def why_ended(self) -> WhyEnded:
        """Of a worker that has ended in order: infra/terminate_instance.sh acts on this word."""
        if self.is_at_risk or (self.spot is not None and self.spot.interruption is not None):
            return "leaving"
        if self.stop.is_set():
            return "stopped"
        return "drained" if self.drain.is_set() else "idle"

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """What must not leave this machine."""
        return secrets_of(self.environment)

"""What a worker works with: its queue, its buckets, whom it trusts, and what may tell it to stop."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

from receipt_dynamo import Job, JobQueue, Machine, utcnow
from receipt_layoutlm.events import Event
from receipt_layoutlm.redact import secrets_of
from receipt_layoutlm.s3 import Bucket
from receipt_layoutlm.spot import SpotWatch
from receipt_layoutlm.trust import Trust


def _ignore(_job: Job, _event: Event) -> None:
    pass


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

    @property
    def must_go(self) -> bool:
        """Whether the job in hand has to be given back now."""
        return self.stop.is_set() or (self.spot is not None and self.spot.interruption is not None)

    @property
    def takes_no_more(self) -> bool:
        return self.must_go or self.drain.is_set()

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """What must not leave this machine."""
        return secrets_of(self.environment)

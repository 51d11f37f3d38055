"""A worker process of `chaos`: works on small jobs without a trainer, over a line that loses and refuses requests.

`python -m receipt_layoutlm.jobs.chaos_worker SETTINGS` claims, renews, stores evaluations and checkpoints, and
completes, until it is killed. It notes each claim in a journal, which the checks compare with the table.
"""

import io
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ReadTimeoutError
from botocore.httpsession import URLLib3Session
from pydantic import BaseModel, ConfigDict
from pynamodb.expressions.condition import Condition

from receipt_dynamo import (
    AttemptEnd,
    DynamoClient,
    JobError,
    JobLog,
    JobMetric,
    JobQueue,
    Lease,
    LeaseLost,
    Pointer,
    StoreError,
    Timing,
    queue,
    transitions,
    utcnow,
)
from receipt_dynamo import client as client_module
from receipt_dynamo.items import LeaseItem
from receipt_dynamo.server_clock import ServerClock
from receipt_dynamo.writes import Write

# short, so that a dead worker is missed after seconds; the relations are those of the defaults
TIMING: Final = Timing(
    lease_seconds=3,
    renew_seconds=0.5,
    stop_before_seconds=0.5,
    rescue_grace_seconds=1,
    first_backoff_seconds=0.2,
    longest_backoff_seconds=1,
)
STEPS: Final = 12
CHECKPOINT_STEPS: Final = 3
STEP_SECONDS: Final = 0.1
FAILING_SHARE: Final = 0.005  # of the steps
IDLE_SECONDS: Final = 0.2
Break = Literal["fence", "claim", "pointer", "cancel"]


class WorkerSettings(BaseModel):
    """One worker process. `skew_seconds` is what the clock of its machine is off by, `share` of the requests fail."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    region: str | None
    queue: str
    worker_id: str
    journal: Path
    skew_seconds: float
    share: float
    seed: int
    broken: Break | None


def run_chaos_worker(arguments: Sequence[str]) -> None:
    settings = WorkerSettings.model_validate_json(arguments[0])
    client = DynamoClient(settings.table, region=settings.region)
    client.clock = ServerClock(lambda: utcnow() + timedelta(seconds=settings.skew_seconds))
    client.clock.is_told = True
    client.clock.follow(client.raw)
    rng = random.Random(settings.seed)
    disturb(client, settings.share, rng)
    with broken(settings.broken), settings.journal.open("a") as journal:
        worker, jobs = Worker(client, settings, rng), JobQueue(client, rng=rng, timing=TIMING)
        while True:
            try:
                jobs.rescue()
                lease = jobs.claim(settings.worker_id, settings.queue)
                if lease is None:
                    time.sleep(IDLE_SECONDS)
                    continue
                journal.write(json.dumps([lease.job_id, lease.attempt, lease.lease_token]) + "\n")
                journal.flush()
                worker.run(jobs, lease)
            except StoreError:  # the lease is lost, or the line is: the job is claimed again
                continue


class Worker:
    """Works on one job after another."""

    def __init__(self, client: DynamoClient, settings: WorkerSettings, rng: random.Random) -> None:
        self._client, self._settings, self._rng = client, settings, rng
        self._last: datetime | None = None

    def run(self, jobs: JobQueue, lease: Lease) -> None:
        """From the resume point to the end of the job."""
        self._last = self._client.last_event_at(lease.job_id)
        start = lease.checkpoint.global_step if lease.checkpoint else 0
        deadline = time.monotonic() + TIMING.lease_seconds
        for step in range(start + 1, STEPS + 1):
            if self._rng.random() < FAILING_SHARE:
                jobs.fail(lease, JobError(cause="hang", message="chaos"))
                return
            sent = time.monotonic()
            if sent > deadline - TIMING.stop_before_seconds and self._settings.broken != "fence":
                raise LeaseLost(f"attempt {lease.attempt} was not renewed in time")
            renewed = jobs.renew(lease, f"step {step}")
            deadline = sent + TIMING.lease_seconds
            if renewed.cancel_requested and self._settings.broken != "cancel":
                jobs.acknowledge_cancel(lease)
                return
            time.sleep(STEP_SECONDS)
            lease = self._record(jobs, lease, step)
        summary = JobLog(
            job_id=lease.job_id,
            timestamp=self._next_time(),
            level="info",
            event="run_summary",
            message="chaos",
            attempt=lease.attempt,
            seq=2 * STEPS,
        )
        jobs.complete(lease, results={"attempt": lease.attempt}, summary=summary)

    def _record(self, jobs: JobQueue, lease: Lease, step: int) -> Lease:
        """The evaluation of a step, and its checkpoint, if it has one: in this order."""
        is_due = step % CHECKPOINT_STEPS == 0
        pointer = Pointer(attempt=lease.attempt, global_step=step, manifest_sha256=f"{step:064d}")
        if is_due and self._settings.broken == "pointer":
            lease = jobs.record_checkpoint(lease, pointer, None)
            time.sleep(STEP_SECONDS)
        metric = JobMetric(
            job_id=lease.job_id,
            timestamp=self._next_time(),
            metric_name="chaos",
            metric_value=step / STEPS,
            global_step=step,
            attempt=lease.attempt,
            seq=step,
        )
        self._last = self._client.add_job_metric(lease, metric).timestamp
        if is_due and self._settings.broken != "pointer":
            lease = jobs.record_checkpoint(lease, pointer, None)
        return lease

    def _next_time(self) -> datetime:
        now = self._client.now()
        return now if self._last is None else max(now, self._last + timedelta(microseconds=1))


def disturb(client: DynamoClient, share: float, rng: random.Random) -> None:
    """Let a share of the requests be refused, and as many lose their reply."""
    session = URLLib3Session()

    def before_send(request: AWSPreparedRequest, **_: object) -> AWSResponse | None:
        drawn = rng.random()
        if drawn < share:
            session.send(request)
            raise ReadTimeoutError(endpoint_url=request.url)
        return throttled(request) if drawn < 2 * share else None

    client.raw.meta.events.register_first("before-send.dynamodb", before_send)  # type: ignore[arg-type]  # it may answer


class _Body(io.BytesIO):
    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.read()


def throttled(request: AWSPreparedRequest) -> AWSResponse:
    document = {"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException", "message": "chaos"}
    headers = HTTPHeaders.from_dict({"x-amzn-requestid": "chaos"})
    return AWSResponse(request.url or "", 400, headers, _Body(json.dumps(document).encode()))


@contextmanager
def broken(rule: Break | None) -> Iterator[None]:
    """Break one rule of the protocol inside the block, to show that the checks notice. Two are broken in the worker."""
    claim, end = transitions.claim_writes, transitions.end_writes

    def anyway(*_: object) -> Condition:
        held: Condition = LeaseItem.pk.exists()
        return held

    def claim_anyway(*given: Any) -> list[Write]:
        writes = claim(*given)
        conditions = [write.parameters["ConditionExpression"] for write in writes]
        either = [
            f"{text} OR attribute_exists(PK) OR attribute_not_exists(PK)" for text in conditions
        ]  # AND binds closer
        return [
            replace(write, parameters=write.parameters | {"ConditionExpression": text})
            for write, text in zip(writes, either, strict=True)
        ]

    def end_anyway(
        lease: Lease, moved: transitions.Move, outcome: str, how: AttemptEnd | None, _: Condition, now: datetime
    ) -> list[Write]:
        return end(lease, moved, outcome, how, client_module.fence(lease), now)

    patches: dict[Break | None, list[tuple[ModuleType, str, object]]] = {
        "fence": [(client_module, "fence", anyway), (queue, "fence", anyway)],
        "claim": [(queue, "claim_writes", claim_anyway)],
        "cancel": [(queue, "end_writes", end_anyway)],
    }
    kept = [(module, name, getattr(module, name)) for module, name, _ in patches.get(rule, [])]
    for module, name, instead in patches.get(rule, []):
        setattr(module, name, instead)
    try:
        yield
    finally:
        for module, name, original in kept:
            setattr(module, name, original)


if __name__ == "__main__":
    run_chaos_worker(sys.argv[1:])

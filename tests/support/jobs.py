"""Rows of jobs for tests of the table: submitted, claimed, evaluated, ended."""

from datetime import UTC, datetime
from typing import Any, Final

from receipt_dynamo import Job, JobLog, JobMetric, JobQueue, Lease, Pointer

NOON: Final = datetime(2026, 5, 1, 12, tzinfo=UTC)


def submit(queue: JobQueue, name: str = "a-job", /, **more: Any) -> Job:
    return queue.submit(name=name, config={"lr": 6e-5}, created_by="me", **more)


def claim(queue: JobQueue, worker_id: str = "w", queue_name: str = "default") -> Lease:
    lease = queue.claim(worker_id, queue_name)
    assert lease is not None
    return lease


def claimed(queue: JobQueue) -> Lease:
    submit(queue)
    return claim(queue)


def pointer(step: int, attempt: int = 1) -> Pointer:
    return Pointer(attempt=attempt, global_step=step, manifest_sha256=f"{attempt:02d}{step:062d}")


def evaluation(lease: Lease, *, at: datetime = NOON, f1: float = 0.5, step: int = 10, seq: int = 1) -> JobMetric:
    return JobMetric(
        job_id=lease.job_id,
        timestamp=at,
        metric_name="eval_f1",
        metric_value=f1,
        global_step=step,
        attempt=lease.attempt,
        seq=seq,
    )


def summary(lease: Lease, at: datetime = NOON) -> JobLog:
    return JobLog(
        job_id=lease.job_id,
        timestamp=at,
        level="info",
        event="run_summary",
        message="done",
        attempt=lease.attempt,
        seq=99,
    )

"""What `job why` goes by: the stored facts about one job, and what follows from them by the protocol's rules."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from receipt_dynamo import Attempt, Job, JobQueue, JobStatus, Lease, NotFound, Timing


@dataclass(frozen=True)
class Facts:
    """A job and the time it is. `ahead` counts the due jobs that are claimed before it, `first` is their first."""

    job: Job
    lease: Lease | None  # None: a job of the original system
    attempts: tuple[Attempt, ...]
    ahead: int
    first: Job | None
    timing: Timing
    now: datetime

    @property
    def last_attempt(self) -> Attempt | None:
        return self.attempts[-1] if self.attempts else None


def facts_of(queue: JobQueue, job_id: str, now: datetime) -> Facts:
    """Read them. Raises NotFound when there is no such job."""
    job = queue.client.get_job(job_id, consistent=True)
    attempts = tuple(queue.client.list_attempts(job.job_id))
    lease = lease_or_none(queue, job.job_id)
    before = jobs_before(queue, job) if lease and job.status.is_claimable else []
    return Facts(job, lease, attempts, len(before), before[0] if before else None, queue.timing, now)


def lease_or_none(queue: JobQueue, job_id: str) -> Lease | None:
    """None for a job of the original system."""
    try:
        return queue.client.get_lease(job_id)
    except NotFound:
        return None


def jobs_before(queue: JobQueue, job: Job) -> list[Job]:
    """Due jobs that are claimed earlier. By their order, since the index may not list the job itself yet."""
    found = []
    for each in queue.due_jobs(job.queue):
        if _turn(each) >= _turn(job):
            break
        found.append(each)
    return found


def _turn(job: Job) -> tuple[int, datetime, str]:
    return job.priority.rank, job.created_at, job.job_id


def is_moving(facts: Facts) -> bool:
    """Job and lease were read on two sides of a transition: they do not fit together."""
    job, lease = facts.job, facts.lease
    is_held = lease is not None and lease.lease_token is not None
    return lease is not None and (is_held != (job.status is JobStatus.RUNNING) or lease.attempt != job.attempt)


def has_progressed(lease: Lease) -> bool:
    """Whether the attempt that has this lease has written a checkpoint."""
    return lease.checkpoint is not None and lease.checkpoint.attempt == lease.attempt


def renewed_at(lease: Lease, timing: Timing) -> datetime | None:
    """When the holder was last heard of: at its last renewal, else at its claim."""
    return lease.expires_at and lease.expires_at - timedelta(seconds=timing.lease_seconds)


def rescue_at(lease: Lease, timing: Timing) -> datetime | None:
    """From when on a rescue may take the job away, unless the holder renews before."""
    return lease.expires_at and lease.expires_at + timedelta(seconds=timing.rescue_grace_seconds)


def status_after_rescue(job: Job, lease: Lease) -> JobStatus:
    """Where a rescue puts the job."""
    if lease.cancel_requested:
        return JobStatus.CANCELLED
    budgets = job.budgets.after_interruption(progressed=has_progressed(lease))
    return JobStatus.INTERRUPTED if budgets.exhausted_by is None else JobStatus.FAILED


def last_straws(facts: Facts) -> list[str]:
    """Single events after which the job would have failed."""
    budgets = facts.job.budgets
    progressed = facts.job.status is JobStatus.RUNNING and facts.lease is not None and has_progressed(facts.lease)
    after = {
        "error": (
            budgets.after_error("unknown", progressed=True),
            budgets.after_error("unknown", progressed=progressed),
        ),
        "interruption": (
            budgets.after_interruption(progressed=True),
            budgets.after_interruption(progressed=progressed),
        ),
    }
    straws = ["running out of memory once more"] if budgets.out_of_memory == 1 else []
    for event, (with_checkpoint, as_it_is) in after.items():
        if with_checkpoint.exhausted_by is not None:
            straws.append(f"one more {event}")
        elif as_it_is.exhausted_by is not None:
            straws.append(f"one more {event} before a new checkpoint")
    return straws

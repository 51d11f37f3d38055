"""Stored facts about one job, and what follows from them by the protocol's rules."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

from receipt_dynamo import Alert, Attempt, FleetRows, Job, JobQueue, JobStatus, Lease, NotFound, ServedQueue, Timing
from receipt_dynamo.client import claim_order
from receipt_layoutlm.jobs.wording import duration, share_done
from receipt_layoutlm.run.progress import LeaseProgress

RESCUES = {JobStatus.INTERRUPTED: "requeued", JobStatus.FAILED: "failed", JobStatus.CANCELLED: "cancelled"}


@dataclass(frozen=True)
class Facts:
    """A job at one moment. `ahead` counts the due jobs that are claimed before it; `first` is the first of them."""

    job: Job
    lease: Lease | None  # None: a job of the original system
    attempts: tuple[Attempt, ...]
    ahead: int
    first: Job | None
    timing: Timing
    now: datetime
    served: ServedQueue | None = None  # what the fleet of its queue has just seen; None without such a fleet
    alert: Alert | None = None  # the newest one

    @property
    def last_attempt(self) -> Attempt | None:
        return self.attempts[-1] if self.attempts else None


def facts_of(queue: JobQueue, job_id: str) -> Facts:
    """Read the facts about a job. Raises NotFound."""
    job = queue.client.get_job(job_id, consistent=True)
    attempts = tuple(queue.client.list_attempts(job.job_id))
    lease, before, served = lease_or_none(queue, job.job_id), list[Job](), None
    if lease and job.status.is_claimable:
        served = FleetRows(queue.client).get_served(job.queue)
        # by their order, since the index may not list the job itself yet
        before = list(takewhile(lambda each: claim_order(each) < claim_order(job), queue.due_jobs(job.queue)))
    now, first = queue.now(), before[0] if before else None
    if served is not None and not served.is_current(now):
        served = None
    alert = next(iter(queue.client.list_job_alerts(job.job_id)), None)
    return Facts(job, lease, attempts, len(before), first, queue.timing, now, served, alert)


def lease_or_none(queue: JobQueue, job_id: str) -> Lease | None:
    """The lease; None for a job of the original system."""
    try:
        return queue.client.get_lease(job_id)
    except NotFound:
        return None


def is_moving(facts: Facts) -> bool:
    """Whether job and lease were read before and after a transition, so that they do not match."""
    job, lease = facts.job, facts.lease
    is_held = lease is not None and lease.lease_token is not None
    return lease is not None and (is_held != (job.status is JobStatus.RUNNING) or lease.attempt != job.attempt)


def has_progressed(lease: Lease) -> bool:
    """Whether the attempt of this lease has written a checkpoint."""
    return lease.checkpoint is not None and lease.checkpoint.attempt == lease.attempt


def renewed_at(lease: Lease, timing: Timing) -> datetime | None:
    """Time of the last renewal, or of the claim before the first one."""
    return lease.expires_at and lease.expires_at - timedelta(seconds=timing.lease_seconds)


def rescue_at(lease: Lease, timing: Timing) -> datetime | None:
    """Time from which a rescue may requeue the job, unless the holder renews first."""
    return lease.expires_at and lease.expires_at + timedelta(seconds=timing.rescue_grace_seconds)


def status_after_rescue(job: Job, lease: Lease) -> JobStatus:
    """The status that a rescue gives the job."""
    if lease.cancel_requested:
        return JobStatus.CANCELLED
    budgets = job.budgets.after_interruption(progressed=has_progressed(lease))
    return JobStatus.INTERRUPTED if budgets.exhausted_by is None else JobStatus.FAILED


def state_text(job: Job, lease: Lease | None, timing: Timing, now: datetime) -> str:
    """The status; once the lease of a running job has expired, what a rescue makes of it: `lost, requeued in 40 s`."""
    due = rescue_at(lease, timing) if lease and job.status is JobStatus.RUNNING else None
    if lease is None or due is None or lease.expires_at is None or now <= lease.expires_at:
        return job.status
    consequence = RESCUES[status_after_rescue(job, lease)]
    left = (due - now).total_seconds()
    return f"lost, {consequence} " + (f"in {duration(left)}" if left > 0 else "by the next rescue")


def state_with_progress(job: Job, lease: Lease | None, timing: Timing, now: datetime) -> str:
    """As state_text, for a healthy running job with its share of steps and the time left: `running: 41 %, 3 min left`.

    Both are those of the last renewal.
    """
    state = state_text(job, lease, timing, now)
    if lease is None or state != JobStatus.RUNNING:
        return state
    done = share_done(LeaseProgress.parse(lease.progress))
    return f"{state}: {done}" if done else state


def final_events(facts: Facts) -> list[str]:
    """Events of which a single one would make the job fail."""
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
    events = ["running out of memory once more"] if budgets.out_of_memory == 1 else []
    for event, (with_checkpoint, as_it_is) in after.items():
        if with_checkpoint.exhausted_by is not None:
            events.append(f"one more {event}")
        elif as_it_is.exhausted_by is not None:
            events.append(f"one more {event} before a new checkpoint")
    return events

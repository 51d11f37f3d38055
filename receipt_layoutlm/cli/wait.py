"""Follows a submitted job until it ends."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console

from receipt_dynamo import Job, JobMetric, JobQueue, JobStatus, Lease
from receipt_layoutlm.cli import INTERRUPTED
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.tables import clean, score
from receipt_layoutlm.jobs.why import why
from receipt_layoutlm.jobs.why_facts import facts_of, lease_or_none, state_text
from receipt_layoutlm.jobs.wording import position_text
from receipt_layoutlm.run.progress import LeaseProgress

POLL_SECONDS = 3.0
WAIT_HELP = (
    "Wait until the job ends. Exit code 0 succeeded, 100 failed, 103 cancelled, 130 after Ctrl-C, which leaves the job "
    "alone: wait again with job wait."
)
UNHELD_SECONDS = 10.0  # without a worker until that is said: a worker that waits claims within five


@dataclass(frozen=True)
class Look:
    """A job at one moment: its lease, its state in words, and the evaluations since the look before."""

    job: Job
    lease: Lease | None
    state: str
    evaluations: Sequence[JobMetric]

    @property
    def progress(self) -> LeaseProgress | None:
        """That of the worker which holds the job; None without one, and for one whose lease has expired."""
        is_held = self.lease is not None and self.state == JobStatus.RUNNING
        return LeaseProgress.parse(self.lease.progress) if is_held and self.lease else None


def wait_for(
    queue: JobQueue,
    job: Job,
    monotonic: Callable[[], float] = time.monotonic,
    pause: Callable[[float], object] = time.sleep,
) -> Job:
    """Print each evaluation to stderr until the job ends, and why no worker holds it, anew when that changes.

    Returns the job.

    Ctrl-C ends the process, not the job.
    """
    with left_alone(job, "wait"), Console(stderr=True).status("waiting") as status:

        def show(look: Look) -> None:
            for metric in look.evaluations:
                say(evaluation_text(metric), err=True)
            if sys.stderr.isatty():
                progress = look.progress
                status.update(look.state + (f": {position_text(progress)}" if progress else ""))

        return follow(queue, job.job_id, show, monotonic, pause)


def evaluation_text(metric: JobMetric) -> str:
    """step 120: eval_f1 0.7412; a later attempt is named, since it may repeat steps of the one before."""
    text = f"step {metric.global_step}: {clean(metric.metric_name)} {score(metric.metric_value)}"
    return f"{text} (attempt {metric.attempt})" if metric.attempt and metric.attempt > 1 else text


def follow(
    queue: JobQueue,
    job_id: str,
    show: Callable[[Look], None],
    monotonic: Callable[[], float] = time.monotonic,
    pause: Callable[[float], object] = time.sleep,
) -> Job:
    """Show the job at each look until it has ended, and say on stderr why no worker holds it. Returns the job."""
    client = queue.client
    newest: datetime | None = None
    unheld_since: float | None = None
    explained: str | None = None  # the state without its countdown
    for job in looks(queue, job_id, pause):
        evaluations = client.list_all_job_metrics(job_id, after=newest)
        newest = evaluations[-1].timestamp if evaluations else newest
        lease = lease_or_none(queue, job_id)
        state = state_text(job, lease, queue.timing, queue.now())
        show(Look(job, lease, state, evaluations))
        if job.status.is_final:
            continue
        if not job.status.is_claimable and state == job.status:  # a worker holds it
            if explained is not None and lease is not None:
                say(f"worker {clean(str(lease.worker_id))} has claimed attempt {lease.attempt}", err=True)
            unheld_since = explained = None
        else:
            unheld_since = monotonic() if unheld_since is None else unheld_since
            without_countdown = state.partition(" in ")[0]
            if monotonic() - unheld_since >= UNHELD_SECONDS and without_countdown != explained:
                explained = without_countdown
                say(clean(why(facts_of(queue, job_id))), err=True)
    return job


def looks(queue: JobQueue, job_id: str, pause: Callable[[float], object] = time.sleep) -> Iterator[Job]:
    """The job as it is now and after each pause; the last one has ended, with all its rows stored."""
    while True:
        job = queue.client.get_job(job_id, consistent=True)
        yield job
        if job.status.is_final:
            return
        pause(POLL_SECONDS)


@contextmanager
def left_alone(job: Job, command: str) -> Iterator[None]:
    """After Ctrl-C the process ends, and says that the job does not, and how to follow it again."""
    try:
        yield
    except KeyboardInterrupt:
        again = f"`layoutlm-cli job {command} {job.job_id[:8]}` follows it again"
        say(f"stopped following: job {clean(job.name)} is not affected; {again}", err=True)
        sys.exit(INTERRUPTED)

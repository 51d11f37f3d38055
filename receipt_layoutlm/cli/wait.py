"""Follows a submitted job until it ends."""

import sys
import time
from collections.abc import Callable

from rich.console import Console

from receipt_dynamo import Job, JobQueue
from receipt_layoutlm.cli import INTERRUPTED
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.tables import clean, score
from receipt_layoutlm.jobs.why import why
from receipt_layoutlm.jobs.why_facts import facts_of, lease_or_none, state_text
from receipt_layoutlm.jobs.why_open import PHASES
from receipt_layoutlm.jobs.wording import share_done
from receipt_layoutlm.run.progress import LeaseProgress

POLL_SECONDS = 3.0
WAIT_HELP = (
    "Wait until the job ends. Exit code 0 succeeded, 100 failed, 103 cancelled, 130 after Ctrl-C, which leaves the job "
    "alone: wait again with job wait."
)
UNHELD_SECONDS = 10.0  # without a worker until that is said: a worker that waits claims within five


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
    client, newest = queue.client, None
    unheld_since: float | None = None
    explained: str | None = None  # the state without its countdown
    try:
        with Console(stderr=True).status("waiting") as status:
            while True:
                job = client.get_job(job.job_id, consistent=True)
                for metric in client.list_all_job_metrics(job.job_id, after=newest):
                    newest = metric.timestamp
                    value = f"{clean(metric.metric_name)} {score(metric.metric_value)}"
                    say(f"step {metric.global_step}: {value}", err=True)
                if job.status.is_final:
                    return job
                lease = lease_or_none(queue, job.job_id)
                state = state_text(job, lease, queue.timing, queue.now())
                if not job.status.is_claimable and state == job.status:  # a worker holds it
                    if explained is not None and lease is not None:
                        say(f"worker {clean(str(lease.worker_id))} has claimed attempt {lease.attempt}", err=True)
                    unheld_since = explained = None
                else:
                    unheld_since = monotonic() if unheld_since is None else unheld_since
                    without_countdown = state.partition(" in ")[0]
                    if monotonic() - unheld_since >= UNHELD_SECONDS and without_countdown != explained:
                        explained = without_countdown
                        say(clean(why(facts_of(queue, job.job_id))), err=True)
                if sys.stderr.isatty():
                    progress = LeaseProgress.parse(lease.progress) if lease else None
                    if progress is not None:
                        phase = PHASES.get(progress.phase, clean(progress.phase))
                        state += f": {phase}, step {progress.step} of {progress.total}, "
                        state += f"epoch {progress.epoch}"
                        state += (done := share_done(progress)) and f", {done}"
                    status.update(state)
                pause(POLL_SECONDS)
    except KeyboardInterrupt:
        again = f"`layoutlm-cli job wait {job.job_id[:8]}` waits again"
        say(f"stopped waiting: job {clean(job.name)} is {job.status} and not affected; {again}", err=True)
        sys.exit(INTERRUPTED)

"""layoutlm-cli rescue: requeue jobs whose lease has expired."""

import json
import threading

import click

from receipt_dynamo import Job, JobQueue, JobStatus, Lease
from receipt_dynamo.queue import DEFAULT_TIMING
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.progress import counting_bar
from receipt_layoutlm.cli.tables import clean, when
from receipt_layoutlm.jobs.why_facts import renewed_at, status_after_rescue
from receipt_layoutlm.jobs.wording import count, duration
from receipt_layoutlm.worker.alerts import Alerts
from receipt_layoutlm.worker.delivery import deliver

OUTCOMES = {
    JobStatus.INTERRUPTED: "requeued",
    JobStatus.FAILED: "its interruptions are used up",
    JobStatus.CANCELLED: "as requested",
}


LOOKS = 6  # while watching: a living worker has renewed by the second one
CLOCK_TICK_SECONDS = 0.01  # so that rounding does not end a watch too early


@click.command()
@click.option("--dry-run", is_flag=True, help="Show the jobs that would be requeued; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--watch",
    "seconds",
    type=click.FloatRange(min=0, max=86_400),
    default=DEFAULT_TIMING.lease_seconds,
    show_default=True,
    help="Seconds to watch expired leases; fewer only if their workers are known to be dead.",
)
@store_options
def rescue(connection: Connection, dry_run: bool, as_json: bool, seconds: float) -> None:
    """Requeue jobs whose lease has expired.

    A worker renews its lease every few seconds. A job whose lease has not been renewed for about two minutes is
    requeued, and another worker resumes it from the last checkpoint. Expired leases are watched first: one that is
    renewed meanwhile belongs to a worker whose clock is wrong, and is left alone. Idle workers and the
    fleet's scaler do this too; use this command when there are none.
    """
    queue = connection.queue()
    overdue = queue.overdue()
    if overdue and not dry_run:
        overdue = _watch(queue, overdue, seconds)
    expired = {lease.job_id: lease for lease in overdue}
    if dry_run:
        jobs = [queue.client.get_job(job_id, consistent=True) for job_id in expired]
        moved = [job.model_copy(update={"status": status_after_rescue(job, expired[job.job_id])}) for job in jobs]
    else:
        moved = queue.rescue(watched_seconds=seconds)
        alerts = Alerts(queue.client, connection.caller(), queue.now, deliver)
        alerts.rescued(moved)
        alerts.wait()
    rows = [_row(queue, job, expired.get(job.job_id)) for job in moved]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        say(clean(f"{'would rescue' if dry_run else 'rescued'} {row['text']}"))
    if not rows:
        limit = queue.timing.lease_seconds + queue.timing.rescue_grace_seconds
        say(f"nothing to rescue: every held lease was renewed within {duration(limit)}", err=True)


def _watch(queue: JobQueue, overdue: list[Lease], seconds: float) -> list[Lease]:
    """Look at expired leases for so long, or until all are renewed; returns those that stood still."""
    say(
        f"{count(len(overdue), 'lease')} expired: watched for {duration(seconds)}, in case a worker still renews it"
        " (Ctrl-C leaves all jobs as they are)",
        err=True,
    )
    watched = {lease.job_id: lease.renewals for lease in overdue}
    pause = threading.Event()
    with counting_bar("watching", LOOKS) as advance:
        for _ in range(LOOKS):
            pause.wait(seconds / LOOKS + CLOCK_TICK_SECONDS)
            advance()
            overdue = [lease for lease in queue.overdue() if watched.get(lease.job_id) == lease.renewals]
            if not overdue:
                break
    return overdue


def _row(queue: JobQueue, job: Job, lease: Lease | None) -> dict[str, object]:
    """`lease` as it was before the rescue; None for one that expired between reading and rescuing."""
    number = lease.attempt if lease else job.attempt
    worker_id = lease.worker_id if lease else queue.client.get_attempt(job.job_id, number).worker_id
    silent_since = renewed_at(lease, queue.timing) if lease else None
    silence = f", silent since {when(silent_since)}" if silent_since else ""
    if silent_since:
        silence += f" ({duration((queue.now() - silent_since).total_seconds())})"
    return {
        "job_id": job.job_id,
        "name": job.name,
        "worker_id": worker_id,
        "attempt": number,
        "silent_since": silent_since and silent_since.isoformat(timespec="microseconds"),
        "status": job.status,
        "text": f"{job.name} ({job.job_id}): attempt {number} of worker {worker_id}{silence}"
        f" -> {job.status}, {OUTCOMES.get(job.status, 'claimed again already')}",
    }

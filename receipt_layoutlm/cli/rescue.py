"""layoutlm-cli rescue: take jobs away from workers that fell silent."""

import json
from collections.abc import Mapping

import click

from receipt_dynamo import Job, JobQueue, JobStatus, Lease, utcnow
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.tables import clean, when
from receipt_layoutlm.jobs.why_facts import renewed_at, status_after_rescue
from receipt_layoutlm.jobs.wording import duration

OUTCOMES = {
    JobStatus.INTERRUPTED: "back in the queue",
    JobStatus.FAILED: "given up, because its interruptions are used up",
    JobStatus.CANCELLED: "as was asked for",
}


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def rescue(connection: Connection, dry_run: bool, as_json: bool) -> None:
    """Take jobs away from workers that fell silent.

    A worker renews its lease on a job every few seconds. When it has not done so for some two minutes the job goes
    back into the queue, and the next worker goes on from its last checkpoint. Idle workers do this by themselves:
    this command is for when there is none. A worker that still renews loses nothing.
    """
    queue = connection.queue()
    silent = {lease.job_id: lease for lease in queue.expired()}
    moved = _would_move(queue, silent) if dry_run else queue.rescue()
    rows = [_row(queue, job, silent.get(job.job_id)) for job in moved]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        click.echo(clean(f"{'would rescue' if dry_run else 'rescued'} {row['text']}"))
    if not rows:
        patience = queue.timing.lease_seconds + queue.timing.rescue_grace_seconds
        click.echo(f"nothing to rescue: no worker has kept a job for {duration(patience)} without a word", err=True)


def _would_move(queue: JobQueue, silent: Mapping[str, Lease]) -> list[Job]:
    """The jobs with the status that they would get."""
    jobs = [queue.client.get_job(job_id, consistent=True) for job_id in silent]
    return [job.model_copy(update={"status": status_after_rescue(job, silent[job.job_id])}) for job in jobs]


def _row(queue: JobQueue, job: Job, lease: Lease | None) -> dict[str, object]:
    """`lease` as it was before; None for one that ran out in the moment between looking and rescuing."""
    attempt = queue.client.get_attempt(job.job_id, lease.attempt if lease else job.attempt)
    silent_since = renewed_at(lease, queue.timing) if lease else None
    silence = f", silent since {when(silent_since)}" if silent_since else ""
    if silent_since:
        silence += f" ({duration((utcnow() - silent_since).total_seconds())})"
    return {
        "job_id": job.job_id,
        "name": job.name,
        "worker_id": attempt.worker_id,
        "attempt": attempt.attempt,
        "silent_since": silent_since and silent_since.isoformat(timespec="microseconds"),
        "status": job.status,
        "text": f"{job.name} ({job.job_id}): attempt {attempt.attempt} of worker {attempt.worker_id}{silence}"
        f" -> {job.status}, {OUTCOMES.get(job.status, 'and taken up already')}",
    }

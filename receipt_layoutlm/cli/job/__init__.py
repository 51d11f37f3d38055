"""layoutlm-cli job: what ran, how good, why did it stop. JOB is an id, its beginning, a name, @last or @best."""

import json
from collections.abc import Sequence
from pathlib import Path

import click
from pydantic import BaseModel

from receipt_dynamo import Job, JobLog, JobMetric, JobQueue, JobStatus, StateConflict, utcnow
from receipt_dynamo.entities import FINAL_CAUSES
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.job.compare import compare
from receipt_layoutlm.cli.job.prune import prune
from receipt_layoutlm.cli.job.report import report_document, report_text
from receipt_layoutlm.cli.job.verify_resume import verify_resume
from receipt_layoutlm.cli.tables import clean, jobs_table, metrics_table, show_text, timeline_text, when
from receipt_layoutlm.jobs.find import find_job
from receipt_layoutlm.jobs.timeline import timeline
from receipt_layoutlm.jobs.why import why
from receipt_layoutlm.jobs.why_facts import Facts, facts_of, lease_or_none

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def job() -> None:
    """List, explain, show, compare, cancel, retry, pull and delete jobs.

    JOB is an id, the beginning of one, a name (its newest job), @last, or @best: the highest score among the jobs
    that may be compared with the newest succeeded one.
    """


job.add_command(compare)
job.add_command(prune)
job.add_command(verify_resume)


@job.command("list")
@click.option("--status", type=click.Choice([status.value for status in JobStatus]), help="Only jobs in this state.")
@click.option("--name", help="Only jobs of this name.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many, newest first."
)
@as_json_option
@store_options
def list_(connection: Connection, status: str | None, name: str | None, limit: int, as_json: bool) -> None:
    """List jobs, newest first."""
    if status and name:
        raise click.UsageError("--status and --name are two different indexes: give one of the two")
    client = connection.client()
    if status:
        jobs = client.list_jobs_by_status(status, limit)
    else:
        jobs = client.list_jobs_by_name(name, limit) if name else client.list_jobs(limit)
    click.echo(_json(jobs) if as_json else jobs_table(jobs))


@job.command()
@click.argument("reference", metavar="JOB")
@as_json_option
@store_options
def show(connection: Connection, reference: str, as_json: bool) -> None:
    """Show one job: config, results, a timeline of its attempts, and a report of what it learned.

    The report has what is wrong with the run (health, each with the option to turn), the weights of the classes, the
    score under each way of decoding, the scores of entities, and at the end those of single words, which are higher
    and mean less. While a job runs there is its health by the last evaluation.

    \b
    steps    from where it began -> the last one; "at least" while it runs and after a worker was lost,
             because only the last renewal tells
    lost     steps beyond the checkpoint from which the next attempt goes on
    cost     the machine's price per hour, where the worker knows it, times the time from claim to end
    waited   from the submission, or from the end of the attempt before, to the claim: the pause after
             an error and the time until a retry count as waiting
    first step  from the submission, or from the end of the attempt before, to the first training
             step: waited, prepare, start, cached or data
    boot     of the waiting: the machine's start to its worker, for the first job on that machine
    prepare  from the claim to the trainer's start: pages, weights, checkpoint
    data     encoding the pages; empty where a phase was not measured
    """
    queue = connection.queue()
    found = find_job(queue.client, reference)
    attempts = queue.client.list_attempts(found.job_id)
    lease = lease_or_none(queue, found.job_id)
    told = timeline(found, lease, attempts, utcnow())
    metrics = queue.client.list_job_metrics(found.job_id)
    if as_json:
        records = {"attempts": [each.model_dump(mode="json") for each in attempts]}
        rows, totals = (told.model_dump(mode="json")[name] for name in ("rows", "totals"))
        click.echo(
            json.dumps(
                {
                    **found.model_dump(mode="json"),
                    **records,
                    "timeline": rows,
                    "totals": lease and totals,
                    **report_document(found, metrics),
                },
                indent=1,
            )
        )
        return
    click.echo(show_text(found))
    if told.rows:
        click.echo(timeline_text(told))
    if report := report_text(found, metrics):
        click.echo("\n" + report)


@job.command("why")
@click.argument("reference", metavar="JOB")
@as_json_option
@store_options
def why_(connection: Connection, reference: str, as_json: bool) -> None:
    """Say in plain words why a job is where it is, and what happens next.

    What it waits behind and until when, which worker holds it and when that one last renewed its lease, what
    ended the last attempt, from which step it goes on, what it still survives, and what to type.
    """
    queue = connection.queue()
    facts = facts_of(queue, find_job(queue.client, reference).job_id, utcnow())
    text = clean(why(facts))
    click.echo(json.dumps(_why_document(facts, text), indent=1) if as_json else text)


def _why_document(facts: Facts, text: str) -> dict[str, object]:
    """The paragraph, with the facts in it that a program would ask for. The token stays where it is."""
    lease = facts.lease and facts.lease.model_dump(mode="json", exclude={"lease_token"})
    job = facts.job.model_dump(mode="json", include={"job_id", "name", "status", "attempt", "not_before", "error"})
    first = facts.first and facts.first.job_id
    return {**job, "why": text, "lease": lease, "due_jobs_ahead": facts.ahead, "first_ahead": first}


@job.command()
@click.argument("reference", metavar="JOB")
@click.option("--all-attempts", is_flag=True, help="Also evaluations that a later attempt ran again.")
@as_json_option
@store_options
def metrics(connection: Connection, reference: str, all_attempts: bool, as_json: bool) -> None:
    """List the evaluations of a job, in time order."""
    client = connection.client()
    found = find_job(client, reference)
    rows = client.list_all_job_metrics(found.job_id) if all_attempts else client.list_job_metrics(found.job_id)
    click.echo(_json(rows) if as_json else metrics_table(rows))


@job.command()
@click.argument("reference", metavar="JOB")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many.")
@as_json_option
@store_options
def logs(connection: Connection, reference: str, limit: int | None, as_json: bool) -> None:
    """List the events of a job, in time order."""
    client = connection.client()
    found = find_job(client, reference)
    rows = client.list_job_logs(found.job_id, limit)
    if as_json:
        click.echo(_json(rows))
        return
    for row in rows:
        click.echo(f"{when(row.timestamp)}  {clean(row.level):7}  {clean(row.event)}  {clean(row.message)}")


@job.command()
@click.argument("reference", metavar="JOB")
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@store_options
def cancel(connection: Connection, reference: str, dry_run: bool) -> None:
    """Cancel a job: at once if no worker holds it, else its worker stops within seconds."""
    queue = connection.queue()
    found = find_job(queue.client, reference)
    if dry_run:
        click.echo(f"would cancel {clean(found.name)} ({found.job_id}), which is {found.status}")
        return
    status = queue.cancel(found.job_id)
    asked = "its worker was asked to stop" if status is JobStatus.RUNNING else "cancelled"
    click.echo(f"{clean(found.name)}: {asked}")


@job.command()
@click.argument("reference", metavar="JOB")
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@store_options
def retry(connection: Connection, reference: str, dry_run: bool) -> None:
    """Put a failed job back into the queue, with nothing of its budgets used up.

    It goes on from its last checkpoint, with the settings and the data that it was submitted with.
    """
    queue = connection.queue()
    found = _failed_job(queue, reference)
    pointer = queue.client.get_lease(found.job_id).checkpoint
    begins = f"goes on from step {pointer.global_step}" if pointer else "starts at the beginning"
    if found.error and found.error.cause in FINAL_CAUSES:
        click.echo(f"warning: it failed with {found.error.cause}, which is likely to come again", err=True)
    if dry_run:
        click.echo(f"would put {clean(found.name)} ({found.job_id}) back into the queue; it {begins}")
        return
    status = queue.retry(found.job_id).status
    click.echo(f"{clean(found.name)}: {status}, {begins}")


def _failed_job(queue: JobQueue, reference: str) -> Job:
    """The job as it is now. Raises StateConflict, saying what can be done instead, when it has not failed."""
    found = queue.client.get_job(find_job(queue.client, reference).job_id, consistent=True)
    if found.status is not JobStatus.FAILED:
        instead = _INSTEAD_OF_RETRY.get(found.status, "`layoutlm-cli job why` tells what it waits for")
        raise StateConflict(f"{clean(found.name)} is {found.status}, and only a failed job can be retried: {instead}")
    return found


_INSTEAD_OF_RETRY = {
    JobStatus.SUCCEEDED: "`layoutlm-cli train --resume` goes on with a job that has ended",
    JobStatus.CANCELLED: "cancelled is final; `layoutlm-cli train --resume` goes on from its checkpoint as a new job",
    JobStatus.RUNNING: "`layoutlm-cli job why` tells how it goes",
}


@job.command("pull")
@click.argument("reference", metavar="JOB")
@click.option("--best", "wanted", flag_value="best", default=True, help="The best model (default).")
@click.option("--checkpoint", "step", type=int, metavar="STEP", help="The whole checkpoint of this step instead.")
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="Folder to make.")
@store_options
def pull_(connection: Connection, reference: str, wanted: str, step: int | None, folder: Path) -> None:
    """Download a job's best model (or a checkpoint) and verify every file."""
    from receipt_layoutlm.jobs.pull import Wanted, pull

    del wanted  # --best is what happens without --checkpoint
    client = connection.client()
    found = find_job(client, reference)
    manifest = pull(client, connection.open_bucket, found, Wanted(step), folder)
    size = sum(each.size for each in manifest.files.values())
    click.echo(f"{folder}: step {manifest.global_step}, {len(manifest.files)} files, {size:,} bytes, all verified")


@job.command()
@click.argument("reference", metavar="JOB")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@store_options
def delete(connection: Connection, reference: str, yes: bool, dry_run: bool) -> None:
    """Remove a job that has ended: its files in the bucket first, its rows, the job itself last."""
    from receipt_layoutlm.jobs.pull import delete_job

    queue = connection.queue()
    found = find_job(queue.client, reference)
    text = f"{clean(found.name)} ({found.job_id}, {found.status}) with its files"
    if dry_run:
        click.echo(f"would remove {text}")
        return
    if not yes:
        click.confirm(f"remove {text}?", abort=True)
    files, rows = delete_job(queue, connection.open_bucket, found)
    click.echo(f"removed {files} files and {rows} rows")


def _json(records: Sequence[Job] | Sequence[JobMetric] | Sequence[JobLog]) -> str:
    plain = [record.model_dump(mode="json") for record in records if isinstance(record, BaseModel)]
    return json.dumps(plain, indent=1)

"""layoutlm-cli job: list, show, explain, cancel, retry, pull and delete jobs."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from pydantic import BaseModel

from receipt_dynamo import Job, JobMetric, JobStatus, Lease, StateConflict
from receipt_dynamo.entities import FINAL_CAUSES
from receipt_layoutlm.cli.completion import job_argument
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.ended import ended_document, ended_here, ended_text, exit_code
from receipt_layoutlm.cli.find import find_named_job
from receipt_layoutlm.cli.job.alerts import alerts_command
from receipt_layoutlm.cli.job.compare import compare
from receipt_layoutlm.cli.job.evaluate_checkpoints import evaluate_checkpoints_command
from receipt_layoutlm.cli.job.export import export_runs_command
from receipt_layoutlm.cli.job.listing import list_
from receipt_layoutlm.cli.job.logs import logs
from receipt_layoutlm.cli.job.prune import prune
from receipt_layoutlm.cli.job.report import confusion_of, facts_text, report_document, report_text
from receipt_layoutlm.cli.job.verify_resume import verify_resume_command
from receipt_layoutlm.cli.job.watch import watch
from receipt_layoutlm.cli.lazy_group import FullHelpGroup
from receipt_layoutlm.cli.output import pasteable, say
from receipt_layoutlm.cli.tables import clean, confusion_table, metrics_table, timeline_text
from receipt_layoutlm.cli.wait import WAIT_HELP, wait_for
from receipt_layoutlm.jobs.find import find_job_to
from receipt_layoutlm.jobs.timeline import timeline
from receipt_layoutlm.jobs.why import why
from receipt_layoutlm.jobs.why_facts import facts_of, lease_or_none, state_with_progress
from receipt_layoutlm.jobs.wording import ago, cause_words
from receipt_layoutlm.worker.alerts import Alerts
from receipt_layoutlm.worker.cost_limit import retry_command, spent
from receipt_layoutlm.worker.delivery import deliver

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(cls=FullHelpGroup)
def job() -> None:
    """List, show, explain, compare, cancel, retry, pull and delete jobs.

    JOB is an id, an id prefix, a name (its newest job), @last, or @best: the highest score among the jobs that are
    comparable with the newest succeeded one. Commands that change a job ask for its id where a name means several.
    """


job.add_command(list_)
job.add_command(alerts_command)
job.add_command(compare)
job.add_command(evaluate_checkpoints_command)
job.add_command(export_runs_command)
job.add_command(logs)
job.add_command(prune)
job.add_command(verify_resume_command)
job.add_command(watch)


@job.command()
@job_argument
@click.option("--confusion", is_flag=True, help="Only the confusion matrix of the best evaluation.")
@as_json_option
@store_options
def show(connection: Connection, reference: str, confusion: bool, as_json: bool) -> None:
    """Show one job.

    Prints config, results, a timeline of the attempts and a report on the scores: health findings (each with the
    option to change), class weights, the score of each decoding, entity scores and word scores, which are higher and
    less meaningful. The health of a running job comes from its last evaluation.

    \b
    steps       first -> last step of the attempt; "at least" while it runs and after a lost worker,
                because the last step is then only known from the last renewal
    lost        steps after the checkpoint that the next attempt resumes from
    cost        price per hour of the machine, if known, times the time from claim to end
    waited      from submission, or from the end of the previous attempt, to the claim; includes
                backoff after an error and the time until a retry
    first step  from submission, or from the end of the previous attempt, to the first training step
    boot        part of waited: from the machine's start to its worker's, for its first job
    prepare     from the claim to the trainer's start: download of pages, weights and checkpoint
    data        encoding the pages; empty if a phase was not measured
    """
    from receipt_layoutlm.storage.tables import with_tables

    queue = connection.queue()
    job = with_tables(find_named_job(queue.client, reference), connection.open_bucket)
    if confusion:
        show_confusion(job, as_json)
        return
    attempts = queue.client.list_attempts(job.job_id)
    lease = lease_or_none(queue, job.job_id)
    now = queue.now()
    history = timeline(job, lease, attempts, now)
    metrics = queue.client.list_job_metrics(job.job_id)
    report_uri = stored_report_of(connection, job)
    if as_json:
        records = {"attempts": [each.model_dump(mode="json") for each in attempts]}
        rows, totals = (history.model_dump(mode="json")[name] for name in ("rows", "totals"))
        click.echo(
            json.dumps(
                {
                    **job.model_dump(mode="json"),
                    **records,
                    "timeline": rows,
                    "totals": lease and totals,
                    "report_uri": report_uri,
                    **report_document(job, metrics),
                },
                indent=1,
            )
        )
        return
    say(facts_text(job, state_with_progress(job, lease, queue.timing, now), report_uri))
    if history.rows:
        say(timeline_text(history))
    if report := report_text(job, metrics):
        say("\n" + report)


def show_confusion(job: Job, as_json: bool) -> None:
    """True labels, and what they were taken for."""
    stored = confusion_of(job.results or {})
    if as_json:
        click.echo(json.dumps(stored, indent=1))
    elif stored:
        say(confusion_table(stored))
    else:
        text = "has no confusion matrix: it is stored when a job has succeeded"
        say(f"{clean(job.name)} is {job.status} and {text}; `layoutlm-cli job why {job.job_id[:8]}` explains its state")


def stored_report_of(connection: Connection, job: Job) -> str | None:
    """Place of the newest report of a job; None without one, and where the bucket does not say."""
    from receipt_layoutlm.jobs.run_files import newest_report
    from receipt_layoutlm.storage.errors import StorageError

    try:
        return newest_report(connection.open_bucket, job)
    except StorageError as error:
        say(f"warning: it is unknown whether there is a report: {clean(error)}", err=True)
        return None


@job.command("why")
@job_argument
@as_json_option
@store_options
def why_(connection: Connection, reference: str, as_json: bool) -> None:
    """Explain the state of a job and what happens next.

    Shows its place in the queue, the worker that holds it and its last renewal, how the last attempt ended, the step
    it resumes from, the remaining budgets, and the command to use.
    """
    queue = connection.queue()
    facts = facts_of(queue, find_named_job(queue.client, reference).job_id)
    text = pasteable(clean(why(facts)))
    if not as_json:
        say(text)
        return
    lease = facts.lease and facts.lease.model_dump(mode="json", exclude={"lease_token"})
    job = facts.job.model_dump(mode="json", include={"job_id", "name", "status", "attempt", "not_before", "error"})
    first = facts.first and facts.first.job_id
    served = facts.served and facts.served.model_dump(mode="json", include={"fleet", "unfilled_since", "trouble"})
    document = {**job, "why": text, "lease": lease, "due_jobs_ahead": facts.ahead, "first_ahead": first}
    document["served"] = served
    click.echo(json.dumps(document, indent=1))


@job.command()
@job_argument
@click.option("--all-attempts", is_flag=True, help="Include evaluations that a later attempt repeated.")
@as_json_option
@store_options
def metrics(connection: Connection, reference: str, all_attempts: bool, as_json: bool) -> None:
    """List the evaluations of a job, in time order."""
    client = connection.client()
    job = find_named_job(client, reference)
    rows = client.list_all_job_metrics(job.job_id) if all_attempts else client.list_job_metrics(job.job_id)
    if as_json:
        click.echo(_json(rows))
    elif rows:
        say(metrics_table(rows))
    else:
        say(f"{clean(job.name)} has no evaluations yet: `layoutlm-cli job why {job.job_id[:8]}` explains its state")


@job.command("wait", help=WAIT_HELP)
@job_argument
@as_json_option
@store_options
def wait_command(connection: Connection, reference: str, as_json: bool) -> None:
    queue = connection.queue()
    ended = ended_here(wait_for(queue, find_named_job(queue.client, reference)), os.environ)
    if as_json:
        click.echo(json.dumps(ended_document(ended.job, ended.folder)))
    else:
        say(ended_text(queue, ended.job, ended.folder))
    sys.exit(exit_code(ended.job.status))


@job.command()
@job_argument
@click.option("--dry-run", is_flag=True, help="Show what would be done; write nothing.")
@store_options
def cancel(connection: Connection, reference: str, dry_run: bool) -> None:
    """Cancel a job. A worker that holds it stops within seconds.

    A name has to be that of one open job.
    """
    queue = connection.queue()
    named = find_job_to(queue.client, reference, lambda job: not job.status.is_final)
    job = queue.client.get_job(named.job_id, consistent=True)
    name, at = clean(job.name), f" at {ago(job.ended_at, queue.now())}" if job.ended_at else ""
    if job.status is JobStatus.CANCELLED:
        say(f"{name} was already cancelled{at}")
    elif job.status.is_final:
        why = f"`layoutlm-cli job why {job.job_id[:8]}` explains its state"
        raise StateConflict(f"{name} has {job.status}{at}, and only a job that has not ended can be cancelled: {why}")
    elif dry_run:
        say(f"would cancel {name} ({job.job_id}), which is {job.status}")
    else:
        status = queue.cancel(job.job_id)
        if status is JobStatus.CANCELLED:  # otherwise its worker tells
            alerts = Alerts(queue.client, connection.caller(), queue.now, deliver)
            alerts.ended(job.job_id)
            alerts.wait()
        say(f"{name}: " + ("its worker was asked to stop" if status is JobStatus.RUNNING else "cancelled"))


@job.command()
@job_argument
@click.option(
    "--max-cost",
    type=click.FloatRange(min=0, min_open=True),
    metavar="USD",
    help="New limit of what all its attempts may cost, those so far included.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done; write nothing.")
@store_options
def retry(connection: Connection, reference: str, max_cost: float | None, dry_run: bool) -> None:
    """Requeue a failed job with its budgets reset.

    It resumes from its last checkpoint, with the options and data that it was submitted with. One that reached its
    --max-cost needs a higher one.
    """
    queue = connection.queue()
    named = find_job_to(queue.client, reference, lambda job: job.status is JobStatus.FAILED)
    job = queue.client.get_job(named.job_id, consistent=True)
    if job.status is not JobStatus.FAILED:
        instead = _instead_of_retry(job, lease_or_none(queue, job.job_id))
        raise StateConflict(f"{clean(job.name)} is {job.status}, and only a failed job can be retried: {instead}")
    limit = job.max_cost if max_cost is None else max_cost
    if limit is not None:
        check_affordable(job, limit, spent(queue.client.list_attempts(job.job_id), queue.now()))
    pointer = queue.client.get_lease(job.job_id).checkpoint
    start = f"resumes from step {pointer.global_step}" if pointer else "starts from the beginning"
    if job.error and job.error.cause in FINAL_CAUSES - {"cost_limit"}:
        say(f"warning: {cause_words(job.error.cause)}, which is likely to recur", err=True)
    if dry_run:
        say(f"would requeue {clean(job.name)} ({job.job_id}); it {start}")
        return
    status = queue.retry(job.job_id, max_cost=max_cost).status
    say(f"{clean(job.name)}: {status}, {start}")


def check_affordable(job: Job, limit: float, dollars: float) -> None:
    """Raises StateConflict for a job whose attempts have cost its limit already."""
    if dollars >= limit:
        raise StateConflict(
            f"the attempts of {clean(job.name)} cost {dollars:.4f} dollars, and --max-cost is {limit:g}: give more, "
            f"such as {retry_command(job.job_id[:8], dollars)}"
        )


def _instead_of_retry(job: Job, lease: Lease | None) -> str:
    short, epochs = job.job_id[:8], job.job_config.get("epochs")
    if not job.status.is_final:
        return f"`layoutlm-cli job why {short}` explains its state"
    if lease is None or lease.checkpoint is None:
        return f"submit it again; `layoutlm-cli job show {short}` shows its options"
    more = f" --epochs {2 * epochs}" if job.status is JobStatus.SUCCEEDED and isinstance(epochs, int) else ""
    return f"`layoutlm-cli train --resume {short}{more}` continues it as a new job"


@job.command("pull")
@job_argument
@click.option("--best", "_best", flag_value="best", default=True, help="The best model (default).")
@click.option("--checkpoint", "step", type=int, metavar="STEP", help="The whole checkpoint of this step instead.")
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="New folder.")
@store_options
def pull_command(connection: Connection, reference: str, _best: str, step: int | None, folder: Path) -> None:
    """Download a model or checkpoint. Every file is verified."""
    from receipt_layoutlm.jobs.pull import pull

    manifest = pull(connection.open_bucket, find_named_job(connection.client(), reference), step, folder)
    size = sum(each.size for each in manifest.files.values())
    say(f"{folder}: step {manifest.global_step}, {len(manifest.files)} files, {size:,} bytes, all verified")


@job.command("delete")
@job_argument
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed; remove nothing.")
@store_options
def delete_command(connection: Connection, reference: str, yes: bool, dry_run: bool) -> None:
    """Remove a job that has ended. Its files in the bucket are removed first, then its rows."""
    from receipt_layoutlm.jobs.pull import delete_job

    queue = connection.queue()
    job = find_job_to(queue.client, reference, lambda job: job.status.is_final)
    text = f"{clean(job.name)} ({job.job_id}, {job.status}) with its files"
    if dry_run:
        say(f"would remove {text}")
        return
    if not yes:
        click.confirm(f"remove {text}?", abort=True)
    files, rows = delete_job(queue, connection.open_bucket, job)
    say(f"removed {files} files and {rows} rows")


def _json(records: Sequence[Job] | Sequence[JobMetric]) -> str:
    plain = [record.model_dump(mode="json") for record in records if isinstance(record, BaseModel)]
    return json.dumps(plain, indent=1)

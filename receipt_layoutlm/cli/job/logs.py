"""layoutlm-cli job logs: events of a job, or what its trainer printed, also while it runs."""

import json
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from datetime import datetime

import click

from receipt_dynamo import DynamoClient, Job, JobLog
from receipt_layoutlm.cli.completion import job_argument
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.find import find_named_job
from receipt_layoutlm.cli.output import say, say_json
from receipt_layoutlm.cli.tables import clean, when
from receipt_layoutlm.cli.wait import left_alone, looks


@click.command()
@job_argument
@click.option("-f", "--follow", is_flag=True, help="Print new ones as they come, until the job has ended.")
@click.option("--raw", is_flag=True, help="What the trainer printed (train.log in the bucket) instead of the events.")
@click.option("--limit", type=click.IntRange(min=1), help="Maximum number of events, from the first one.")
@click.option(
    "--tail", type=click.IntRange(min=1), metavar="N", help="Only the last N; with -f also those that follow."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with -f an object a line.")
@store_options
def logs(
    connection: Connection,
    reference: str,
    follow: bool,
    raw: bool,
    limit: int | None,
    tail: int | None,
    as_json: bool,
) -> None:
    """List the events of a job, in time order, or what its trainer printed.

    A line names the attempt where another one begins; with --raw it is on stderr, so that stdout has the log alone.
    The worker sends train.log every 15 s, without the secrets of its environment.
    """
    if limit and (tail or follow or raw):
        raise click.UsageError(
            "--limit counts from the first event: use --tail with --follow or --raw, or instead of it"
        )
    if raw and as_json:
        raise click.UsageError("--raw is text: leave out --json, or --raw for the events")
    queue = connection.queue()
    job = find_named_job(queue.client, reference)
    if as_json and not follow:
        rows = next(stored_events(queue.client, [job], limit, tail))
        click.echo(json.dumps([row.model_dump(mode="json") for row in rows], indent=1))
        return
    with left_alone(job, "logs --follow") if follow else nullcontext():
        moments = looks(queue, job.job_id) if follow else [job]
        if raw:
            printed = print_lines(_raw_lines(connection, job, moments, tail))
        else:
            printed = print_events(stored_events(queue.client, moments, limit, tail), as_json)
    if not printed and not as_json:
        what = ("printed nothing" if raw else "no events") + ("" if job.status.is_final else " yet")
        text = f"{clean(job.name)} has {what}: `layoutlm-cli job why {job.job_id[:8]}` explains its state"
        say(text, err=raw)


def stored_events(
    client: DynamoClient, moments: Iterable[Job], limit: int | None, tail: int | None
) -> Iterator[list[JobLog]]:
    """The events stored at each moment that were not there at the one before."""
    newest: datetime | None = None
    for number, job in enumerate(moments):
        if tail and number == 0:
            rows = client.newest_job_logs(job.job_id, tail)
        elif limit:
            rows = client.list_job_logs(job.job_id, limit)
        else:
            rows = list(client.iter_job_logs(job.job_id, after=newest))
        newest = rows[-1].timestamp if rows else newest
        yield rows


def _raw_lines(
    connection: Connection, job: Job, moments: Iterable[Job], tail: int | None
) -> Iterator[list[tuple[int, str]]]:
    from receipt_layoutlm.jobs.models import run_folder
    from receipt_layoutlm.jobs.train_log import TrainLog

    log = TrainLog(*run_folder(connection.open_bucket, job))
    for number, each in enumerate(moments):
        lines = list(log.new_lines(each.attempt))
        yield lines[-tail:] if tail and number == 0 else lines


def print_events(batches: Iterable[list[JobLog]], as_json: bool) -> int:
    """Print them with a line before each attempt's first one; returns how many there were."""
    printed, attempt = 0, None
    for row in (row for batch in batches for row in batch):
        printed += 1
        if as_json:
            say_json(json.dumps(row.model_dump(mode="json")))
            continue
        if row.attempt not in (attempt, None):  # a job of the original system has none
            attempt = row.attempt
            say(_separator(attempt))
        event = clean(row.event).replace("_", " ")
        say(f"{when(row.timestamp)}  {clean(row.level):7}  {event}  {clean(row.message)}")
    return printed


def print_lines(batches: Iterable[list[tuple[int, str]]]) -> int:
    """Print them with a line on stderr before each attempt's first one; returns how many there were."""
    printed, last = 0, None
    for attempt, line in (row for batch in batches for row in batch):
        printed += 1
        if attempt != last:
            last = attempt
            say(_separator(attempt), err=True)
        click.echo(clean(line))
    return printed


def _separator(attempt: int | None) -> str:
    return f"── attempt {attempt} ──"

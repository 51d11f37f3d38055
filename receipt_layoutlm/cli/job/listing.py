"""layoutlm-cli job list: jobs by time, name, status, tags, and by conditions on options and scores."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import click
from pydantic import JsonValue

from receipt_dynamo import Job, JobQueue, JobStatus
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.options import KeyValue
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.tables import Column, dollars, score, sparkline, table, when
from receipt_layoutlm.cli.times import Since, SinceOption, moment
from receipt_layoutlm.jobs.selection import Wanted, select_jobs
from receipt_layoutlm.jobs.timeline import known_sum
from receipt_layoutlm.jobs.where import Condition, value_of
from receipt_layoutlm.jobs.why_facts import state_with_progress

SHOWN: Final = ("id", "name", "status", "attempt", "created", "best", "trend", "cost", "dataset")
_RANKS: Final = {
    "id": 0,
    "name": 0,
    "status": 0,
    "attempt": 4,
    "created": 2,
    "best": 1,
    "trend": 6,
    "cost": 5,
    "dataset": 3,
}
_READ: Final = {"trend", "cost"}
"""Columns that take a query a job."""
MOST_READ: Final = 100  # jobs up to which those stand in the table unless they are asked for


@click.command("list")
@click.option("--status", type=click.Choice([status.value for status in JobStatus]), help="Only jobs with this status.")
@click.option("--name", help="Only jobs of this name.")
@click.option("--tag", "tags", type=KeyValue(), multiple=True, help="Only jobs with this tag; repeat for more.")
@click.option("--experiment", help="Only jobs of this experiment: --tag experiment=NAME.")
@click.option("--mine", is_flag=True, help="Only jobs that these credentials, or this user with --local, submitted.")
@click.option("--since", type=SinceOption(), help="Submitted at this time or later: 12h, 7d, 2026-12-01.")
@click.option("--until", type=SinceOption(), help="Submitted at this time or earlier.")
@click.option("--where", metavar="CONDITION", help="On scores, options and facts: 'f1 > 0.8 and lr < 1e-4'.")
@click.option("--sort", metavar="NAME", help="Greatest value first; -NAME: smallest first (default: newest first).")
@click.option("--columns", metavar="NAME,...", help=f"Columns, also scores and options (default: {','.join(SHOWN)}).")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Maximum number of jobs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --columns one object of these a job.")
@store_options
def list_(
    connection: Connection,
    status: str | None,
    name: str | None,
    tags: Sequence[tuple[str, str]],
    experiment: str | None,
    mine: bool,
    since: Since | None,
    until: Since | None,
    where: str | None,
    sort: str | None,
    columns: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List jobs, newest first.

    \b
    best    score of the best evaluation, by the job's --metric-for-best
    trend   that score over the evaluations, from the lowest to the highest
    cost    US dollars of the attempts whose price is known, until now

    CONDITION compares with < <= > >= == != and in, joined by and, or, not. A name in it, in --sort and in --columns
    is that of a score (f1, f1_DATE, eval_loss; of the best evaluation), an option with underscores (lr, batch_size),
    tags.KEY, or one of name, status, user, queue, priority, attempt, experiment, best, created, stop_reason, error.

    \b
    layoutlm-cli job list --where 'f1 > 0.8 and lr < 1e-4' --sort f1 --columns id,name,f1,lr,cost
    layoutlm-cli job list --since 7d --mine --status failed
    """
    named = dict(tags)
    if experiment is not None and named.setdefault("experiment", experiment) != experiment:
        raise click.UsageError(f"--experiment {experiment} and --tag experiment={named['experiment']}: give one")
    queue = connection.queue()
    now = queue.now()
    wanted = Wanted(
        status=status,
        name=name,
        tags=named,
        user=connection.caller() if mine else None,
        created=(moment(since, now), moment(until, now)),
        where=None if where is None else Condition(where),
    )
    chosen = None if columns is None else tuple(filter(None, (each.strip() for each in columns.split(","))))
    if chosen is not None and not chosen:
        raise click.UsageError(f"--columns {columns!r} names no column: give some of {', '.join(SHOWN)}, or a score")
    jobs = select_jobs(queue.client, wanted, sort, limit)
    for each in chosen or ():  # one that no job has a value for, and that is no option either, is misspelt
        if each not in SHOWN and not each.startswith("tags."):
            Condition(each).check_names(jobs)
    if as_json:
        documents = [_values(queue, job, chosen) if chosen else job.model_dump(mode="json") for job in jobs]
        click.echo(json.dumps(documents, indent=1))
        return
    if not jobs:
        say("no job matches" if wanted != Wanted() else "the store has no job yet: `layoutlm-cli train --help`")
        return
    shown = chosen or tuple(each for each in SHOWN if len(jobs) <= MOST_READ or each not in _READ)
    rows = [[_text(queue, job, each, value) for each, value in _values(queue, job, shown).items()] for job in jobs]
    filled = [at for at, each in enumerate(shown) if chosen or each not in _READ or any(row[at] for row in rows)]
    header = [Column(shown[at], _RANKS.get(shown[at], at), wraps=shown[at] == "status") for at in filled]
    header[0] = Column(shown[filled[0]])
    say(table(header, [[row[at] for at in filled] for row in rows]))


def _values(queue: JobQueue, job: Job, columns: Sequence[str]) -> dict[str, JsonValue]:
    """Column -> value of a job; what takes a query is read only where it is a column."""
    known: Mapping[str, Callable[[], JsonValue]] = {
        "id": lambda: job.job_id,
        "created": lambda: job.created_at.isoformat(),
        "trend": lambda: [each.metric_value for each in queue.client.list_job_metrics(job.job_id)],
        "cost": lambda: known_sum(each.cost_until(queue.now()) for each in queue.client.list_attempts(job.job_id)),
        "dataset": lambda: str(job.job_config.get("dataset") or "").partition("@")[0],
    }
    read = known if job.attempt else {**known, "trend": list, "cost": lambda: None}
    return {
        each: read[each]()
        if each in read
        else job.tags.get(each.removeprefix("tags."))
        if each.startswith("tags.")
        else value_of(job, each)
        for each in columns
    }


def _text(queue: JobQueue, job: Job, column: str, value: JsonValue) -> str:
    """A cell as people read it."""
    if value is None:
        return ""
    if column == "status" and job.status is JobStatus.RUNNING:
        return state_with_progress(job, queue.readable_lease(job.job_id), queue.timing, queue.now())
    if column == "created":
        return when(job.created_at)
    if column == "id":
        return str(value)[:8]
    if column == "trend" and isinstance(value, list):
        return sparkline([number for number in value if isinstance(number, int | float)])
    if column == "cost" and isinstance(value, float):
        return dollars(value)
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, float):
        return score(value) if 0.001 <= abs(value) < 1000 else f"{value:g}"
    return str(value) if isinstance(value, int) else json.dumps(value)

"""layoutlm-cli job compare: rank runs whose scores are comparable."""

import json
from collections.abc import Sequence

import click
from pydantic import BaseModel, ConfigDict

from receipt_dynamo import DynamoClient, Job
from receipt_layoutlm.cli.completion import job_names
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.tables import Column, clean, dollars, score, table
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.jobs.find import find_job, metric_value
from receipt_layoutlm.jobs.wording import duration
from receipt_layoutlm.run.comparability import differences, stamp_of


class NotComparable(UserError):
    """The scores of the runs are not comparable; the text names the differences."""


class ComparedRun(BaseModel):
    """One run. not_comparable: why its scores are not comparable with those of the first job."""

    model_config = ConfigDict(frozen=True)

    rank: int | None  # None: not ranked
    job_id: str
    name: str
    metric_name: str | None
    metric_value: float | None
    macro_f1: float | None
    field_f1: float | None
    test_value: float | None  # on the test set; not for model selection
    per_label: dict[str, float]  # label -> F1
    global_step: int | None
    cost: float | None  # US dollars, all attempts
    wall_seconds: float | None  # from first claim to end
    stamp: str | None
    not_comparable: tuple[str, ...] = ()


@click.command()
@click.argument("references", metavar="JOB JOB...", nargs=-1, required=True, shell_complete=job_names)
@click.option("--force", is_flag=True, help="Show runs that are not comparable too, marked with !.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def compare(connection: Connection, references: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Rank jobs that have succeeded.

    Prints score, score of each label, steps, cost and time. Scores are comparable if pages, split, label map,
    windows, scorer and validation set are equal. Every run carries a stamp of them; if a stamp differs from the
    first job's, the differences are printed and nothing is ranked. Test scores are shown but not used for ranking.
    """
    from receipt_layoutlm.storage.tables import with_tables

    if len(references) < 2:
        raise click.UsageError("give at least two jobs")
    client = connection.client()
    jobs = [with_tables(find_job(client, reference), connection.open_bucket) for reference in references]
    reasons = {job.job_id: why_not_comparable(jobs[0], job) for job in jobs}
    if any(reasons.values()) and not force:
        texts = [
            f"{clean(job.name)} ({job.job_id[:8]}) against {clean(jobs[0].name)}: {'; '.join(reasons[job.job_id])}"
            for job in jobs
            if reasons[job.job_id]
        ]
        raise NotComparable(f"these runs cannot be ranked. {'. '.join(texts)}. --force shows them all, marked")
    unranked = [_row(client, job, reasons[job.job_id]) for job in {job.job_id: job for job in jobs}.values()]
    comparable = sorted((row for row in unranked if not row.not_comparable), key=lambda row: -(row.metric_value or 0.0))
    rows = [row.model_copy(update={"rank": rank}) for rank, row in enumerate(comparable, start=1)]
    rows += [row for row in unranked if row.not_comparable]
    if as_json:
        click.echo(json.dumps([row.model_dump(mode="json") for row in rows], indent=1))
    else:
        say(rows_text(rows))


def why_not_comparable(first: Job, other: Job) -> tuple[str, ...]:
    """Reasons why the scores of two jobs are not comparable; empty if they are."""
    for job in (first, other):
        if metric_value(job) is None:
            return (f"{clean(job.name)} is {job.status} and has no score",)
    stamps = stamp_of(first.results), stamp_of(other.results)
    for job, stamp in zip((first, other), stamps, strict=True):
        if stamp is None:
            return (f"{clean(job.name)} has no comparability stamp: it was trained by an earlier version",)
    one, second = stamps
    return tuple(differences(one, second)) if one and second else ()


def _row(client: DynamoClient, job: Job, reasons: tuple[str, ...]) -> ComparedRun:
    results = job.results or {}
    attempts = client.list_attempts(job.job_id)
    costs = [attempt.cost for attempt in attempts if attempt.cost is not None]
    started = min((attempt.started_at for attempt in attempts), default=None)
    stamp, test = stamp_of(results), results.get("test")
    step, name, per_label = (results.get(key) for key in ("global_step", "metric_name", "per_label"))
    return ComparedRun(
        rank=None,
        job_id=job.job_id,
        name=job.name,
        metric_name=name if isinstance(name, str) else None,
        metric_value=metric_value(job),
        macro_f1=_number(results.get("macro_f1")),
        field_f1=_number(results.get("field_f1")),
        test_value=_number(test.get("metric_value")) if isinstance(test, dict) else None,
        per_label={
            label: f1
            for label, scores in (per_label.items() if isinstance(per_label, dict) else ())
            if isinstance(scores, dict) and (f1 := _number(scores.get("f1"))) is not None
        },
        global_step=int(step) if isinstance(step, int | float) else None,
        cost=sum(costs) if costs else None,
        wall_seconds=(job.ended_at - started).total_seconds() if job.ended_at and started else None,
        stamp=None if stamp is None else stamp.sha256,
        not_comparable=reasons,
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def rows_text(rows: Sequence[ComparedRun]) -> str:
    """A table of the runs, then the reasons for the marked ones."""
    labels = sorted({label for row in rows for label in row.per_label})
    has_test = ["test"] if any(row.test_value is not None for row in rows) else []
    metric = next((row.metric_name for row in rows if row.metric_name), "score")
    header = (
        *(Column(title) for title in ("rank", "id", "name", metric)),
        *(Column(title, rank=2) for title in ("macro F1", "field F1")),
        *(Column(title, rank=1) for title in has_test),
        *(Column(label, rank=5) for label in labels),
        *(Column(title, rank=3) for title in ("steps", "cost USD", "time")),
    )
    cells = [
        (
            row.rank or "!",
            row.job_id[:8],
            row.name,
            score(row.metric_value),
            score(row.macro_f1) or "-",
            score(row.field_f1) or "-",
            *(score(row.test_value) for _ in has_test),
            *(score(row.per_label.get(label)) for label in labels),
            "" if row.global_step is None else row.global_step,
            dollars(row.cost),
            "" if row.wall_seconds is None else duration(row.wall_seconds),
        )
        for row in rows
    ]
    notes = [
        f"! {clean(row.name)} ({row.job_id[:8]}): {'; '.join(row.not_comparable)}" for row in rows if row.not_comparable
    ]
    return "\n".join([table(header, cells), *notes])

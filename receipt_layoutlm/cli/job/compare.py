"""layoutlm-cli job compare: which of several runs is the better one, if that can be said at all."""

import json
from collections.abc import Sequence

import click
from pydantic import BaseModel, ConfigDict

from receipt_dynamo import DynamoClient, Job
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.tables import clean, dollars, score, table
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.jobs.find import find_job, metric_value
from receipt_layoutlm.jobs.wording import duration
from receipt_layoutlm.run.comparability import Stamp, differences, stamp_of


class NotComparable(UserError):
    """The runs were not measured by one rule; the text says in what they differ."""


class Row(BaseModel):
    """One run. not_comparable: why its scores may not be set beside those of the first job named."""

    model_config = ConfigDict(frozen=True)

    rank: int | None  # None: not ranked
    job_id: str
    name: str
    metric_name: str | None
    metric_value: float | None
    macro_f1: float | None
    field_f1: float | None
    test_value: float | None  # on the test part, which nobody should choose by
    per_label: dict[str, float]  # label -> F1
    global_step: int | None
    cost: float | None  # US dollars, all attempts
    wall_seconds: float | None  # from first claim to end
    stamp: str | None
    not_comparable: tuple[str, ...] = ()


@click.command()
@click.argument("references", metavar="JOB JOB...", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Show runs side by side that may not be compared; they are marked with !.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def compare(connection: Connection, references: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Rank jobs that have succeeded: score, each label, steps, cost, time.

    Scores mean the same only where pages, split, label map, windows, scorer and evaluation part are the same. Every run
    carries a stamp of them; where the stamps differ from the first job's, this says in what and ranks nothing. The
    scores of the test part are shown, but never ranked by.
    """
    if len(references) < 2:
        raise click.UsageError("give two jobs or more")
    client = connection.client()
    jobs = [find_job(client, reference) for reference in references]
    reasons = {job.job_id: why_not_comparable(jobs[0], job) for job in jobs}
    if any(reasons.values()) and not force:
        raise NotComparable(_refusal(jobs, reasons))
    rows = _ranked([_row(client, job, reasons[job.job_id]) for job in {job.job_id: job for job in jobs}.values()])
    click.echo(json.dumps([row.model_dump(mode="json") for row in rows], indent=1) if as_json else rows_text(rows))


def why_not_comparable(first: Job, other: Job) -> tuple[str, ...]:
    """Empty when the scores of both mean the same."""
    for job in (first, other):
        if metric_value(job) is None:
            return (f"{clean(job.name)} is {job.status} and has no score",)
    stamps = stamp_of(first.results), stamp_of(other.results)
    for job, stamp in zip((first, other), stamps, strict=True):
        if stamp is None:
            return (f"{clean(job.name)} has no comparability stamp: it was trained by an earlier version",)
    return tuple(_differences(*stamps))


def _differences(one: Stamp | None, other: Stamp | None) -> list[str]:
    return differences(one, other) if one is not None and other is not None else []


def _refusal(jobs: Sequence[Job], reasons: dict[str, tuple[str, ...]]) -> str:
    texts = [
        f"{clean(job.name)} ({job.job_id[:8]}) against {clean(jobs[0].name)}: {'; '.join(reasons[job.job_id])}"
        for job in jobs
        if reasons[job.job_id]
    ]
    return "these runs cannot be ranked. " + ". ".join(texts) + ". --force shows them side by side, marked"


def _row(client: DynamoClient, job: Job, reasons: tuple[str, ...]) -> Row:
    results = job.results or {}
    attempts = client.list_attempts(job.job_id)
    costs = [attempt.cost for attempt in attempts if attempt.cost is not None]
    begin = min((attempt.started_at for attempt in attempts), default=None)
    stamp, test = stamp_of(results), results.get("test")
    step, name = results.get("global_step"), results.get("metric_name")
    return Row(
        rank=None,
        job_id=job.job_id,
        name=job.name,
        metric_name=name if isinstance(name, str) else None,
        metric_value=metric_value(job),
        macro_f1=_number(results.get("macro_f1")),
        field_f1=_number(results.get("field_f1")),
        test_value=_number(test.get("metric_value")) if isinstance(test, dict) else None,
        per_label=_per_label(results.get("per_label")),
        global_step=int(step) if isinstance(step, int | float) else None,
        cost=sum(costs) if costs else None,
        wall_seconds=(job.ended_at - begin).total_seconds() if job.ended_at and begin else None,
        stamp=None if stamp is None else stamp.sha256,
        not_comparable=reasons,
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _per_label(document: object) -> dict[str, float]:
    rows = document.items() if isinstance(document, dict) else ()
    return {
        label: f1
        for label, scores in rows
        if isinstance(scores, dict) and (f1 := _number(scores.get("f1"))) is not None
    }


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """The comparable ones by score, then the others as they were named."""
    alike = sorted((row for row in rows if not row.not_comparable), key=lambda row: -(row.metric_value or 0.0))
    ranked = [row.model_copy(update={"rank": place}) for place, row in enumerate(alike, start=1)]
    return ranked + [row for row in rows if row.not_comparable]


def rows_text(rows: Sequence[Row]) -> str:
    """A table of the runs, and under it why the marked ones are not ranked."""
    labels = sorted({label for row in rows for label in row.per_label})
    has_test = ["test"] if any(row.test_value is not None for row in rows) else []
    metric = next((row.metric_name for row in rows if row.metric_name), "score")
    header = ("rank", "id", "name", metric, "macro F1", "field F1", *has_test, *labels, "steps", "cost USD", "time")
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

"""Texts and tables for people. Cells pass `clean`, so that nothing stored can steer a terminal."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime

from pydantic import JsonValue
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from receipt_dynamo import Dataset, Job, JobMetric
from receipt_layoutlm.jobs.timeline import PHASES, Row, Timeline, Totals
from receipt_layoutlm.jobs.wording import duration
from receipt_layoutlm.redact import printable

_OWN_PLACE = frozenset(  # of a job's results, those that job_report.py shows
    {"per_label", "test", "comparability", "health", "f1_by_decoding", "seen", "confusion", "class_weights", "hardware"}
)
BY_WORKER = "as its worker will find the table"  # of a job that has not pinned its pages yet
PHASE_TITLES = {"encode": "data"}
_EXTRAS = ("macro_f1", "field_f1", "train_f1")
_LOSSES = ("train_loss", "eval_loss")


def clean(text: object) -> str:
    """One line without control characters, which a terminal would obey."""
    return printable(str(text)).replace("\n", " ")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as their widest cell, whatever the terminal's width: lines stay greppable."""
    drawn = Table(*header, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for row in rows:
        drawn.add_row(*(Text(clean(cell)) for cell in row))
    console = Console(width=1000, color_system=None)
    with console.capture() as capture:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in capture.get().rstrip().splitlines())


def when(time: datetime | None) -> str:
    """Local time to the second."""
    return "" if time is None else f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def score(value: JsonValue) -> str:
    """Four digits after the point; empty for what is not there."""
    return f"{value:.4f}" if isinstance(value, int | float) else ""


def whole(value: JsonValue) -> str:
    """A count; empty for what is not there."""
    return f"{value:.0f}" if isinstance(value, int | float) else ""


def jobs_table(jobs: Sequence[Job]) -> str:
    """One line a job."""
    header = ("id", "name", "status", "attempt", "created", "best", "dataset")
    return table(header, [_job_row(job) for job in jobs])


def _job_row(job: Job) -> tuple[object, ...]:
    best = score((job.results or {}).get("metric_value"))
    dataset = str(job.job_config.get("dataset") or "").partition("@")[0]
    return job.job_id[:8], job.name, job.status, job.attempt, when(job.created_at), best, dataset


def metrics_table(metrics: Sequence[JobMetric]) -> str:
    """One line an evaluation; a star marks each new best."""
    header = ("step", "epoch", "metric", "value", "precision", "recall", *_EXTRAS, *_LOSSES, "lr", "best")
    return _filled(header, [_metric_row(metric) for metric in metrics]) if metrics else table(header, [])


def _metric_row(metric: JobMetric) -> tuple[object, ...]:
    return (
        "" if metric.global_step is None else metric.global_step,
        "" if metric.epoch is None else f"{metric.epoch:.2f}",
        metric.metric_name,
        score(metric.metric_value),
        score(metric.precision),
        score(metric.recall),
        *(score(metric.extras.get(name)) for name in _EXTRAS),
        *(score(getattr(metric, name)) for name in _LOSSES),
        "" if metric.lr is None else f"{metric.lr:.2e}",
        "*" if metric.is_best else "",
    )


def per_label_table(per_label: JsonValue, seen: JsonValue = None) -> str:
    """Entity scores by label, and how many entities of each an epoch showed where that is known."""
    shown = seen if isinstance(seen, dict) else {}
    rows = [
        (
            label,
            *(score(scores.get(name)) for name in ("precision", "recall", "f1")),
            whole(scores.get("support")),
            whole(shown.get(label)),
        )
        for label, scores in (per_label if isinstance(per_label, dict) else {}).items()
        if isinstance(scores, dict)
    ]
    return _filled(("label", "precision", "recall", "f1", "support", "seen an epoch"), rows)


def datasets_table(datasets: Sequence[Dataset]) -> str:
    """One line a snapshot."""
    header = ("name", "fingerprint", "pages", "groups", "words", "labels", "created", "source")
    rows = [
        (
            each.name,
            each.fingerprint[:12],
            each.counts.get("pages", ""),
            each.counts.get("groups", ""),
            each.counts.get("words", ""),
            len(each.labels),
            when(each.created_at),
            each.source,
        )
        for each in datasets
    ]
    return table(header, rows)


def show_text(job: Job) -> str:
    """A job, its config where it differs from nothing, and its results, a line each."""
    facts: list[tuple[str, object]] = [
        ("name", job.name),
        ("id", job.job_id),
        ("status", job.status),
        ("description", job.description),
        ("created", f"{when(job.created_at)} by {job.created_by}"),
        ("started", when(job.started_at)),
        ("ended", when(job.ended_at)),
        ("queue", f"{job.queue}, priority {job.priority}"),
        ("tags", ", ".join(f"{key}={value}" for key, value in job.tags.items())),
        ("dataset", job.job_config.get("dataset") or (BY_WORKER if job.job_config.get("snapshot_on_worker") else "")),
        ("config", _given_values(job)),
        *(("warning", text) for text in _warnings(job)),
        ("error", "" if job.error is None else f"{job.error.cause}: {job.error.message}"),
        *((name.replace("_", " "), _short(value)) for name, value in _plain_results(job)),
    ]
    lines = [f"{name:16}  {clean(value)}" for name, value in facts if value not in ("", None)]
    return "\n".join(lines)


def _plain_results(job: Job) -> list[tuple[str, JsonValue]]:
    return [(name, value) for name, value in (job.results or {}).items() if name not in _OWN_PLACE]


def _short(value: JsonValue) -> JsonValue:
    return f"{value:.4g}" if isinstance(value, float) else value


def _warnings(job: Job) -> list[str]:
    """What the check of the data found at submit."""
    warnings = job.job_config.get("warnings")
    return [str(text) for text in warnings] if isinstance(warnings, list) else []


def _given_values(job: Job) -> str:
    given = job.job_config.get("given")
    names = given if isinstance(given, dict) else job.job_config
    return ", ".join(f"{name}={json.dumps(job.job_config.get(name))}" for name in names if name != "dataset")


def timeline_text(told: Timeline) -> str:
    """Two tables, so that each fits a terminal: how each attempt went, and where its time went; then the sums."""
    return "\n".join(["", attempts_table(told.rows), "", phases_table(told.rows), "", _totals_line(told.totals)])


def attempts_table(rows: Sequence[Row]) -> str:
    """One line a try: when, on what, from which step to which, what was lost, what it cost, how it ended."""
    header = ("attempt", "started", "machine", "steps", "lost", "cost USD", "ended", "worker")
    return _filled(header, [_attempt_cells(row) for row in rows])


def _filled(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table without the columns that are empty in every row: what nobody measured takes no room."""
    kept = [index for index in range(len(header)) if any(row[index] != "" for row in rows)]
    return table([header[index] for index in kept], [[row[index] for index in kept] for row in rows])


def _attempt_cells(row: Row) -> tuple[object, ...]:
    kind = {True: "spot", False: "on demand", None: None}[row.spot]
    return (
        row.attempt,
        when(row.started_at),
        " ".join(text for text in (row.instance_type, kind) if text),
        f"{row.resume_step} -> {_at_least(row.last_step, row.is_at_least)}",
        _at_least(row.lost_steps, row.is_at_least),
        dollars(row.cost) + (" so far" if row.cost is not None and row.ended_at is None else ""),
        row.outcome or "running",
        row.worker_id,
    )


def phases_table(rows: Sequence[Row]) -> str:
    """One line a try: how long to the first step, waiting and each phase; empty where it was not measured."""
    header = ("attempt", "first step", "waited", *(PHASE_TITLES.get(phase, phase) for phase in PHASES), "running")
    return _filled(header, [_phase_cells(row) for row in rows])


def _phase_cells(row: Row) -> tuple[object, ...]:
    phases = (duration(row.phase_seconds[phase]) if phase in row.phase_seconds else "" for phase in PHASES)
    first_step = "" if row.first_step_seconds is None else duration(row.first_step_seconds)
    return row.attempt, first_step, duration(row.wait_seconds), *phases, duration(row.running_seconds)


def _totals_line(totals: Totals) -> str:
    parts = [
        f"wall time {duration(totals.wall_seconds)}",
        f"running {duration(totals.running_seconds)}",
        f"waiting {duration(totals.waiting_seconds)}",
        f"lost steps {_at_least(totals.lost_steps, totals.is_at_least)}",
        *([] if totals.cost is None else [f"cost {dollars(totals.cost)} USD"]),
    ]
    return f"{'total':16}  {', '.join(parts)}"


def _at_least(steps: int | None, is_at_least: bool) -> str:
    if steps is None:
        return ""
    return f"at least {steps}" if is_at_least else str(steps)


def dollars(cost: float | None) -> str:
    """Four digits after the point, since a run on spot machines costs cents; empty when the price is not known."""
    return "" if cost is None else f"{cost:.4f}"

"""Texts and tables for people. Cells pass through `clean`, so that stored texts cannot control a terminal."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from receipt_dynamo import Dataset, JobMetric
from receipt_layoutlm.cli.output import terminal_width, wrapped
from receipt_layoutlm.jobs.timeline import PHASES, AttemptRow, Timeline
from receipt_layoutlm.jobs.wording import duration, local_time, outcome, stop_reason
from receipt_layoutlm.redact import printable

BY_WORKER = "snapshot to be taken by the worker"  # of a job that has not pinned its pages yet
PHASE_TITLES = {"encode": "data"}
UNLIMITED = sys.maxsize  # columns of a table that no terminal shows
GAP = 3  # columns between two cells, as rich draws them
BARS, MOST_BARS = "▁▂▃▄▅▆▇█", 8
_EXTRAS = ("macro_f1", "field_f1", "train_f1")
_LOSSES = ("train_loss", "eval_loss")


def clean(text: object) -> str:
    """One line without control characters."""
    return printable(str(text)).replace("\n", " ")


@dataclass(frozen=True)
class Column:
    """A column of a table. On a narrow terminal `wraps` lets its text break between words; then columns are left out,
    those of the highest rank first, and never one of rank 0."""

    title: str
    rank: int = 0
    wraps: bool = False


def table(header: Sequence[str | Column], rows: Iterable[Sequence[object]], width: int | None = None) -> str:
    """Rows below a header, not wider than `width`: by default the terminal's, and without limit for a pipe or a file.

    A column that is given by its title has its place as rank: the last ones are left out first, the first one never. A
    last line names what was left out. Where even the columns of rank 0 are too wide, each row becomes lines of its own.
    """
    columns = [each if isinstance(each, Column) else Column(each, rank) for rank, each in enumerate(header)]
    cells = [[clean(cell) for cell in row] for row in rows]
    limit = width or terminal_width() or UNLIMITED
    widths, least = list[int](), list[int]()
    for column, texts in zip(columns, zip(*[[each.title for each in columns], *cells], strict=True), strict=True):
        widths.append(max(map(cell_len, texts)))
        words = " ".join(texts).split() if column.wraps else texts
        longest = max(map(cell_len, words), default=0)
        least.append(min(longest, limit // 2) if column.wraps else longest)  # a digest or an address may be longer
    shown = list(range(len(columns)))
    while _drawn(least, shown) > limit and any(columns[index].rank for index in shown):
        shown.remove(max(shown, key=lambda index: columns[index].rank))
    if _drawn(least, shown) > limit:
        return _records(columns, cells, limit)
    while _drawn(widths, shown) > limit:
        widths[max((index for index in shown if widths[index] > least[index]), key=widths.__getitem__)] -= 1
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index in shown:
        drawn.add_column(columns[index].title, width=widths[index], overflow="fold")
    for row in cells:
        drawn.add_row(*(Text(row[index]) for index in shown))
    console = Console(width=max(1, _drawn(widths, shown)), color_system=None)
    with console.capture() as capture:
        console.print(drawn)
    lines = [line.rstrip() for line in capture.get().rstrip().splitlines()]
    if hidden := ", ".join(column.title for index, column in enumerate(columns) if index not in shown):
        lines.append(wrapped(f"(left out at this width: {hidden})", limit))
    return "\n".join(lines)


def _drawn(widths: Sequence[int], shown: Sequence[int]) -> int:
    """The width of a table with these columns."""
    return sum(widths[index] + GAP for index in shown) - GAP


def _records(columns: Sequence[Column], cells: Sequence[Sequence[str]], limit: int) -> str:
    """One line for each cell that is not empty, and an empty line between rows."""
    titles = max(cell_len(column.title) for column in columns)
    rows = [
        [wrapped(f"{column.title:{titles}}  {cell}", limit) for column, cell in zip(columns, row, strict=True) if cell]
        for row in cells
    ]
    return "\n\n".join("\n".join(lines) for lines in rows)


def when(time: datetime | None) -> str:
    """Local time to the second, with its zone."""
    return "" if time is None else local_time(time)


def score(value: JsonValue) -> str:
    """Four decimals; empty if there is no value."""
    return f"{value:.4f}" if isinstance(value, int | float) else ""


def reached_text(results: Mapping[str, JsonValue]) -> str:
    """The best evaluation and its place, and why the run ended: `eval_f1 0.5741 at epoch 3, step 30; …`."""
    places = [(name, results.get(key)) for name, key in (("epoch", "best_epoch"), ("step", "best_global_step"))]
    at = ", ".join(f"{name} {value:g}" for name, value in places if isinstance(value, int | float))
    reached = f"{results.get('metric_name')} {score(results.get('metric_value'))}" + (at and f" at {at}")
    return reached + (f"; {stop_reason(results['stop_reason'])}" if results.get("stop_reason") else "")


def whole(value: JsonValue) -> str:
    """A whole number; empty if there is no value."""
    return f"{value:.0f}" if isinstance(value, int | float) else ""


def sparkline(values: Sequence[float]) -> str:
    """At most MOST_BARS bars, evenly spread over the values, from the least to the greatest; empty without two."""
    if len(values) < 2:
        return ""
    steps = min(len(values), MOST_BARS)
    drawn = [values[round(place * (len(values) - 1) / (steps - 1))] for place in range(steps)]
    least, span = min(drawn), max(drawn) - min(drawn)
    return "".join(BARS[round((value - least) / span * (len(BARS) - 1)) if span else 0] for value in drawn)


def metrics_table(metrics: Sequence[JobMetric]) -> str:
    """One line per evaluation; a star marks each new best."""
    header = (
        *(Column(title) for title in ("step", "epoch", "metric", "value")),
        *(Column(title, rank=2) for title in ("precision", "recall", *_EXTRAS)),
        *(Column(title, rank=1) for title in _LOSSES),
        Column("lr", rank=3),
        Column("best"),
    )
    rows = [
        (
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
        for metric in metrics
    ]
    return _filled(header, rows)


def per_label_table(per_label: JsonValue, seen: JsonValue = None) -> str:
    """Entity scores by label, and the number of entities seen per epoch where known."""
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
    return _filled(("label", "precision", "recall", "f1", "support", "seen per epoch"), rows)


def confusion_table(confusion: Mapping[str, Mapping[str, int]]) -> str:
    """One line per true label: its words, the share that was recognised, and what the others were taken for."""
    names = sorted(
        confusion.keys() | {name for row in confusion.values() for name in row}, key=lambda name: (name != "O", name)
    )
    rows = []
    for true in names:
        row = confusion.get(true, {})
        total, right = sum(row.values()), row.get(true, 0)
        wrong = sorted(
            ((count, name) for name, count in row.items() if name != true and count),
            key=lambda each: (-each[0], each[1]),
        )
        share = f"{right / total:.0%}".replace("%", " %") if total else ""
        rows.append((true, total, right, share, ", ".join(f"{name} {count}" for count, name in wrong)))
    header = (
        Column("true"),
        Column("support"),
        Column("correct"),
        Column("recall", rank=1),
        Column("taken for", wraps=True),
    )
    return table(header, rows)


def datasets_table(datasets: Sequence[Dataset]) -> str:
    """One line per snapshot."""
    header = (
        Column("name"),
        Column("fingerprint"),
        Column("pages", rank=1),
        Column("groups", rank=6),
        Column("words", rank=5),
        Column("labels", rank=4),
        Column("created", rank=2),
        Column("source", rank=3, wraps=True),
    )
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


def timeline_text(timeline: Timeline) -> str:
    """Attempts, their phases, and the totals; two tables, so that each fits a terminal."""
    totals = timeline.totals
    sums = [
        f"wall time {duration(totals.wall_seconds)}",
        f"running {duration(totals.running_seconds)}",
        f"waiting {duration(totals.waiting_seconds)}",
        f"lost steps {_at_least(totals.lost_steps, totals.is_at_least)}",
        *([] if totals.cost is None else [f"cost {dollars(totals.cost)} USD"]),
    ]
    last_line = f"{'total':16}  {', '.join(sums)}"
    return "\n".join(["", attempts_table(timeline.rows), "", phases_table(timeline.rows), "", last_line])


def attempts_table(rows: Sequence[AttemptRow]) -> str:
    """One line per attempt: start, machine, steps, lost steps, cost, outcome, worker."""
    header = (
        Column("attempt"),
        Column("started", rank=3),
        Column("machine", rank=4),
        Column("steps", wraps=True),
        Column("lost steps", rank=1, wraps=True),
        Column("cost USD", rank=2, wraps=True),
        Column("ended", wraps=True),
        Column("worker", rank=5),
    )
    kinds = {True: "spot", False: "on demand", None: None}
    cells = [
        (
            row.attempt,
            when(row.started_at),
            " ".join(text for text in (row.instance_type, kinds[row.spot]) if text),
            f"{row.resume_step} -> {_at_least(row.last_step, row.is_at_least)}",
            _at_least(row.lost_steps, row.is_at_least),
            dollars(row.cost) + (" so far" if row.cost is not None and row.ended_at is None else ""),
            outcome(row.outcome),
            row.worker_id,
        )
        for row in rows
    ]
    return _filled(header, cells)


def _filled(header: Sequence[str | Column], rows: Sequence[Sequence[object]]) -> str:
    """A table without the columns that are empty in every row."""
    kept = [index for index in range(len(header)) if any(row[index] != "" for row in rows)]
    return table([header[index] for index in kept], [[row[index] for index in kept] for row in rows])


def phases_table(rows: Sequence[AttemptRow]) -> str:
    """One line per attempt: time to the first step, waiting, and each phase; empty if not measured."""
    header = ("attempt", "first step", "waited", *(PHASE_TITLES.get(phase, phase) for phase in PHASES), "running")
    cells = [
        (
            row.attempt,
            "" if row.first_step_seconds is None else duration(row.first_step_seconds),
            duration(row.wait_seconds),
            *(duration(row.phase_seconds[phase]) if phase in row.phase_seconds else "" for phase in PHASES),
            duration(row.running_seconds),
        )
        for row in rows
    ]
    return _filled(header, cells)


def _at_least(steps: int | None, is_at_least: bool) -> str:
    if steps is None:
        return ""
    return f"at least {steps}" if is_at_least else str(steps)


def dollars(cost: float | None) -> str:
    """Four decimals, since a run on spot machines costs cents; empty if the price is unknown."""
    return "" if cost is None else f"{cost:.4f}"

"""Geometry of charts: curves over the steps of a run with its attempts under the axis, reliability, sparklines.

Sizes are units of the SVG's view box; a template draws them, styles give the colours.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, TypeVar

from receipt_layoutlm.reports.report import AttemptEnding, EvaluationPoint, Report, ReportedAttempt

V = TypeVar("V")

WIDTH, HEIGHT = 520, 250
LEFT, RIGHT, TOP, BOTTOM = 72, 12, 12, 40
ROW: Final = 9
"""Height of an attempt under the axis."""

MAX_ROWS: Final = 6
MARKED: Final = 120
"""Points of a curve, up to which each is marked."""

MAX_POINTS: Final = 400
"""Of a drawn curve."""

UNIT_SCORES: Final = 5
"""Scores from 0 to 1 that share a chart with the headline."""

MAX_CHARTS: Final = 12
SIGNS: Final[dict[AttemptEnding, str]] = {
    "running": "…",
    "succeeded": "✓",
    "interrupted": "‖",
    "cancelled": "×",
    "failed": "✗",
}


class AxisMark(NamedTuple):
    """A point of a curve, and its text."""

    x: float
    y: float
    text: str


class Curve(NamedTuple):
    """A curve. number: its style. discarded: points of evaluations that a later attempt repeated."""

    name: str
    number: int
    line: str  # points of a polyline
    marks: tuple[AxisMark, ...]
    discarded: tuple[AxisMark, ...]


class Tick(NamedTuple):
    place: float
    text: str


class TimeSpan(NamedTuple):
    """An attempt under the axis, from the step it began at to the last one it reached."""

    x: float
    y: float
    width: float
    ending: AttemptEnding
    sign: str
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over steps. cuts: where attempts broke off."""

    title: str
    unit: str
    height: int
    bottom: int  # of the plot
    curves: tuple[Curve, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    spans: tuple[TimeSpan, ...]
    cuts: tuple[float, ...]


class ChartValues(NamedTuple):
    """Values of a curve by step: those that hold, and those that a later attempt repeated."""

    name: str
    kept: Sequence[tuple[int, float]]
    discarded: Sequence[tuple[int, float]]


def run_charts(report: Report) -> list[Chart]:
    """Losses, learning rate, the headline with the scores from 0 to 1, and a chart for every other score."""
    points = report.evaluations
    if not points:
        return []
    losses = [_values(points, name.replace("_", " "), name) for name in ("train_loss", "eval_loss")]
    headline = points[-1].metric_name
    names = sorted({name for point in points for name in point.scores} - {headline.removeprefix("eval_")})
    scores = {name: _scores(points, name) for name in names}
    unit = [name for name in (*_FIRST, *names) if name in scores and _is_unit(scores[name])]
    unit = list(dict.fromkeys(unit))[:UNIT_SCORES]
    main = _values(points, headline, "metric_value")
    groups = [("Losses", "mean loss", losses), ("Learning rate", "rate", [_values(points, "learning rate", "lr")])]
    if _is_unit(main):
        groups.append(("Scores", "score, 0 to 1", [main, *(scores[name] for name in unit)]))
    else:
        groups += [("Headline", headline, [main]), ("Scores", "score, 0 to 1", [scores[name] for name in unit])]
    groups += [(name.replace("_", " "), "value", [scores[name]]) for name in names if name not in unit]
    drawn = [(title, text, [each for each in group if each.kept or each.discarded]) for title, text, group in groups]
    return [_chart(title, text, group, report.attempts) for title, text, group in drawn if group][:MAX_CHARTS]


_FIRST: Final = ("precision", "recall", "macro_f1", "field_f1", "train_f1")


def _values(points: Iterable[EvaluationPoint], name: str, field: str) -> ChartValues:
    return _split(name, ((point, getattr(point, field)) for point in points))


def _scores(points: Iterable[EvaluationPoint], name: str) -> ChartValues:
    return _split(name.replace("_", " "), ((point, point.scores.get(name)) for point in points))


def _split(name: str, values: Iterable[tuple[EvaluationPoint, float | None]]) -> ChartValues:
    found = [(point, value) for point, value in values if value is not None]
    kept = sorted({point.global_step: value for point, value in found if point.is_visible}.items())
    return ChartValues(name, kept, [(point.global_step, value) for point, value in found if not point.is_visible])


def _is_unit(values: ChartValues) -> bool:
    return all(0 <= value <= 1 for _, value in (*values.kept, *values.discarded))


def _chart(title: str, unit: str, group: Sequence[ChartValues], attempts: Sequence[ReportedAttempt]) -> Chart:
    steps = [step for values in group for step, _ in (*values.kept, *values.discarded)]
    last = max([*steps, *(row.last_step or 0 for row in attempts), 1])
    numbers = [value for values in group for _, value in (*values.kept, *values.discarded)]
    low, high = (0.0, 1.0) if unit == "score, 0 to 1" else (min(0.0, *numbers), max(numbers))
    y_values = ticks(low, high if high > low else low + 1)
    low, high = min(low, y_values[0]), max(y_values[-1], high)
    bottom = HEIGHT - BOTTOM

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / last

    def y(value: float) -> float:
        return bottom - (bottom - TOP) * (value - low) / (high - low)

    def marks(points: Iterable[tuple[int, float]], name: str) -> tuple[AxisMark, ...]:
        return tuple(AxisMark(x(step), y(value), f"{name} {figure(value)} at step {step}") for step, value in points)

    curves = []
    for number, values in enumerate(group):
        kept = thinned(values.kept, MAX_POINTS)
        line = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in kept)
        shown = marks(kept, values.name) if len(kept) <= MARKED else ()
        curves.append(Curve(values.name, number, line, shown, marks(thinned(values.discarded, MARKED), values.name)))
    spans = tuple(_spans(attempts, x, bottom + 22))
    rows = len({span.y for span in spans})
    return Chart(
        title=title,
        unit=unit,
        height=HEIGHT + rows * ROW + (4 if rows else 0),
        bottom=bottom,
        curves=tuple(curves),
        x_ticks=tuple(Tick(x(step), figure(step)) for step in ticks(0, last) if step <= last and step == int(step)),
        y_ticks=tuple(Tick(y(value), figure(value)) for value in y_values),
        spans=spans,
        cuts=tuple(x(row.last_step) for row in attempts[:-1] if row.last_step is not None),
    )


def thinned(items: Sequence[V], most: int) -> Sequence[V]:
    """At most so many, evenly spread, with the first and the last."""
    if len(items) <= most:
        return items
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def _spans(attempts: Sequence[ReportedAttempt], x: Callable[[float], float], top: float) -> Iterator[TimeSpan]:
    for number, row in enumerate(attempts):
        end = row.last_step if row.last_step is not None else row.resume_step
        text = f"attempt {row.attempt}, steps {row.resume_step} to {end}: {row.outcome}"
        y = top + number % MAX_ROWS * ROW
        yield TimeSpan(
            x(row.resume_step), y, max(x(end) - x(row.resume_step), 2.0), row.ending, SIGNS[row.ending], text
        )


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers from at most `low` to at least `high`, about so many."""
    step = 10 ** math.floor(math.log10((high - low) / wanted))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= wanted)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def figure(value: float) -> str:
    """At most four digits: 0.05, 1.2e-05, 1200."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.4g}"


def sparkline(values: Sequence[float | None], width: float = 96, height: float = 20) -> str:
    """Points of a polyline for values from 0 to 1, evenly spaced; a gap is left out."""
    apart = width / max(len(values) - 1, 1)
    return " ".join(
        f"{place * apart:.1f},{1 + (height - 2) * (1 - min(max(value, 0), 1)):.1f}"
        for place, value in enumerate(values)
        if value is not None
    )


class Bar(NamedTuple):
    """A stretch of time of a run: waiting, or an attempt."""

    x: float
    width: float
    name: str  # of its style
    text: str


def timeline_bars(report: Report, now: datetime, width: float) -> list[Bar]:
    """Waiting and running, from the submission to the end of the last attempt."""
    rows = report.attempts
    end = max([report.job.created_at, *(row.ended_at or now for row in rows)])
    whole = max((end - report.job.created_at).total_seconds(), 1.0)
    bars, since = [], report.job.created_at
    for row in rows:
        ended = row.ended_at or now
        for begin, until, name, text in (
            (since, row.started_at, "waiting", f"waiting for attempt {row.attempt}"),
            (row.started_at, ended, row.ending, f"attempt {row.attempt}: {row.outcome}"),
        ):
            at = width * max((begin - report.job.created_at).total_seconds(), 0.0) / whole
            length = width * max((until - begin).total_seconds(), 0.0) / whole
            if length > 0:
                bars.append(Bar(at, max(length, 1.0), name, text))
        since = ended
    return bars

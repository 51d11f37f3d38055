"""Progress of a trainer, a snapshot or a transfer on stderr: bars on a terminal, otherwise a line per evaluation."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from receipt_dynamo import Job
from receipt_layoutlm.cli.output import pasteable
from receipt_layoutlm.cli.tables import clean, score
from receipt_layoutlm.datasets import receipt_snapshot
from receipt_layoutlm.jobs.wording import cause_words
from receipt_layoutlm.redact import printable
from receipt_layoutlm.run import events
from receipt_layoutlm.run.events import FINISH_TEXTS


class ProgressView:
    """Shows trainer events on stderr."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
        self._task: TaskID | None = None
        self._ctx = click.get_current_context(silent=True)  # events come from another thread

    def observe(self, job: Job, event: events.Event) -> None:
        with suppress(OSError):  # stderr is closed: no reason to stop training
            self._show(job, event)

    def _show(self, job: Job, event: events.Event) -> None:
        match event:
            case events.Started():
                self._say(started_line(job, event))
            case events.Progress():
                self._advance(event)
            case events.Evaluation():
                self._say(evaluation_line(event))
            case events.Log():
                self._say(f"{event.level}: {clean(event.message)}")
            case events.Failed():
                self._say(f"failed: {cause_words(event.cause)}: {clean(event.message)}")
            case events.Finished():
                self._say(f"finished at step {event.global_step}: {FINISH_TEXTS[event.reason]}")
            case events.Checkpoint():
                pass

    def _advance(self, event: events.Progress) -> None:
        if self._task is None:
            self._task = self._bar.add_task("", total=event.total_steps)
        loss = "" if event.train_loss is None else f"  loss {event.train_loss:.3f}"
        rate = "" if event.pages_per_second is None else f"  {event.pages_per_second:.1f} pages/s"
        share = "" if event.mfu is None else f"  {event.mfu:.0%} of the GPU"
        self._bar.update(
            self._task,
            total=event.total_steps,
            completed=event.global_step,
            description=f"{event.phase} epoch {event.epoch:.1f}{loss}{rate}{share}",
        )

    def _say(self, text: str) -> None:
        line = printable(pasteable(text, self._ctx))
        if self._bar.disable:
            click.echo(line, err=True)
        else:
            self._bar.console.print(line, markup=False, highlight=False)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def started_line(job: Job, event: events.Started) -> str:
    """Device, set sizes, parameters and label counts."""
    labels = ", ".join(f"{label} {count}" for label, count in event.label_counts.items())
    resumed = "" if event.resumed_from is None else f", resumed from step {event.resumed_from}"
    return (
        f"{clean(job.name)}: {clean(event.place)}, "
        f"{event.train_pages} training pages and {event.eval_pages} validation pages, "
        f"{event.parameters:,} parameters ({event.trainable_parameters:,} trainable), "
        f"{event.total_steps} steps{resumed}\nlabels: {clean(labels)}"
    )


SHOWN = {"precision": "P", "recall": "R", "macro_f1": "macro F1", "field_f1": "field F1", "train_f1": "train F1"}
"""Scores in an evaluation's line, where a task has them."""


def evaluation_line(event: events.Evaluation) -> str:
    """One line per evaluation."""
    shown = ", ".join(f"{title} {score(event.scores[name])}" for name, title in SHOWN.items() if name in event.scores)
    mark = "  new best" if event.is_best else ""
    mark += "  collapsed: one class for every word" if event.collapsed else ""
    return (
        f"epoch {event.epoch:.2f} step {event.global_step}: {clean(event.metric_name)} {score(event.metric_value)} "
        f"({shown}) "
        f"train loss {score(event.train_loss)} eval loss {score(event.eval_loss)}{mark}"
    )


@contextmanager
def snapshot_bar() -> Iterator[Callable[[receipt_snapshot.SnapshotProgress], None]]:
    """Bar that appears with the first progress of a snapshot."""
    with _bar() as bar:
        task: TaskID | None = None

        def show(done: receipt_snapshot.SnapshotProgress) -> None:
            nonlocal task
            if task is None:
                task = bar.add_task("reading receipts", total=None)
            bar.update(task, description=f"{done.receipts} receipts read", completed=done.parts_done, total=done.parts)

        yield show


@contextmanager
def counting_bar(title: str, total: int | None) -> Iterator[Callable[[], None]]:
    """Bar over `total` items, None if unknown; the yielded function advances it by one."""
    with _bar() as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def share_bar(title: str, total: int) -> Iterator[Callable[[float], None]]:
    """Bar over `total` items; the yielded function takes how many are done, the share of one included."""
    with _bar() as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)

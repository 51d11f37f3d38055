"""Bars for what takes a while at the table or the bucket: on a terminal, on stderr, nowhere else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from receipt_layoutlm import receipt_snapshot


@contextmanager
def snapshot_bar() -> Iterator[Callable[[receipt_snapshot.Progress], None]]:
    """What `take_snapshot` reports to."""
    with _bar() as bar:
        task = bar.add_task("reading receipts", total=None)

        def show(done: receipt_snapshot.Progress) -> None:
            bar.update(task, description=f"{done.receipts} receipts read", completed=done.parts_done, total=done.parts)

        yield show


@contextmanager
def counting_bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Call what it gives after each of `total` things."""
    with _bar() as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True)

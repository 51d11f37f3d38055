"""layoutlm-cli job watch: a running job on a terminal, redrawn in place; plain lines elsewhere."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from receipt_dynamo import Attempt, JobMetric, JobQueue
from receipt_dynamo.metrics_view import visible
from receipt_layoutlm.cli.completion import job_argument
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.ended import ended_document, ended_here, ended_text, exit_code
from receipt_layoutlm.cli.find import find_named_job
from receipt_layoutlm.cli.output import colour_of, coloured, say, terminal_width, wrapped
from receipt_layoutlm.cli.tables import clean, score, sparkline
from receipt_layoutlm.cli.wait import Look, evaluation_text, follow, left_alone
from receipt_layoutlm.jobs.why_open import machine_text
from receipt_layoutlm.jobs.wording import position_text
from receipt_layoutlm.run.progress import LeaseProgress

BAR_WIDTH = 24


@click.command("watch")
@job_argument
@click.option("--json", "as_json", is_flag=True, help="Print the job that has ended as JSON, the rest on stderr.")
@store_options
def watch(connection: Connection, reference: str, as_json: bool) -> None:
    """Show a job until it ends: state, time left, loss, scores, speed.

    On a terminal it is redrawn in place; a pipe or a file gets a line for each evaluation and for each percent of the
    steps. The figures are those of the worker's last renewal, at most 15 s old. The time left is that of all epochs,
    by the steps of this attempt with their evaluations; early stopping ends a run before. GPU: share of its peak.

    Exit code 0 succeeded, 100 failed, 103 cancelled, 130 after Ctrl-C, which leaves the job alone.
    """
    queue = connection.queue()
    job = find_named_job(queue.client, reference)
    stream = sys.stderr if as_json else sys.stdout
    on_terminal = stream.isatty() and not Console(stderr=as_json).is_dumb_terminal
    with left_alone(job, "watch"), dashboard(queue, as_json) if on_terminal else plain_lines(as_json) as show:
        job = follow(queue, job.job_id, show)
    ended = ended_here(job, os.environ)
    if as_json:
        click.echo(json.dumps(ended_document(ended.job, ended.folder)))
    else:
        say(ended_text(queue, ended.job, ended.folder))
    sys.exit(exit_code(ended.job.status))


@contextmanager
def dashboard(queue: JobQueue, err: bool) -> Iterator[Callable[[Look], None]]:
    """Draws each look over the one before; what is said meanwhile stands above. The last one stays."""
    history, attempts = list[JobMetric](), list[Attempt]()
    console = Console(stderr=err, color_system=None if colour_of(os.environ) is False else "auto")
    with Live(console=console, auto_refresh=False) as live:

        def show(look: Look) -> None:
            nonlocal attempts
            history.extend(look.evaluations)
            if look.job.attempt != len(attempts):
                attempts = queue.client.list_attempts(look.job.job_id)
            width = terminal_width(err) or console.width
            text = watch_text(look, visible(history, attempts), attempts)
            text = "\n".join(wrapped(line, width) for line in text.split("\n"))
            live.update(Text.from_ansi(coloured(text)), refresh=True)

        yield show


def watch_text(look: Look, evaluations: list[JobMetric], attempts: list[Attempt]) -> str:
    """The lines of the display; those of which nothing is known are left out."""
    job, progress = look.job, look.progress
    newest = attempts[-1] if attempts else None
    attempt = "" if newest is None else f"{newest.attempt}, worker {clean(newest.worker_id)}"
    if newest is not None and (machine := machine_text(newest)):
        attempt += f" ({clean(machine)})"
    lines = [
        ("job", f"{clean(job.name)} ({job.job_id[:8]})"),
        ("status", look.state),
        ("attempt", attempt),
        ("progress", "" if progress is None else _bar(progress) + clean(position_text(progress))),
        ("score", _scores(evaluations)),
        ("loss, speed", "" if progress is None else rates_text(progress)),
    ]
    return "\n".join(f"{title:11}  {text}" for title, text in lines if text)


def _bar(progress: LeaseProgress) -> str:
    if progress.percent is None:
        return ""
    done = progress.percent * BAR_WIDTH // 100
    return "█" * done + "░" * (BAR_WIDTH - done) + "  "


def _scores(evaluations: list[JobMetric]) -> str:
    """eval_f1 0.7412, best 0.7501 at step 100, and their course."""
    if not evaluations:
        return ""
    last, best = evaluations[-1], max(evaluations, key=lambda metric: metric.metric_value)
    line = sparkline([metric.metric_value for metric in evaluations])
    text = f"{clean(last.metric_name)} {score(last.metric_value)}, best {score(best.metric_value)}"
    return f"{text} at step {best.global_step}  {line}".rstrip()


def rates_text(progress: LeaseProgress) -> str:
    """loss 0.321, 12,345 tokens/s, GPU 43 %, 5.2 GB of GPU memory: as far as they are known."""
    parts = (
        (progress.train_loss, "loss {:.4g}"),
        (progress.tokens_per_second, "{:,.0f} tokens/s"),
        (progress.mfu, "GPU {:.0%}"),
        (progress.gpu_memory and progress.gpu_memory / 1e9, "{:.1f} GB of GPU memory"),
    )
    return ", ".join(form.format(value) for value, form in parts if value is not None).replace("%", " %")


@contextmanager
def plain_lines(err: bool) -> Iterator[Callable[[Look], None]]:
    """A line for each evaluation, each state, and each percent of the steps."""
    before: tuple[str, int, str | int | None] | None = None

    def show(look: Look) -> None:
        nonlocal before
        for metric in look.evaluations:
            say(evaluation_text(metric), err=err)
        progress = look.progress
        place = None if progress is None else progress.phase if progress.percent is None else progress.percent
        now = (look.state.partition(" in ")[0], look.job.attempt, place)
        if now != before:
            before = now
            attempt = f", attempt {look.job.attempt}" if look.job.attempt else ""
            figures = (
                "" if progress is None else ", ".join(filter(None, (position_text(progress), rates_text(progress))))
            )
            say(clean(f"{look.state}{attempt}" + (figures and f": {figures}")), err=err)

    yield show

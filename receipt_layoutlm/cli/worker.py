"""layoutlm-cli worker: claim and run submitted jobs."""

from collections import Counter
from pathlib import Path

import click

from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.extras import require
from receipt_layoutlm.cli.run_here import log_to_stderr, work_queue


@click.group()
def worker() -> None:
    """Claim and run submitted jobs."""


@worker.command()
@click.option("--once", is_flag=True, help="Take one job if there is one, then end.")
@click.option("--idle-timeout", type=float, metavar="SECONDS", help="End after so long without a job.")
@click.option("--queue", default="default", show_default=True, help="Queue to claim from.")
@click.option("--work-dir", type=click.Path(path_type=Path), help="Folder for run directories (else the job's own).")
@store_options
def run(connection: Connection, once: bool, idle_timeout: float | None, queue: str, work_dir: Path | None) -> None:
    """Claim jobs by priority, then age, and run each in a child process.

    Ctrl-C or SIGTERM stops gracefully: the trainer writes a checkpoint, the job goes back to the queue.
    """
    require("train")
    log_to_stderr()
    if once and idle_timeout is None:
        idle_timeout = 0
    ended = work_queue(connection, queue, 1 if once else None, idle_timeout, work_dir)
    if not ended:
        click.echo(f"no job was claimable in queue {queue!r}", err=True)
    for status, count in Counter(ended).items():
        click.echo(f"{count} job{'s' if count > 1 else ''} {status}")

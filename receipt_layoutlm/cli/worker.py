"""layoutlm-cli worker: claim and run submitted jobs."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from receipt_layoutlm.cli.connection import Connection, explain_errors, store_options
from receipt_layoutlm.cli.extras import require
from receipt_layoutlm.cli.run_here import log_to_stderr, work_queue
from receipt_layoutlm.cli.tables import clean
from receipt_layoutlm.running_workers import RunningWorker, running, workers_dir
from receipt_layoutlm.running_workers import drain as ask_to_drain


@click.group()
def worker() -> None:
    """Claim and run submitted jobs."""


@worker.command()
@click.option("--once", is_flag=True, help="Take one job if there is one, then end.")
@click.option("--idle-timeout", type=float, metavar="SECONDS", help="End after so long without a job.")
@click.option("--queue", default="default", show_default=True, help="Queue to claim from.")
@click.option("--work-dir", type=click.Path(path_type=Path), help="Folder for run directories.")
@click.option(
    "--accept",
    "accepted",
    multiple=True,
    metavar="S3_PLACE",
    help="Also take jobs that write to, or start from weights in, s3://BUCKET[/PREFIX]; repeat for more.",
)
@click.option(
    "--price-per-hour",
    type=click.FloatRange(min=0),
    envvar="LAYOUTLM_PRICE_PER_HOUR",
    show_envvar=True,
    metavar="USD",
    help="What this machine costs: `job show` tells the cost of each attempt.",
)
@store_options
def run(
    connection: Connection,
    once: bool,
    idle_timeout: float | None,
    queue: str,
    work_dir: Path | None,
    accepted: tuple[str, ...],
    price_per_hour: float | None,
) -> None:
    """Claim jobs by priority, then age, and run each in a child process.

    Ctrl-C or SIGTERM stops gracefully: the trainer writes a checkpoint, the job goes back to the queue. On a spot
    instance its two-minute notice does the same. While idle, jobs of dead workers are put back into the queue.
    """
    require("train")
    log_to_stderr()
    if once and idle_timeout is None:
        idle_timeout = 0
    ended = work_queue(connection, queue, 1 if once else None, idle_timeout, work_dir, accepted, price_per_hour)
    if not ended:
        click.echo(f"no job was claimable in queue {queue!r}", err=True)
    for status, count in Counter(ended).items():
        click.echo(f"{count} job{'s' if count > 1 else ''} {status}")


@worker.command()
@click.option("--worker-id", metavar="ID", help="Only this worker (else every worker of this machine).")
@click.option("--dry-run", is_flag=True, help="Only say which workers would be asked.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@explain_errors
def drain(worker_id: str | None, dry_run: bool, as_json: bool) -> None:
    """Ask the workers of this machine to finish the job in hand, take no other, and end."""
    folder = workers_dir(os.environ)
    found = _chosen(running(folder), worker_id, folder)
    if not dry_run:
        for each in found:
            ask_to_drain(each)
    if as_json:
        rows = [{"worker_id": each.worker_id, "pid": each.pid, "asked": not dry_run} for each in found]
        click.echo(json.dumps(rows, indent=1))
        return
    for each in found:
        what = "would ask" if dry_run else "asked"
        click.echo(f"{what} {clean(each.worker_id)} (pid {each.pid}) to finish its job and take no other")


def _chosen(found: Sequence[RunningWorker], worker_id: str | None, folder: Path) -> list[RunningWorker]:
    """All that run, or the one that was named; an error that says what to do when there is none."""
    if not found:
        raise click.ClickException(
            f"no worker of this user runs on this machine ({folder} names none): "
            "run this as the user that runs the worker, or with its LAYOUTLM_STATE_DIR"
        )
    chosen = [each for each in found if worker_id in (None, each.worker_id)]
    if not chosen:
        ids = ", ".join(clean(each.worker_id) for each in found)
        raise click.ClickException(f"no worker {worker_id} runs on this machine; these do: {ids}")
    return chosen

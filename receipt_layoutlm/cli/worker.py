"""layoutlm-cli worker: claim and run submitted jobs."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from receipt_dynamo import FleetRows
from receipt_layoutlm.cli.connection import Connection, explain_errors, require, store_options
from receipt_layoutlm.cli.run_here import WorkerOptions, log_to_stderr, work_queue
from receipt_layoutlm.cli.tables import clean
from receipt_layoutlm.fleet.machine import MachineOptions, PauseWatch
from receipt_layoutlm.worker.host.registry import RunningWorker, running_workers, workers_dir
from receipt_layoutlm.worker.host.registry import drain as ask_to_drain
from receipt_layoutlm.worker.worker import accepts

queue_option = click.option(
    "--queue",
    default="default",
    show_default=True,
    envvar="LAYOUTLM_QUEUE",
    show_envvar=True,
    help="Queue to claim from.",
)
fleet_option = click.option(
    "--fleet",
    metavar="NAME",
    envvar="LAYOUTLM_FLEET",
    show_envvar=True,
    help="The fleet that this machine belongs to: its pauses are kept.",
)


@click.group()
def worker() -> None:
    """Claim and run submitted jobs."""


@worker.command()
@click.option("--once", is_flag=True, help="Take one job if there is one, then end.")
@click.option(
    "--idle-timeout",
    type=click.FloatRange(min=0),
    envvar="LAYOUTLM_IDLE_SECONDS",
    show_envvar=True,
    metavar="SECONDS",
    help="End after so long without a job; 0: at the first look that finds none. Else the worker waits for ever.",
)
@queue_option
@click.option(
    "--work-dir",
    type=click.Path(path_type=Path),
    envvar="LAYOUTLM_WORK_DIR",
    show_envvar=True,
    help="Folder for run directories.",
)
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
    help="What this machine costs: `job show` tells the cost of each attempt. With --fleet it is looked up.",
)
@fleet_option
@click.option(
    "--slot",
    type=click.IntRange(min=0),
    default=0,
    envvar="LAYOUTLM_SLOT",
    show_envvar=True,
    help="Which of several workers of a fleet's machine this is.",
)
@click.option(
    "--ondemand-after",
    type=click.IntRange(min=0),
    default=0,
    envvar="LAYOUTLM_ONDEMAND_AFTER",
    show_envvar=True,
    metavar="K",
    help="Send a job that was interrupted K times within an hour to the queue of on-demand machines; 0: never.",
)
@click.option(
    "--min-free-disk",
    type=click.FloatRange(min=0),
    default=0,
    envvar="LAYOUTLM_MIN_FREE_DISK",
    show_envvar=True,
    metavar="GB",
    help="Keep so much free below the work dir: run directories of earlier jobs and downloads are DELETED for that, "
    "and where that is not enough no job is taken. 0: leave the disk alone.",
)
@click.option(
    "--ended-file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="LAYOUTLM_ENDED_FILE",
    hidden=True,
    help="Where to write why the worker has ended.",
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
    fleet: str | None,
    slot: int,
    ondemand_after: int,
    min_free_disk: float,
    ended_file: Path | None,
) -> None:
    """Claim jobs by priority, then age, and run each in a child process.

    Ctrl-C or SIGTERM stops gracefully: the trainer writes a checkpoint, the job goes back to the queue. On a spot
    instance its two-minute notice does the same. While idle, jobs of dead workers are put back into the queue.
    With --fleet no job is taken while the fleet is paused.
    """
    require("train")
    log_to_stderr()
    if once and idle_timeout is None:
        idle_timeout = 0
    options = WorkerOptions(
        queue=queue,
        max_jobs=1 if once else None,
        idle_timeout=idle_timeout,
        work_dir=work_dir,
        accepted=accepted,
        ondemand_after=ondemand_after,
        ended_file=ended_file,
        machine=MachineOptions(fleet, slot, price_per_hour, min_free_disk),
    )
    ended = work_queue(connection, options)
    if not ended:
        click.echo(f"no job was claimable in queue {queue!r}", err=True)
    for status, count in Counter(ended).items():
        click.echo(f"{count} job{'s' if count > 1 else ''} {status}")


@worker.command()
@queue_option
@fleet_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def peek(connection: Connection, queue: str, fleet: str | None, as_json: bool) -> None:
    """Say whether a worker started now would get a job: `claimable` or `nothing`. Nothing is claimed."""
    source = connection.queue()
    is_paused = fleet is not None and PauseWatch(FleetRows(source.client), fleet)()
    found = None if is_paused else next(filter(accepts, source.due_jobs(queue)), None)
    click.echo(json.dumps({"claimable": found is not None}) if as_json else "claimable" if found else "nothing")


@worker.command()
@click.option("--worker-id", metavar="ID", help="Only this worker (else every worker of this machine).")
@click.option("--dry-run", is_flag=True, help="Only say which workers would be asked.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@explain_errors
def drain(worker_id: str | None, dry_run: bool, as_json: bool) -> None:
    """Ask the workers of this machine to finish the job in hand, take no other, and end."""
    folder = workers_dir(os.environ)
    found = _chosen(running_workers(folder), worker_id, folder)
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

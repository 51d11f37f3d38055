"""layoutlm-cli worker: claim and run submitted jobs."""

import json
import os
from collections import Counter
from datetime import timedelta
from pathlib import Path

import click

from receipt_layoutlm.cli.connection import Connection, explain_errors, require, store_options
from receipt_layoutlm.cli.ended import ended_text
from receipt_layoutlm.cli.lazy_group import FullHelpGroup
from receipt_layoutlm.cli.output import PlaceOption, say
from receipt_layoutlm.cli.run_here import WorkerOptions, log_to_stderr, work_queue
from receipt_layoutlm.cli.tables import clean
from receipt_layoutlm.jobs.wording import count
from receipt_layoutlm.paths import WORK_VARIABLE
from receipt_layoutlm.worker.host.fleet import FleetMembership
from receipt_layoutlm.worker.host.registry import drain, running_workers, workers_dir
from receipt_layoutlm.worker.worker import ClaimOptions, accepts

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
    cls=PlaceOption,
    metavar="NAME",
    envvar="LAYOUTLM_FLEET",
    show_envvar=True,
    help="Fleet that this machine belongs to; its pauses are respected.",
)


@click.group(cls=FullHelpGroup)
def worker() -> None:
    """Claim and run submitted jobs; drain running workers."""


@worker.command()
@click.option("--once", is_flag=True, help="Run one job if there is one, then exit.")
@click.option(
    "--idle-timeout",
    type=click.FloatRange(min=0),
    envvar="LAYOUTLM_IDLE_SECONDS",
    show_envvar=True,
    metavar="SECONDS",
    help="Exit after this long without a job; 0: as soon as there is none. Default: wait forever.",
)
@queue_option
@click.option(
    "--work-dir",
    type=click.Path(path_type=Path),
    envvar=WORK_VARIABLE,
    show_envvar=True,
    help="Folder for run directories (default: with --local in the state folder, else /tmp/receipt_layoutlm, or "
    "/tmp/receipt_layoutlm-USER where that one belongs to another user).",
)
@click.option(
    "--accept",
    "accepted",
    multiple=True,
    metavar="S3_PLACE",
    help="Also accept jobs that write to, or start from weights in, s3://BUCKET[/PREFIX]; repeatable.",
)
@click.option(
    "--price-per-hour",
    type=click.FloatRange(min=0),
    envvar="LAYOUTLM_PRICE_PER_HOUR",
    show_envvar=True,
    metavar="USD",
    help="Price of this machine, for the cost of attempts in `job show`. Looked up with --fleet.",
)
@fleet_option
@click.option(
    "--slot",
    type=click.IntRange(min=0),
    default=0,
    envvar="LAYOUTLM_SLOT",
    show_envvar=True,
    help="Index of this worker among those of a fleet's machine.",
)
@click.option(
    "--ondemand-after",
    type=click.IntRange(min=0),
    default=0,
    envvar="LAYOUTLM_ONDEMAND_AFTER",
    show_envvar=True,
    metavar="K",
    help="Move a job interrupted K times within an hour to the queue of on-demand machines; 0: never.",
)
@click.option(
    "--drain-after-days",
    type=click.FloatRange(min=0, min_open=True),
    envvar="LAYOUTLM_DRAIN_AFTER_DAYS",
    show_envvar=True,
    metavar="DAYS",
    help="Age of a fleet's machine from which it claims no further job (default: at no age).",
)
@click.option(
    "--min-free-disk",
    type=click.FloatRange(min=0),
    default=0,
    envvar="LAYOUTLM_MIN_FREE_DISK",
    show_envvar=True,
    metavar="GB",
    help="Disk space to keep free below the work dir by DELETING earlier run directories and cached downloads; "
    "no job is claimed when that is not enough. 0: leave the disk alone.",
)
@click.option(
    "--ended-file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="LAYOUTLM_ENDED_FILE",
    hidden=True,
    help="File for the reason why the worker ended.",
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
    drain_after_days: float | None,
    min_free_disk: float,
    ended_file: Path | None,
) -> None:
    """Claim jobs by priority, then age, and run each in a child process.

    Ctrl-C or SIGTERM stops gracefully: the trainer writes a checkpoint, and the job is requeued. The two-minute
    notice of a spot instance has the same effect. An idle worker also requeues jobs of dead workers. With --fleet no
    job is claimed while the fleet is paused.
    """
    require("train")
    log_to_stderr()
    if once and idle_timeout is None:
        idle_timeout = 0
    options = WorkerOptions(
        claims=ClaimOptions(queue, 1 if once else None, idle_timeout),
        work_dir=work_dir,
        accepted=accepted,
        ondemand_after=ondemand_after,
        fleet=fleet,
        slot=slot,
        price_per_hour=price_per_hour,
        min_free_disk=min_free_disk,
        ended_file=ended_file,
        drain_after=None if drain_after_days is None else timedelta(days=drain_after_days),
    )
    ended = work_queue(connection, options)
    if not ended:
        say(f"no job was claimable in queue {queue!r}: `layoutlm-cli job list` shows all jobs", err=True)
    for status, number in Counter(each.job.status for each in ended).items():
        say(f"{count(number, 'job')} {status}")
    if len(ended) == 1:
        say(ended_text(connection.queue(), ended[0].job, ended[0].folder))
    elif ended:
        say("next:\n  layoutlm-cli job list")


@worker.command()
@queue_option
@fleet_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def peek(connection: Connection, queue: str, fleet: str | None, as_json: bool) -> None:
    """Print whether a worker started now would get a job: `claimable` or `nothing`. Claims nothing."""
    source = connection.queue()
    is_paused = fleet is not None and FleetMembership(source.client, fleet).is_paused()
    job = None if is_paused else next(filter(accepts, source.due_jobs(queue)), None)
    click.echo(json.dumps({"claimable": job is not None}) if as_json else "claimable" if job else "nothing")


@worker.command("drain")
@click.option("--worker-id", metavar="ID", help="Only this worker (default: all workers on this machine).")
@click.option("--dry-run", is_flag=True, help="Only print which workers would be asked.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@explain_errors
def drain_command(worker_id: str | None, dry_run: bool, as_json: bool) -> None:
    """Ask the workers on this machine to finish the job in hand, claim no other, and exit."""
    folder = workers_dir(os.environ)
    workers = running_workers(folder)
    if not workers:
        raise click.ClickException(
            f"no worker of this user is running on this machine (none is registered in {folder}): "
            "run this as the worker's user, or with its LAYOUTLM_STATE_DIR"
        )
    chosen = [worker for worker in workers if worker_id in (None, worker.worker_id)]
    if not chosen:
        ids = ", ".join(clean(worker.worker_id) for worker in workers)
        raise click.ClickException(f"no worker {worker_id} is running on this machine; these are: {ids}")
    if not dry_run:
        for worker in chosen:
            drain(worker)
    if as_json:
        rows = [{"worker_id": worker.worker_id, "pid": worker.pid, "asked": not dry_run} for worker in chosen]
        click.echo(json.dumps(rows, indent=1))
        return
    for worker in chosen:
        verb = "would ask" if dry_run else "asked"
        say(f"{verb} {clean(worker.worker_id)} (pid {worker.pid}) to finish its job and claim no other")

"""layoutlm-cli job prune: remove checkpoints of jobs that ended long ago."""

import json
import os
from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.filesize import decimal

from receipt_dynamo import InvalidInput, JobQueue, JobStatus, NotFound, UnreadableRow
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.progress import counting_bar
from receipt_layoutlm.cli.tables import Column, clean, table
from receipt_layoutlm.cli.times import age_of
from receipt_layoutlm.paths import disk_bytes, given_work_dir, local_work_dir, state_dir

if TYPE_CHECKING:
    from receipt_layoutlm.storage.expiry import Leftover


@click.command()
@click.option("--older-than", required=True, metavar="AGE", help="Minimum age since the end of the job: 12h, 30d, 2w.")
@click.option(
    "--status",
    "statuses",
    type=click.Choice([status.value for status in JobStatus if status.is_final]),
    multiple=True,
    help="Only jobs with this final status; repeat for more.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed; remove nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; needs --yes or --dry-run.")
@store_options
def prune(
    connection: Connection, older_than: str, statuses: tuple[str, ...], yes: bool, dry_run: bool, as_json: bool
) -> None:
    """Remove checkpoints and local run directories of jobs that ended long ago; says how many bytes are removed.

    Kept are best/ (the weights), or the best checkpoint of a failed or cancelled job, which has no best/; predictions,
    logs and all rows of the table. A failed job whose last checkpoint is removed starts from the beginning when it is
    retried. Run directories are those of this machine: LAYOUTLM_WORK_DIR, else in the state folder. `job delete`
    removes a whole job.
    """
    if as_json and not (yes or dry_run):
        raise click.UsageError("--json cannot ask for confirmation: add --yes or --dry-run")
    from receipt_layoutlm.storage.expiry import ENDED

    queue, age = connection.queue(), age_of(older_than)
    chosen = [JobStatus(status) for status in statuses] or ENDED
    work_dir, freed = given_work_dir(os.environ) or local_work_dir(os.environ), dict[str, int]()
    prunable = _prunable_jobs(connection, queue, work_dir, age, chosen)
    if not as_json:
        say(_text(prunable) if prunable else f"no job that ended more than {older_than} ago has files to remove")
    if prunable and not dry_run:
        if not yes:
            click.confirm("remove these checkpoints and run directories?", abort=True)
        freed = _remove(connection, queue, work_dir, prunable)
    if as_json:
        documents = [
            {
                **each.left.job.model_dump(mode="json", include={"job_id", "name", "status", "ended_at"}),
                "checkpoints": len(each.left.folders),
                "size": each.left.size,
                "run_directories": len(each.run_dirs),
                "run_directories_size": each.run_dirs_size,
                "removed": each.left.job.job_id in freed,
                "freed": freed.get(each.left.job.job_id, 0),
            }
            for each in prunable
        ]
        click.echo(json.dumps(documents, indent=1))


@dataclass(frozen=True)
class _Prunable:
    """Files of one job: checkpoints in the bucket, run directories on this machine."""

    left: "Leftover"
    run_dirs: tuple[Path, ...]
    run_dirs_size: int  # bytes


def _prunable_jobs(
    connection: Connection, queue: JobQueue, work_dir: Path, age: timedelta, statuses: Collection[JobStatus]
) -> list[_Prunable]:
    from receipt_layoutlm.storage.expiry import Leftover, leftovers
    from receipt_layoutlm.worker.host.disk import run_directories

    run_dirs = defaultdict[str, list[Path]](list)
    for path in run_directories(work_dir):
        run_dirs[path.parent.name].append(path)
    found = list(leftovers(queue, connection.open_bucket, age, statuses))
    for job_id in run_dirs.keys() - {left.job.job_id for left in found}:
        with suppress(NotFound, InvalidInput, UnreadableRow):  # of another store, or of a row that was named already
            job = queue.client.get_job(job_id)
            if job.status in statuses and job.ended_at is not None and job.ended_at < queue.now() - age:
                found.append(Leftover(job, (), 0))
    paths = [tuple(run_dirs.get(left.job.job_id, ())) for left in found]
    return [_Prunable(left, own, sum(map(disk_bytes, own))) for left, own in zip(found, paths, strict=True)]


def _text(prunable: list[_Prunable]) -> str:
    header = (
        Column("job"),
        Column("status", rank=3),
        Column("checkpoints", rank=2),
        Column("size"),
        Column("run directories", rank=1),
        Column("size here"),
    )
    rows = [
        (
            each.left.job.name,
            each.left.job.status,
            len(each.left.folders),
            decimal(each.left.size),
            len(each.run_dirs),
            decimal(each.run_dirs_size),
        )
        for each in prunable
    ]
    folders, run_dirs = sum(len(each.left.folders) for each in prunable), sum(len(each.run_dirs) for each in prunable)
    size, here = sum(each.left.size for each in prunable), sum(each.run_dirs_size for each in prunable)
    return table(header, [*rows, ("total", "", folders, decimal(size), run_dirs, decimal(here))])


def _remove(connection: Connection, queue: JobQueue, work_dir: Path, prunable: list[_Prunable]) -> dict[str, int]:
    """Remove the files of the jobs that were not retried meanwhile; returns the bytes that were still there, by job id.

    Tells the others on stderr, the removed bytes by kind, and with --local those that the disk got back.
    """
    from receipt_layoutlm.local.aws import local_status, reclaim
    from receipt_layoutlm.storage.expiry import remove
    from receipt_layoutlm.worker.host.disk import remove_run_directories

    state, freed, in_bucket = state_dir(os.environ), dict[str, int](), 0
    before = local_status(state).state_bytes if connection.is_local else 0
    with counting_bar("removing", len(prunable)) as count:
        for each in prunable:
            count()
            job, size = each.left.job, 0
            if each.left.folders:  # else nothing is decided: no attempt resumes from the run directory of another
                assert job.storage is not None  # leftovers looked
                removed = remove(queue, connection.open_bucket(job.storage.bucket), each.left)
                if removed is None:
                    say(f"{clean(job.name)} ({job.job_id}) was retried meanwhile: its files are kept", err=True)
                    continue
                size = removed
            here = sum(map(disk_bytes, each.run_dirs))
            remove_run_directories(work_dir, each.run_dirs)
            freed[job.job_id] = size + here - sum(map(disk_bytes, each.run_dirs))
            in_bucket += size
    here = sum(freed.values()) - in_bucket
    say(f"removed {decimal(in_bucket)} of checkpoints and freed {decimal(here)} of run directories", err=True)
    if connection.is_local:
        reclaim(state)
        after = local_status(state).state_bytes
        say(f"the state folder takes {decimal(after)} on the disk, {decimal(max(0, before - after))} less", err=True)
    elif in_bucket:
        say("a bucket with versioning frees them later: when its lifecycle rule removes old versions", err=True)
    return freed

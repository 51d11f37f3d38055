"""layoutlm-cli job prune: remove the checkpoints of jobs that ended long ago."""

import json
from typing import TYPE_CHECKING

import click
from rich.filesize import decimal

from receipt_dynamo import JobStatus, utcnow
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.progress import counting_bar
from receipt_layoutlm.cli.tables import table

if TYPE_CHECKING:
    from receipt_layoutlm.storage.expiry import Leftover


@click.command()
@click.option("--older-than", required=True, metavar="AGE", help="Jobs that ended so long ago: 12h, 30d, 2w.")
@click.option(
    "--status",
    "statuses",
    type=click.Choice([status.value for status in JobStatus if status.is_final]),
    multiple=True,
    help="Only jobs that ended so; repeat for more.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; needs --yes or --dry-run.")
@store_options
def prune(
    connection: Connection, older_than: str, statuses: tuple[str, ...], yes: bool, dry_run: bool, as_json: bool
) -> None:
    """Remove the checkpoints of jobs that ended long ago.

    What they learned stays: best/ (the weights), or the best checkpoint of a job that failed or was cancelled and so
    has no best/; predictions, logs, and every row of the table. A failed job goes on from its last checkpoint when it
    is retried, or starts at the beginning when that one is gone. `job delete` removes a job whole.
    """
    if as_json and not (yes or dry_run):
        raise click.UsageError("--json asks nothing: give --yes or --dry-run with it")
    from receipt_layoutlm.storage.expiry import ENDED, age_of, leftovers, remove

    before = utcnow() - age_of(older_than)
    chosen = [JobStatus(status) for status in statuses] or ENDED
    found = list(leftovers(connection.client(), connection.open_bucket, before, chosen))
    if as_json:
        click.echo(json.dumps([_document(left, removed=not dry_run) for left in found], indent=1))
    else:
        click.echo(_text(found, older_than))
    if dry_run or not found:
        return
    if not yes:
        click.confirm("remove these checkpoints?", abort=True)
    with counting_bar("removing", len(found)) as count:
        for left in found:
            assert left.job.storage is not None  # leftovers looked
            remove(connection.open_bucket(left.job.storage.bucket), left)
            count()


def _document(left: "Leftover", *, removed: bool) -> dict[str, object]:
    job = left.job.model_dump(mode="json", include={"job_id", "name", "status", "ended_at"})
    return {**job, "checkpoints": len(left.folders), "size": left.size, "removed": removed}


def _text(found: "list[Leftover]", older_than: str) -> str:
    if not found:
        return f"no job that ended more than {older_than} ago has checkpoints that nobody needs"
    rows = [(left.job.name, left.job.status, len(left.folders), decimal(left.size)) for left in found]
    total = ("total", "", sum(len(left.folders) for left in found), decimal(sum(left.size for left in found)))
    return table(("job", "status", "checkpoints", "size"), [*rows, total])

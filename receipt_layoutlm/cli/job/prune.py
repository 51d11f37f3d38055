"""layoutlm-cli job prune: remove checkpoints of jobs that ended long ago."""

import json

import click
from rich.filesize import decimal

from receipt_dynamo import JobStatus
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.progress import counting_bar
from receipt_layoutlm.cli.tables import clean, table


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
    """Remove checkpoints of jobs that ended long ago.

    Kept are best/ (the weights), or the best checkpoint of a failed or cancelled job, which has no best/; predictions,
    logs and all rows of the table. A failed job whose last checkpoint is removed starts from the beginning when it is
    retried. `job delete` removes a whole job.
    """
    if as_json and not (yes or dry_run):
        raise click.UsageError("--json cannot ask for confirmation: add --yes or --dry-run")
    from receipt_layoutlm.storage.expiry import ENDED, age_of, leftovers, remove

    queue, age = connection.queue(), age_of(older_than)
    chosen = [JobStatus(status) for status in statuses] or ENDED
    removable = list(leftovers(queue, connection.open_bucket, age, chosen))
    if as_json:
        documents = [
            {
                **left.job.model_dump(mode="json", include={"job_id", "name", "status", "ended_at"}),
                "checkpoints": len(left.folders),
                "size": left.size,
                "removed": not dry_run,
            }
            for left in removable
        ]
        click.echo(json.dumps(documents, indent=1))
    elif removable:
        rows = [(left.job.name, left.job.status, len(left.folders), decimal(left.size)) for left in removable]
        checkpoints, size = sum(len(left.folders) for left in removable), sum(left.size for left in removable)
        total = ("total", "", checkpoints, decimal(size))
        click.echo(table(("job", "status", "checkpoints", "size"), [*rows, total]))
    else:
        click.echo(f"no job that ended more than {older_than} ago has checkpoints to remove")
    if dry_run or not removable:
        return
    if not yes:
        click.confirm("remove these checkpoints?", abort=True)
    retried = []
    with counting_bar("removing", len(removable)) as count:
        for left in removable:
            assert left.job.storage is not None  # leftovers looked
            if remove(queue, connection.open_bucket(left.job.storage.bucket), left) is None:
                retried.append(left.job)
            count()
    for job in retried:
        click.echo(f"{clean(job.name)} ({job.job_id}) was retried meanwhile: its checkpoints are kept", err=True)

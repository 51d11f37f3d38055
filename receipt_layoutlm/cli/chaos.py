"""layoutlm-cli chaos: small jobs under kills, faults and wrong clocks, and a check of what is stored."""

import tempfile
from contextlib import suppress
from pathlib import Path

import click

from receipt_dynamo import NotFound, StateConflict
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.progress import counting_bar
from receipt_layoutlm.cli.tables import clean

BREAKS = ("fence", "claim", "pointer", "cancel")
SHOWN = 20  # violations; the report has all


@click.command()
@click.option("--jobs", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Number of small jobs.")
@click.option("--kills", type=click.IntRange(0, 10_000), default=10, show_default=True, help="Workers to kill.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of kills, faults and clocks.")
@click.option("--break", "broken", type=click.Choice(BREAKS), help="Break this rule on purpose; the check must fail.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("chaos-report.json"),
    show_default=True,
    help="File for the report, in JSON.",
)
@click.option("--keep", is_flag=True, help="Keep the rows of the jobs; they are deleted otherwise.")
@store_options
def chaos(
    connection: Connection, jobs: int, kills: int, seed: int, broken: str | None, report: Path, keep: bool
) -> None:
    """Check the queue on your own table.

    Runs small jobs without training in a queue of their own: worker processes are killed and paused, requests lose
    their replies or are throttled, and the clocks of the workers are up to ten minutes off. Then the invariants of
    docs/protocol.md are checked against what is stored. The exit code is 1 if one is broken. A job takes some 60
    writes.
    """
    from receipt_layoutlm.jobs.chaos import run_chaos

    queue = connection.queue()
    region = None if connection.is_local else connection.region
    with tempfile.TemporaryDirectory() as folder, counting_bar("killing", kills) as count:
        result = run_chaos(queue, region, jobs, kills, seed, broken, Path(folder), count)  # type: ignore[arg-type]  # checked by click
    report.write_text(result.model_dump_json(indent=1) + "\n")
    if not keep:
        for job_id in result.job_ids:
            with suppress(StateConflict, NotFound):  # one that never ended stays
                queue.delete(job_id)
    ends = ", ".join(f"{number} {status}" for status, number in result.statuses.items())
    say(
        f"{result.jobs} jobs, {result.kills} kills, {result.pauses} pauses, {result.claims} claims in "
        f"{result.seconds:.0f} s: {ends}"
    )
    for text in result.violations[:SHOWN]:
        say(clean(text))
    say(f"{len(result.violations)} violations; report: {report}")
    if result.violations:
        raise click.exceptions.Exit(1)

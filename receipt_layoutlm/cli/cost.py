"""layoutlm-cli cost: what the attempts of jobs cost."""

import json
from dataclasses import asdict

import click

from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.progress import counting_bar
from receipt_layoutlm.cli.tables import Column, dollars, table
from receipt_layoutlm.cli.times import Since, SinceOption, moment
from receipt_layoutlm.jobs.costs import NO_VALUE, Spent, jobs_since, spent
from receipt_layoutlm.jobs.wording import duration
from receipt_layoutlm.suggestions import nearest_name

GROUPS = ("user", "experiment", "label", "name", "status", "queue", "dataset", "tag:KEY")


@click.command()
@click.option("--since", type=SinceOption(), help="Count from this time on: 12h, 7d, 2026-12-01 (default: everything).")
@click.option(
    "--by",
    default="user",
    show_default=True,
    metavar="GROUP",
    help=f"One of {', '.join(GROUPS)}, or an option such as pretrained.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def cost(connection: Connection, since: Since | None, by: str, as_json: bool) -> None:
    """Show what training cost, by user, experiment, tag, or an option.

    Time from claim to end of every attempt, lost ones included, times the price of its machine; an attempt that runs
    counts until now. Machines that wait for jobs, disks and the bucket are not in it: `layoutlm-cli fleet status` shows
    a fleet's own sum. label groups jobs by the labels that they learn. Reads every job and takes a query for each.

    \b
    layoutlm-cli cost --since 7d --by tag:team
    """
    client = connection.client()
    start = moment(since, client.now())
    jobs = list(jobs_since(client, start))
    with counting_bar("jobs", len(jobs)) as on_job:
        groups = spent(client, jobs, by, start, on_job)
    if groups and all(each.group == NO_VALUE for each in groups):
        near = nearest_name(by, GROUPS)
        say(f"warning: none of these jobs has {by}" + (f"; did you mean --by {near}?" if near else ""), err=True)
    if as_json:
        click.echo(json.dumps([{**asdict(each), "jobs": sorted(each.jobs)} for each in groups], indent=1))
    elif groups:
        say(_table(by, groups))
    else:
        say("no job ran in this time" if since else "no job has run yet")


def _table(by: str, groups: list[Spent]) -> str:
    total = Spent("total", set().union(*(each.jobs for each in groups)))
    for each in groups:
        total.seconds, total.cost = total.seconds + each.seconds, total.cost + each.cost
        total.unpriced_seconds += each.unpriced_seconds
    header = (Column(by, wraps=True), Column("jobs", rank=2), Column("running", rank=3), Column("cost USD"))
    rows = [(each.group, len(each.jobs), duration(each.seconds), dollars(each.cost)) for each in [*groups, total]]
    if not total.unpriced_seconds:
        return table(header, rows)
    unknown = f"{duration(total.unpriced_seconds)} on machines without a known price are not in the cost"
    return f"{table(header, rows)}\n\n{unknown}"

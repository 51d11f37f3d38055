"""layoutlm-cli job alerts: what was told about jobs, and whether the message arrived."""

import json
from typing import Final, get_args

import click

from receipt_dynamo import Alert
from receipt_dynamo.entities import AlertLevel
from receipt_layoutlm.cli.completion import job_names
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.find import find_named_job
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.tables import Column, table, when
from receipt_layoutlm.cli.times import Since, SinceOption, moment

_LEVELS: Final = get_args(AlertLevel)


@click.command("alerts")
@click.argument("reference", metavar="[JOB]", required=False, shell_complete=job_names)
@click.option("--since", type=SinceOption(), help="Only those raised later, such as 12h, 7d or 2026-12-01T22:00Z.")
@click.option("--level", type=click.Choice(_LEVELS), default=_LEVELS[0], show_default=True, help="Lowest level.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def alerts_command(
    connection: Connection, reference: str | None, since: Since | None, level: str, as_json: bool
) -> None:
    """List alerts, newest first: of one job, or of all.

    An alert is raised once, when a job ends, collapses, reaches its cost limit or waits for a machine. `train --notify`
    names whom to tell; the last column is what became of the message.
    """
    client = connection.client()
    after = moment(since, client.now())
    if reference is None:
        raised = client.list_alerts(after)
    else:
        raised = client.list_job_alerts(find_named_job(client, reference).job_id)
    least = _LEVELS.index(level)
    shown = [
        each for each in raised if _LEVELS.index(each.level) >= least and (after is None or each.raised_at >= after)
    ]
    if as_json:
        click.echo(json.dumps([each.model_dump(mode="json") for each in shown], indent=1))
    elif shown:
        columns = [Column("raised"), Column("level"), Column("kind", rank=1), Column("job", rank=2)]
        columns += [Column("message", wraps=True), Column("delivery", rank=3, wraps=True)]
        say(table(columns, [_row(each) for each in shown]))
    else:
        say("no alerts")


def _row(alert: Alert) -> tuple[str, ...]:
    delivery = "; ".join(alert.delivery.values())
    return when(alert.raised_at), alert.level, alert.kind, alert.job_name, alert.message, delivery

"""layoutlm-cli job alerts: what was told about jobs, and whether the message arrived."""

import json
from datetime import datetime, timedelta
from typing import Any, Final, get_args

import click

from receipt_dynamo import Alert
from receipt_dynamo.entities import FIRST_TIME, AlertLevel, as_utc
from receipt_layoutlm.cli.completion import job_names
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.find import find_named_job
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.tables import Column, table, when

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LEVELS: Final = get_args(AlertLevel)


class Since(click.ParamType[Any]):
    """An age such as 12h, or a time with its zone."""

    name = "AGE|TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number, unit = value[:-1], _UNITS.get(value[-1:])
        try:
            if unit is not None and number.isascii() and number.isdigit():
                return timedelta(**{unit: int(number)})
            time = datetime.fromisoformat(value)
            if time.tzinfo is None:
                self.fail(f"{value!r} has no zone: write {time.isoformat(timespec='minutes')}Z for UTC", param, ctx)
            return as_utc(time)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is neither an age, such as 30m, 12h or 7d, nor a time with its zone", param, ctx)


@click.command("alerts")
@click.argument("reference", metavar="[JOB]", required=False, shell_complete=job_names)
@click.option("--since", type=Since(), help="Only those raised later, such as 12h, 7d or 2026-12-01T22:00Z.")
@click.option("--level", type=click.Choice(_LEVELS), default=_LEVELS[0], show_default=True, help="Lowest level.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@store_options
def alerts_command(
    connection: Connection, reference: str | None, since: datetime | timedelta | None, level: str, as_json: bool
) -> None:
    """List alerts, newest first: of one job, or of all.

    An alert is raised once, when a job ends, collapses, reaches its cost limit or waits for a machine. `train --notify`
    names whom to tell; the last column is what became of the message.
    """
    client = connection.client()
    after, now = since, client.now()
    if isinstance(after, timedelta):
        after = now - min(after, now - FIRST_TIME)
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

"""layoutlm-cli fleet drain and resume: machines finish what they have and end, and none is started; or the reverse."""

import getpass
from datetime import timedelta

import click

from receipt_layoutlm.cli.fleet.options import fleet_options, standing_fleet
from receipt_layoutlm.cli.tables import clean, when

LONGEST = timedelta(days=3650)  # "until somebody resumes", for a row that has to name a time


@click.command()
@click.option("--for", "span", metavar="AGE", help="Only for so long: 12h, 2d (else until `fleet resume`).")
@click.option("--reason", default="", help="What workers and `fleet status` say of it.")
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@fleet_options
def drain(fleet: str, region: str | None, span: str | None, reason: str, dry_run: bool) -> None:
    """Let the machines finish the jobs in hand and end, and start no others.

    Jobs can be submitted meanwhile; they wait. A machine that finds nothing to do ends itself after the minutes that
    `fleet deploy --idle-minutes` says.
    """
    from receipt_dynamo import FleetPause, FleetRows, utcnow
    from receipt_layoutlm.storage.expiry import age_of

    now = utcnow()
    until = now + (age_of(span) if span else LONGEST)
    standing = standing_fleet(fleet, region)
    text = reason or f"drained by {getpass.getuser()}"
    end = when(until) if span else "somebody resumes it"
    if dry_run:
        click.echo(f"would pause fleet {fleet} until {end}")
        return
    FleetRows(standing.client()).put_pause(FleetPause(fleet=fleet, reason=text, paused_at=now, until=until))
    click.echo(f"fleet {fleet} takes no job until {end}; jobs in hand are finished")


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@fleet_options
def resume(fleet: str, region: str | None, dry_run: bool) -> None:
    """End a pause: machines take jobs again. The scaler starts some at its next look, within five minutes.

    When the day's costs have reached --max-cost-per-day the scaler pauses the fleet again: raise that first.
    """
    from receipt_dynamo import FleetRows

    rows = FleetRows(standing_fleet(fleet, region).client())
    pause = rows.get_pause(fleet)
    if pause is None:
        click.echo(f"fleet {fleet} is not paused")
        return
    if not dry_run:
        rows.remove_pause(fleet)
    click.echo(f"{'would end' if dry_run else 'ended'} the pause of fleet {fleet}: {clean(pause.reason)}")

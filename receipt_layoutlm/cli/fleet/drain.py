"""layoutlm-cli fleet drain and resume: pause a fleet once its jobs are finished, and end the pause."""

import getpass
from datetime import timedelta

import click

from receipt_layoutlm.cli.fleet.options import fleet_options, standing_fleet
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.tables import clean, when
from receipt_layoutlm.cli.times import age_of

UNLIMITED = timedelta(days=3650)  # a pause must have an end


@click.command("drain")
@click.option("--for", "span", metavar="AGE", help="Length of the pause: 12h, 2d (default: until `fleet resume`).")
@click.option("--reason", default="", help="Reason shown by workers and `fleet status`.")
@click.option("--dry-run", is_flag=True, help="Print what would happen.")
@fleet_options
def drain_fleet(fleet: str, region: str | None, span: str | None, reason: str, dry_run: bool) -> None:
    """Let machines finish their jobs and terminate, and start no new ones.

    Jobs can still be submitted; they wait. A machine without a job terminates itself after the time given by
    `fleet deploy --idle-minutes`.
    """
    from receipt_dynamo import FleetPause, FleetRows

    length = age_of(span) if span else UNLIMITED
    client = standing_fleet(fleet, region).client()
    rows = FleetRows(client)
    rows.get_pause(fleet)  # its reply says the server's time, by which machines end a pause
    now = client.now()
    until = now + length
    text = reason or f"drained by {getpass.getuser()}"
    end = when(until) if span else "`layoutlm-cli fleet resume`"
    if dry_run:
        say(f"would pause fleet {fleet} until {end}")
        return
    rows.put_pause(FleetPause(fleet=fleet, reason=text, paused_at=now, until=until))
    say(f"fleet {fleet} claims no jobs until {end}; running jobs are finished")


@click.command("resume")
@click.option("--dry-run", is_flag=True, help="Print what would happen.")
@fleet_options
def resume_fleet(fleet: str, region: str | None, dry_run: bool) -> None:
    """End a pause: machines claim jobs again, and the scaler starts new ones within five minutes.

    Processes of the autoscaling groups are resumed too: AWS suspends Launch after 24 hours in which no machine came.
    The scaler pauses the fleet again while today's cost exceeds --max-cost-per-day: raise the limit first.
    """
    from receipt_dynamo import FleetRows
    from receipt_layoutlm.fleet.groups import resume_processes, suspended_processes

    standing = standing_fleet(fleet, region)
    rows, autoscaling = FleetRows(standing.client()), standing.aws.autoscaling
    pause, suspended = rows.get_pause(fleet), suspended_processes(autoscaling, standing.workers)
    if not dry_run:
        resume_processes(autoscaling, suspended)
        rows.remove_pause(fleet)
    for group, processes in suspended.items():
        say(f"{'would resume' if dry_run else 'resumed'} {' and '.join(map(clean, processes))} of group {clean(group)}")
    if pause is not None:
        say(f"{'would end' if dry_run else 'ended'} the pause of fleet {fleet}: {clean(pause.reason)}")
    elif not suspended:
        say(f"fleet {fleet} is not paused")

"""layoutlm-cli fleet scale: how many machines there may be, and how many there should be before a job asks."""

import time

import click

from receipt_layoutlm.cli.fleet.options import StandingFleet, fleet_options, standing_fleet, tell_event
from receipt_layoutlm.cli.template_options import ParameterValue
from receipt_layoutlm.fleet.template import read_template

MAXIMUM = read_template("workers.yaml").parameters["MaximumInstances"]


@click.command()
@click.option("--maximum", type=ParameterValue(MAXIMUM), metavar="N", help="At most N machines from now on.")
@click.option("--warm", type=click.IntRange(min=1), metavar="N", help="Have N machines now, before jobs are submitted.")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@fleet_options
def scale(fleet: str, region: str | None, maximum: str | None, warm: int | None, dry_run: bool) -> None:
    """Change how many machines there may be, or start some ahead of work.

    The scaler starts what jobs need; nobody has to. Machines that find no job end themselves, those that --warm
    started too. Less of them at once: `fleet drain`.
    """
    if (maximum is None) == (warm is None):
        raise click.UsageError("give --maximum or --warm, one of the two")
    standing = standing_fleet(fleet, region)
    if maximum is not None:
        _set_maximum(standing, maximum, dry_run)
        return
    assert warm is not None
    from receipt_layoutlm.fleet.destroy import group_names
    from receipt_layoutlm.fleet.scale import missing_machines, warm_up
    from receipt_layoutlm.fleet.scaler.group import aws_group

    names = group_names(standing.workers)
    if not names:
        raise click.ClickException(f"fleet {fleet} has no group of machines: 'layoutlm-cli fleet deploy' makes it")
    group = aws_group(standing.aws.autoscaling, names[0], "", warm)
    count = missing_machines(group, warm) if dry_run else warm_up(group, warm)
    click.echo(f"{'would order' if dry_run else 'ordered'} {count} machines" if count else "they are there or ordered")


def _set_maximum(standing: StandingFleet, maximum: str, dry_run: bool) -> None:
    """As `fleet deploy --maximum-instances` with the code that runs: group and scaler learn of it together."""
    from receipt_layoutlm.cli.fleet.deploy import plans_text, tell_finding, tell_plan
    from receipt_layoutlm.fleet.deploy import Deployment, Listener, Wanted

    wanted = Wanted(standing.name, values={MAXIMUM.name: maximum})
    listener = Listener(tell_finding, tell_plan, tell_event)
    deployment = Deployment(standing.aws, wanted, listener, time.sleep)
    if dry_run:
        click.echo(plans_text(deployment.preview(None)))
        return
    deployment.deploy(None)
    click.echo(f"fleet {standing.name} has at most {maximum} machines")

"""layoutlm-cli fleet scale: the maximum number of machines, and machines started ahead of jobs."""

import time
from datetime import timedelta

import click

from receipt_layoutlm.cli.fleet.deploy import (
    keep_image_option,
    kept_image,
    plans_text,
    show_image,
    show_plan,
    show_warning,
)
from receipt_layoutlm.cli.fleet.options import fleet_options, show_event, standing_fleet
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.template_options import ParameterValue
from receipt_layoutlm.fleet.template import read_template

TEMPLATE = read_template("workers.yaml")
MAXIMUM = TEMPLATE.parameters["MaximumInstances"]
DEADLINE = "BootDeadlineMinutes"  # of a machine, until which the scaler leaves an order ahead of jobs as it is


@click.command()
@click.option("--maximum", type=ParameterValue(MAXIMUM), metavar="N", help="Allow at most N machines.")
@click.option(
    "--warm", type=click.IntRange(min=1), metavar="N", help="Start machines up to N before jobs are submitted."
)
@keep_image_option
@click.option("--dry-run", is_flag=True, help="Print what would change.")
@fleet_options
def scale(
    fleet: str, region: str | None, maximum: str | None, warm: int | None, keep_image: bool, dry_run: bool
) -> None:
    """Change the maximum number of machines, or start machines ahead of jobs.

    A new maximum is a deployment, which takes the newest image too, and names it: --keep-image stays with the deployed.
    The scaler starts the machines that jobs need. Idle machines terminate themselves, including those started by
    --warm. To end machines at once, use `fleet drain`.
    """
    if (maximum is None) == (warm is None):
        raise click.UsageError("give either --maximum or --warm")
    if keep_image and maximum is None:
        raise click.UsageError("--keep-image belongs to --maximum: --warm changes no image")
    standing = standing_fleet(fleet, region)
    if maximum is not None:
        from receipt_layoutlm.fleet.deploy import DeployCallbacks, Deployment, FleetRequest

        # as `fleet deploy --maximum-instances --keep-code`: group and scaler get the new maximum together
        image = kept_image(standing.aws, fleet, {}) if keep_image else {}
        request = FleetRequest(standing.name, values={MAXIMUM.name: maximum, **image})
        callbacks = DeployCallbacks(show_warning, show_plan, show_event)
        deployment = Deployment(standing.aws, request, callbacks, time.sleep)
        show_image(deployment.image_change())
        if dry_run:
            say(plans_text(deployment.preview(None)))
            return
        deployment.deploy(None)
        say(f"fleet {standing.name} has at most {maximum} machines")
        return
    assert warm is not None
    from receipt_dynamo import FleetRows, FleetWarmUp
    from receipt_layoutlm.fleet.groups import group_names, missing_machines, warm_up
    from receipt_layoutlm.fleet.scaler.group import aws_group

    names = group_names(standing.workers)
    if not names:
        raise click.ClickException(f"fleet {fleet} has no autoscaling group: `layoutlm-cli fleet deploy` creates it")
    group = aws_group(standing.aws.autoscaling, names[0], "", warm)
    count = missing_machines(group, warm)
    if count and not dry_run:
        client = standing.client()
        rows, minutes = FleetRows(client), float(TEMPLATE.with_defaults(standing.workers.parameters)[DEADLINE])
        rows.get_pause(fleet)  # its reply says the server's time
        # first: a look of the scaler would take back an order for which no job waits
        rows.put_warm_up(FleetWarmUp(fleet=fleet, machines=warm, until=client.now() + timedelta(minutes=minutes)))
        count = warm_up(group, warm)
    ordered = f"{'would order' if dry_run else 'ordered'} {count} machines"
    say(ordered if count else "all these machines are running or ordered")

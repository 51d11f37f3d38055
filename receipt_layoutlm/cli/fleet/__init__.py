"""layoutlm-cli fleet: an autoscaling fleet of workers in the user's AWS account."""

from typing import Final

import click

from receipt_layoutlm.cli.lazy_group import LazyGroup

COMMANDS: Final = {
    "deploy": ("receipt_layoutlm.cli.fleet.deploy:deploy", "Create or change a fleet."),
    "status": ("receipt_layoutlm.cli.fleet.status:show_status", "Show queues, machines, leases and today's cost."),
    "scale": ("receipt_layoutlm.cli.fleet.scale:scale", "Change the maximum size, or start machines ahead of jobs."),
    "drain": ("receipt_layoutlm.cli.fleet.drain:drain_fleet", "Let machines finish their jobs; start no new ones."),
    "resume": ("receipt_layoutlm.cli.fleet.drain:resume_fleet", "End a pause."),
    "template": ("receipt_layoutlm.cli.fleet.other_tools:show_template", "Print a template, for other tools."),
    "bundle": ("receipt_layoutlm.cli.fleet.other_tools:upload_bundle", "Upload the code, for other tools."),
    "destroy": ("receipt_layoutlm.cli.fleet.destroy:destroy", "Delete a fleet; its table and bucket stay."),
}


@click.group(cls=LazyGroup, places=COMMANDS)
def fleet() -> None:
    """Machines in your AWS account that work the queue, at no cost while it is empty."""

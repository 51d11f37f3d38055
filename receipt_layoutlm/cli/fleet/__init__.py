"""layoutlm-cli fleet: an autoscaling fleet of workers in one's own AWS account."""

from typing import Final

import click

from receipt_layoutlm.cli.lazy_group import LazyGroup

COMMANDS: Final = {
    "deploy": ("receipt_layoutlm.cli.fleet.deploy:deploy", "Build or change a fleet."),
    "status": ("receipt_layoutlm.cli.fleet.status:status", "Show queues, machines, leases, and what today cost."),
    "scale": ("receipt_layoutlm.cli.fleet.scale:scale", "Allow more or fewer machines, or start some ahead of work."),
    "drain": ("receipt_layoutlm.cli.fleet.drain:drain", "Let machines finish what they have; start no others."),
    "resume": ("receipt_layoutlm.cli.fleet.drain:resume", "Take jobs again."),
    "destroy": ("receipt_layoutlm.cli.fleet.destroy:destroy", "Delete a fleet; its table and bucket stay."),
}


@click.group(cls=LazyGroup, places=COMMANDS)
def fleet() -> None:
    """Machines in your own AWS account that work the queue, and cost nothing while it is empty."""

"""layoutlm-cli fleet: an autoscaling fleet of workers in one's own AWS account."""

import importlib
from typing import Final

import click

# name -> where the command lives, and its line in --help, as in cli/__init__.py
COMMANDS: Final = {
    "deploy": ("receipt_layoutlm.cli.fleet_deploy:deploy", "Build or change a fleet."),
    "status": ("receipt_layoutlm.cli.fleet_status:status", "Show queues, machines, leases, and what today cost."),
    "scale": ("receipt_layoutlm.cli.fleet_scale:scale", "Allow more or fewer machines, or start some ahead of work."),
    "drain": ("receipt_layoutlm.cli.fleet_drain:drain", "Let machines finish what they have; start no others."),
    "resume": ("receipt_layoutlm.cli.fleet_drain:resume", "Take jobs again."),
    "destroy": ("receipt_layoutlm.cli.fleet_destroy:destroy", "Delete a fleet; its table and bucket stay."),
}


class FleetGroup(click.Group):
    """Imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_place, text) in COMMANDS.items()])


@click.group(cls=FleetGroup)
def fleet() -> None:
    """Machines in your own AWS account that work the queue, and cost nothing while it is empty."""

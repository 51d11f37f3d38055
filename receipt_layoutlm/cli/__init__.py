"""layoutlm-cli: parse, validate, one call. Each noun's module is loaded when it is used."""

import importlib
import sys

import click

# name -> where the command lives, and its line in --help (stated here so that --help imports none of them)
COMMANDS = {
    "train": ("receipt_layoutlm.cli.train:train", "Submit a training job (or work it here with --run-here)."),
    "worker": ("receipt_layoutlm.cli.worker:worker", "Claim and run submitted jobs."),
    "job": ("receipt_layoutlm.cli.job:job", "List, explain, show, cancel, retry, pull and delete jobs."),
    "rescue": ("receipt_layoutlm.cli.rescue:rescue", "Take jobs away from workers that fell silent."),
    "fleet": ("receipt_layoutlm.cli.fleet:fleet", "Machines in your AWS account that work the queue."),
    "dataset": ("receipt_layoutlm.cli.dataset:dataset", "Import labelled pages and pin snapshots of them."),
    "weights": ("receipt_layoutlm.cli.weights:weights", "Base weights of the model hub in the bucket."),
    "storage": ("receipt_layoutlm.cli.storage:storage", "What lies in the bucket."),
    "local": ("receipt_layoutlm.cli.local:local", "The embedded AWS behind --local: up, down, status."),
    "doctor": ("receipt_layoutlm.cli.doctor:doctor", "Check this machine and say what to fix."),
    "demo": ("receipt_layoutlm.cli.demo:demo", "Run the whole system once on generated receipts."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            raise click.UsageError(error.message + (f" Did you mean {near[0]!r}?" if near else ""), ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_place, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--local",
    "is_local",
    is_flag=True,
    envvar="LAYOUTLM_LOCAL",
    help="Use a DynamoDB and an S3 on this machine, started on demand; no AWS account is touched.",
)
@click.version_option(package_name="receipt-layoutlm")
@click.pass_context
def cli(ctx: click.Context, is_local: bool) -> None:
    """Train LayoutLM on labelled receipts, unattended.

    \b
    A first run on this machine:
      layoutlm-cli --local dataset import sample
      layoutlm-cli --local train --pretrained minilm --layers 2 --quick
      layoutlm-cli --local worker run --once
      layoutlm-cli --local job show @last
    """
    ctx.obj = is_local


def main() -> None:
    """Entry point: errors of the product become one clear line on stderr and exit code 1."""
    try:
        cli.main(standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(130)

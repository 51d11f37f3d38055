"""layoutlm-cli: each command parses its options, makes one call and prints. A command's module is imported on use."""

import logging
import os
import re
from typing import Any

import click

from receipt_layoutlm.cli.lazy_group import LazyGroup
from receipt_layoutlm.cli.output import PrintableFormatter, colour_of, error_text
from receipt_layoutlm.suggestions import nearest_name

COMMANDS = {
    "train": ("receipt_layoutlm.cli.train:train_command", "Submit a training job, or run it here with --run-here."),
    "recipe": ("receipt_layoutlm.cli.recipe:recipe", "List named options of train, and what they reach."),
    "worker": ("receipt_layoutlm.cli.worker:worker", "Claim and run submitted jobs; drain running workers."),
    "predict": ("receipt_layoutlm.cli.predict:predict_command", "Read the fields of receipts with a trained model."),
    "evaluate": ("receipt_layoutlm.cli.evaluate:evaluate_command", "Score a model on labelled pages."),
    "calibrate": (
        "receipt_layoutlm.cli.calibrate:calibrate_command",
        "Fit from which certainty a field may be accepted unseen.",
    ),
    "model": ("receipt_layoutlm.cli.model:model", "Export a model, to run it without torch."),
    "serve": ("receipt_layoutlm.cli.serve:serve_command", "Serve a model over HTTP."),
    "ui": ("receipt_layoutlm.cli.ui:ui_command", "Open MLflow's page on the jobs of the table."),
    "overlay": ("receipt_layoutlm.cli.overlay:overlay_command", "Draw pages with their fields, and mark errors."),
    "report": ("receipt_layoutlm.cli.report:report_command", "Show what happened in a run, as one HTML file."),
    "job": ("receipt_layoutlm.cli.job:job", "List, show, explain, compare, cancel, retry, pull and delete jobs."),
    "cost": ("receipt_layoutlm.cli.cost:cost", "Show what training cost, by user, experiment, tag or option."),
    "rescue": ("receipt_layoutlm.cli.rescue:rescue", "Requeue jobs whose lease has expired."),
    "fleet": ("receipt_layoutlm.cli.fleet:fleet", "Deploy and manage GPU machines in your AWS account."),
    "dataset": ("receipt_layoutlm.cli.dataset:dataset", "Import, check, select and snapshot labelled pages."),
    "weights": ("receipt_layoutlm.cli.storage:weights", "Mirror base weights from the model hub into the bucket."),
    "storage": ("receipt_layoutlm.cli.storage:storage", "Show what the bucket holds."),
    "local": ("receipt_layoutlm.cli.local:local", "Start, stop and show the embedded AWS behind --local."),
    "doctor": ("receipt_layoutlm.cli.doctor:doctor", "Check this machine or your AWS account and suggest fixes."),
    "mcp": ("receipt_layoutlm.cli.mcp_server:mcp_command", "Serve jobs to a coding agent over MCP, read-only."),
    "chaos": ("receipt_layoutlm.cli.chaos:chaos", "Check the queue under kills, faults and wrong clocks."),
    "completion": ("receipt_layoutlm.cli.completion:completion", "Complete commands, jobs and datasets in your shell."),
    "demo": ("receipt_layoutlm.cli.demo:demo", "Run the whole system once on generated receipts."),
}

INTERRUPTED = 130  # as shells report a process that SIGINT ended


class Program(LazyGroup):
    """The whole command line: --local at any place, errors whose commands run as printed, one ending for Ctrl-C.

    Ctrl-C ends a command with one line and exit code 130 (click's own is "Aborted!" and 1).
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        options = [arg for arg in args[:end] if arg != "--local"]
        for number, arg in enumerate(args, start=1):
            if not _is_unicode(arg):
                raise click.UsageError(f"argument {number} ({arg!a}) is not UTF-8: write or rename it in UTF-8", ctx)
        try:
            return super().parse_args(ctx, [*(["--local"] if len(options) < end else []), *options, *args[end:]])
        except click.ClickException as error:
            raise _cleaned(error, ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort) as error:
            # at a prompt, click turns Ctrl-C into the Abort that the answer "no" raises too
            if not any(isinstance(each, KeyboardInterrupt) for each in (error, error.__context__)):
                raise
            click.echo("Interrupted.", err=True)
            ctx.exit(INTERRUPTED)
        except click.NoSuchOption as error:
            raise _cleaned(_as_argument(error) or error, ctx) from error
        except click.ClickException as error:
            raise _cleaned(error, ctx) from error


def _as_argument(error: click.NoSuchOption) -> click.UsageError | None:
    """The usage error for an option that is an argument of this command, perhaps misspelt; None if it is not."""
    if error.ctx is None:
        return None
    name = error.option_name.lstrip("-").lower()
    for param in error.ctx.command.params:
        if isinstance(param, click.Argument):
            shown = param.make_metavar(error.ctx)
            names = {str(param.name), re.sub(r"[^a-z-]", "", shown.lower())}
            names |= {"job", "model"} if names & {"job", "model"} else set()
            if name in names or (not error.possibilities and nearest_name(name, names) is not None):
                command = f"{error.ctx.command_path} {shown}"
                return click.UsageError(f"No such option: {error.option_name}. It is an argument: {command}", error.ctx)
    return None


def _cleaned(error: click.ClickException, ctx: click.Context) -> click.ClickException:
    error.message = error_text(error.message, ctx)  # type: ignore[misc]
    return error


def _is_unicode(text: str) -> bool:
    """False for bytes of the command line or the environment that are not UTF-8, which Python keeps as surrogates."""
    return not any("\ud800" <= each <= "\udfff" for each in text)


@click.group(cls=Program, places=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--local",
    "is_local",
    is_flag=True,
    envvar="LAYOUTLM_LOCAL",
    show_envvar=True,
    help="Use a DynamoDB and an S3 on this machine, started on demand; no AWS account is used. May stand anywhere.",
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
    ctx.obj, ctx.color = is_local, colour_of(os.environ)
    if logging.lastResort is not None:  # the handler of a program that has set none
        logging.lastResort.setFormatter(PrintableFormatter("warning: %(message)s"))


def main() -> None:
    """Entry point of layoutlm-cli."""
    cli()

"""layoutlm-cli completion: completion of commands, options, jobs and datasets in bash, zsh and fish.

A completion never starts an engine, never prints an error, and gives up after a second.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import CompletionItem, get_completion_class

from receipt_layoutlm.cli.output import PROGRAM, say

if TYPE_CHECKING:
    from receipt_dynamo import DynamoClient

PATIENCE_SECONDS: Final = 1.0
SHOWN_JOBS: Final = 50
REFERENCES: Final = ("@last", "@best", "@production")
VARIABLE: Final = "_LAYOUTLM_CLI_COMPLETE"  # by which click recognises a request of the shell
FILES: Final = {
    "bash": Path(".local/share/layoutlm-completion/layoutlm-cli.bash"),
    "zsh": Path(".local/share/layoutlm-completion/layoutlm-cli.zsh"),
    "fish": Path(".config/fish/completions/layoutlm-cli.fish"),  # fish reads this folder by itself
}
PROFILES: Final = {"bash": Path(".bashrc"), "zsh": Path(".zshrc")}
BEFORE: Final = {"bash": "", "zsh": "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }\n"}


@click.command()
@click.argument("shell", type=click.Choice(list(FILES)))
@click.option("--install", is_flag=True, help="Write the script into your home folder, and load it in new shells.")
def completion(shell: str, install: bool) -> None:
    """Print the script with which a shell completes layoutlm-cli, or install it.

    Commands, options and their values are completed, and the names of jobs and datasets in the table of --local or
    --dynamo-table, as the command has them so far.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # the choices are click's
    shell_completion = kind(click.get_current_context().find_root().command, {}, PROGRAM, VARIABLE)
    script = kind.source_template % shell_completion.source_vars()  # source() would first ask for bash's version
    if not install:
        click.echo(script)
        return
    path = Path.home() / FILES[shell]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    if shell in PROFILES:
        profile = Path.home() / PROFILES[shell]
        line = f'{BEFORE[shell]}[ -f "{path}" ] && . "{path}"\n'
        text = profile.read_text() if profile.exists() else ""
        if line not in text:
            profile.write_text(f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{line}")
            say(f"{profile} loads {path}: open a new shell")
            return
    say(f"wrote {path}: open a new shell")


def job_names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The newest jobs by name, and the references to one; those whose id begins as typed, by id."""

    def ask(client: "DynamoClient") -> Iterable[tuple[str, str]]:
        for job in client.list_jobs(SHOWN_JOBS):
            yield job.name, job.status
            if len(incomplete) >= 4 and job.job_id.startswith(incomplete):
                yield job.job_id, f"{job.name}, {job.status}"

    return [CompletionItem(name) for name in REFERENCES if name.startswith(incomplete)] + _items(ctx, ask, incomplete)


job_argument = click.argument("reference", metavar="JOB", shell_complete=job_names)


def dataset_names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """The stored datasets by name, and by snapshot once an @ is typed."""

    def ask(client: "DynamoClient") -> Iterable[tuple[str, str]]:
        for dataset in client.list_datasets():
            name = f"{dataset.name}@{dataset.fingerprint[:12]}" if "@" in incomplete else dataset.name
            yield name, f"{dataset.counts.get('pages', '?')} pages"

    return _items(ctx, ask, incomplete)


def _items(
    ctx: click.Context, ask: Callable[["DynamoClient"], Iterable[tuple[str, str]]], incomplete: str
) -> list[CompletionItem[str]]:
    """Answers that begin as typed; none where the table does not answer in time."""
    from botocore.exceptions import BotoCoreError  # before the clock starts: on a busy machine imports take seconds

    from receipt_dynamo import StoreError
    from receipt_layoutlm.errors import UserError

    found: dict[str, str] = {}
    try:
        client = _client(ctx)
    except (StoreError, UserError, BotoCoreError, OSError, ValueError):
        return []
    if client is None:
        return []

    def collect() -> None:
        try:
            for name, help_text in ask(client):
                if name.startswith(incomplete):
                    found.setdefault(name, help_text)
        except (StoreError, UserError, BotoCoreError, OSError, ValueError):
            found.clear()

    logging.disable()
    thread = threading.Thread(target=collect, daemon=True)  # which does not keep the process from ending
    thread.start()
    thread.join(PATIENCE_SECONDS)
    logging.disable(logging.NOTSET)
    return [CompletionItem(name, help=help_text) for name, help_text in dict(found).items()]


def _client(ctx: click.Context) -> "DynamoClient | None":
    """A client of the table that the command names so far; None without a table, or while the local one is stopped."""
    from receipt_dynamo import DynamoClient
    from receipt_layoutlm.cli.connection import Connection

    is_local = bool(ctx.find_root().params.get("is_local"))
    connection = Connection(is_local, ctx.params.get("dynamo_table"), ctx.params.get("region"), None)
    if not connection.has_table():
        return None
    if is_local:
        from receipt_layoutlm.local import aws as local_aws
        from receipt_layoutlm.paths import state_dir

        variables = local_aws.environment(state_dir(os.environ), os.environ)
        if "AWS_ENDPOINT_URL_DYNAMODB" not in variables:
            return None
        os.environ.update(variables)
    return DynamoClient(connection.table_name(), region=None if is_local else connection.region)

"""layoutlm-cli local: start, stop and show the embedded AWS behind --local."""

import contextlib
import os
from collections.abc import Iterator

import click

from receipt_layoutlm.cli.connection import Connection
from receipt_layoutlm.cli.lazy_group import FullHelpGroup
from receipt_layoutlm.cli.output import say, say_json
from receipt_layoutlm.cli.upkeep import expire
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.local import aws as local_aws
from receipt_layoutlm.local.engines import programs_dir
from receipt_layoutlm.paths import given_work_dir, local_work_dir, state_dir
from receipt_layoutlm.run.directory import ATTEMPTS, ENCODED


@click.group(cls=FullHelpGroup)
def local() -> None:
    """Start, stop and show the embedded AWS behind --local: a DynamoDB and an S3 on this machine."""


@local.command("up")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def up_command(as_json: bool) -> None:
    """Start both engines and create the table and the bucket. Running engines are kept.

    Checkpoints of jobs that succeeded 7 days ago are deleted, as on AWS; best/ and run.json stay.
    """
    with _one_line():
        local_aws.start_engines(state_dir(os.environ))
        expire(Connection(is_local=True, table=None, region=None, bucket_name=None))
    _print_status(as_json)


@local.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status_command(as_json: bool) -> None:
    """Show the running engines, and what the state folder takes on the disk."""
    _print_status(as_json)


@local.command("down")
@click.option("--purge", is_flag=True, help="Also delete all jobs, datasets and checkpoints in the state folder.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation of --purge.")
def down_command(purge: bool, yes: bool) -> None:
    """Stop the engines; their state is kept for the next start."""
    if yes and not purge:
        raise click.UsageError("--yes confirms --purge: add --purge, or leave --yes out")
    folder = state_dir(os.environ)
    with _one_line():
        if purge and not yes:
            size = _megabytes(local_aws.local_status(folder).state_bytes)
            click.confirm(f"Delete all jobs, datasets and checkpoints in {folder} ({size})?", abort=True)
        stopped = local_aws.stop_engines(folder)
        say(f"stopped {' and '.join(stopped)}" if stopped else "nothing was running")
        if purge:
            local_aws.purge(folder)
            say(f"deleted the contents of {folder}")


def _print_status(as_json: bool) -> None:
    work_dir = given_work_dir(os.environ) or local_work_dir(os.environ)
    places = {"work folder": [work_dir / ATTEMPTS], "caches": [work_dir / ENCODED, programs_dir()]}
    with _one_line():
        current = local_aws.local_status(state_dir(os.environ), places)
    if as_json:
        say_json(current.model_dump_json(indent=1))
        return
    running = [engine for engine in current.engines if engine.running]
    for engine in running:
        minutes, seconds = divmod(int(engine.uptime_seconds or 0), 60)
        cells = f"{f'{engine.name} {engine.version}':18} {', '.join(engine.services):8}  {engine.endpoint}"
        say(f"{cells}  pid {engine.pid}  up {minutes} min {seconds} s")
        if not engine.locked:
            say(f"  every user of this machine can read and change what {engine.name} stores")
    if not running:
        say("no engine is running")
    say(f"state  {current.state_dir}  {_megabytes(current.state_bytes)}")
    for title, size in current.sizes.items():
        say(f"  {title:16} {_megabytes(size):>10}")
    say("`layoutlm-cli --local job prune --older-than 0d` removes checkpoints and run directories of ended jobs")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise click.ClickException(str(error)) from error

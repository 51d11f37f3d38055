"""What every fleet command takes: which fleet, in which region; and how what AWS does is told."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from receipt_layoutlm.cli.connection import explain_errors
from receipt_layoutlm.cli.tables import clean
from receipt_layoutlm.fleet_names import DEFAULT_FLEET

if TYPE_CHECKING:
    from receipt_layoutlm.stack_events import StackEvent

F = TypeVar("F", bound=Callable[..., Any])


def fleet_options(command: F) -> F:
    """Add --fleet and --region; with --local there is no fleet."""

    @click.option(
        "--fleet",
        default=DEFAULT_FLEET,
        show_default=True,
        envvar="LAYOUTLM_FLEET",
        show_envvar=True,
        metavar="NAME",
        help="Which fleet: its name begins the names of its stacks, groups, logs and alarms.",
    )
    @click.option("--region", metavar="REGION", help="AWS region (else AWS_REGION, the profile, us-east-1).")
    @functools.wraps(command)
    def wrapped(**values: Any) -> Any:
        if click.get_current_context().find_root().obj:
            raise click.UsageError("a fleet is on AWS: leave --local away")
        return explain_errors(command)(**values)

    return wrapped  # type: ignore[return-value]


def tell_event(event: "StackEvent") -> None:
    """One line on stderr: when, what became of it, what it is, and why if it went wrong."""
    reason = f": {clean(event.reason)}" if event.is_failure else ""
    click.echo(
        f"{event.at.astimezone():%H:%M:%S} {clean(event.status):28} {clean(event.resource)} "
        f"({clean(event.resource_type)}){reason}",
        err=True,
    )

"""Options and output that the fleet commands share."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from receipt_layoutlm.cli.connection import explain_errors, region_option
from receipt_layoutlm.cli.output import PlaceOption, say
from receipt_layoutlm.cli.tables import clean
from receipt_layoutlm.fleet.names import DEFAULT_FLEET

if TYPE_CHECKING:
    from receipt_dynamo import DynamoClient
    from receipt_layoutlm.fleet.deploy import Aws
    from receipt_layoutlm.fleet.stack import StackEvent, StackState
    from receipt_layoutlm.fleet.status import StatusSources
    from receipt_layoutlm.storage.owner import Owner


F = TypeVar("F", bound=Callable[..., Any])


def fleet_options(command: F) -> F:
    """Add --fleet and --region; refuse --local, which has no fleet."""

    @click.option(
        "--fleet",
        cls=PlaceOption,
        default=DEFAULT_FLEET,
        show_default=True,
        envvar="LAYOUTLM_FLEET",
        show_envvar=True,
        metavar="NAME",
        help="Name of the fleet, the prefix of its stacks, groups, logs and alarms.",
    )
    @region_option
    @aws_only
    @functools.wraps(command)
    def wrapped(**values: Any) -> Any:
        return command(**values)

    return wrapped  # type: ignore[return-value]


def aws_only(command: F) -> F:
    """Refuse --local, which has no fleet, and explain errors."""

    @functools.wraps(command)
    def wrapped(**values: Any) -> Any:
        if click.get_current_context().find_root().obj:
            raise click.UsageError("fleets exist on AWS only: omit --local, and LAYOUTLM_LOCAL from the environment")
        return explain_errors(command)(**values)

    return wrapped  # type: ignore[return-value]


def show_event(event: "StackEvent") -> None:
    """Print one line on stderr: time, status, resource, and the reason of a failure.

    The start of a change is shown for the stack only, not for each resource.
    """
    if event.status.endswith("IN_PROGRESS") and not event.is_of_stack:
        return
    reason = f": {clean(event.reason)}" if event.is_failure else ""
    say(
        f"{event.at.astimezone():%H:%M:%S} {clean(event.status):28} {clean(event.resource)} "
        f"({clean(event.resource_type)}){reason}",
        err=True,
    )


def bucket_owner(region: str | None) -> "Owner":
    """The account that requests to a fleet's bucket name, looked up when it is needed."""
    from receipt_layoutlm.storage.owner import caller_identity, expected_owner

    return functools.partial(expected_owner, os.environ, functools.partial(caller_identity, region))


def fleet_aws(region: str | None) -> "Aws":
    """Clients of the region."""
    from receipt_layoutlm.fleet.deploy import open_aws

    return open_aws(region, bucket_owner(region))


@dataclass(frozen=True)
class StandingFleet:
    """A deployed fleet, and the clients of its region."""

    name: str
    aws: "Aws"
    workers: "StackState"

    def client(self) -> "DynamoClient":
        """A client of the fleet's table."""
        from receipt_dynamo import DynamoClient

        return DynamoClient(self.workers.parameters["TableName"], self.aws.region)

    def sources(self) -> "StatusSources":
        import boto3

        from receipt_layoutlm.fleet.scaler.costs import list_instances
        from receipt_layoutlm.fleet.status import StatusSources

        ec2 = boto3.client("ec2", region_name=self.aws.region)
        return StatusSources(self.workers, self.client(), self.aws.autoscaling, lambda: list_instances(ec2, self.name))


def standing_fleet(fleet: str, region: str | None) -> StandingFleet:
    """Raises NoFleet, StackError."""
    from receipt_layoutlm.fleet.names import workers_stack
    from receipt_layoutlm.fleet.stack import FleetStack
    from receipt_layoutlm.fleet.status import NoFleet

    aws = fleet_aws(region)
    workers = FleetStack(aws.cloudformation, workers_stack(fleet)).state()
    if workers is None or workers.is_planned_only:
        raise NoFleet(f"there is no fleet {fleet} in {aws.region}: give --fleet and --region, or deploy it")
    return StandingFleet(fleet, aws, workers)

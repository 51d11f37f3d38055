"""Today's cost of a fleet's machines, metered at each look of the scaler."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from receipt_dynamo import FleetCost, FleetRows
from receipt_layoutlm.fleet.names import FLEET_TAG

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client


ALIVE = ("pending", "running")
PAID = (*ALIVE, "shutting-down", "terminated")  # EC2 lists terminated ones for a while
METERED_AGAIN = timedelta(seconds=30)  # looks in quick succession, as in a burst of submits, meter nothing


@dataclass(frozen=True)
class FleetInstance:
    """A billed machine. `ended_at` is known for machines that were terminated on request."""

    instance_id: str
    instance_type: str
    spot: bool
    zone: str
    launched_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True)
class Spent:
    """Dollars spent today, and the instance types without a known price."""

    dollars: float
    unpriced: tuple[str, ...]


def list_instances(client: "EC2Client", fleet: str, states: Sequence[str] = ALIVE) -> list[FleetInstance]:
    """All machines of the fleet in these states, including those that left their group. Raises ClientError.

    A terminated machine without a known end is left out.
    """
    pages = client.get_paginator("describe_instances").paginate(
        Filters=[
            {"Name": f"tag:{FLEET_TAG}", "Values": [fleet]},
            {"Name": "instance-state-name", "Values": list(states)},
        ]
    )
    reservations = (reservation for page in pages for reservation in page["Reservations"])
    machines = []
    for described in (instance for reservation in reservations for instance in reservation["Instances"]):
        # EC2 gives the time in words only, as in `User initiated (2026-05-01 12:00:00 GMT)`
        reason = described.get("StateTransitionReason", "")
        time = re.search(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)", reason)
        ended_at = datetime.fromisoformat(time[1]).replace(tzinfo=UTC) if time else None
        if ended_at is None and described["State"]["Name"] not in ALIVE:
            continue
        machine = FleetInstance(
            instance_id=described["InstanceId"],
            instance_type=described["InstanceType"],
            spot=described.get("InstanceLifecycle") == "spot",
            zone=described["Placement"]["AvailabilityZone"],
            launched_at=described["LaunchTime"],
            ended_at=ended_at,
        )
        machines.append(machine)
    return machines


def midnight_of(moment: datetime) -> datetime:
    """The start of a moment's day."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def dollars_between(
    instances: Iterable[FleetInstance],
    price: Callable[[FleetInstance], float | None],
    since: datetime,
    until: datetime,
) -> Spent:
    """Cost of these machines from `since` or their launch, whichever is later, until `until` or their end."""
    dollars, unpriced = 0.0, set()
    for instance in instances:
        per_hour = price(instance)
        if per_hour is None:
            unpriced.add(instance.instance_type)
        else:
            end = min(until, instance.ended_at or until)
            dollars += per_hour * max(0.0, (end - max(since, instance.launched_at)).total_seconds()) / 3600
    return Spent(dollars, tuple(sorted(unpriced)))


def meter(
    rows: FleetRows,
    cost: FleetCost,
    instances: Sequence[FleetInstance],
    price: Callable[[FleetInstance], float | None],
    now: datetime,
) -> Spent:
    """Add the machines' cost since the last metering to today's cost as it was read; of two concurrent calls one adds.

    EC2 reports no end of a reclaimed spot machine: its cost after the last look is missing.
    """
    since = cost.metered_until or midnight_of(now)
    spent = dollars_between(instances, price, since, now)
    if cost.metered_until is not None and now - since < METERED_AGAIN:
        return Spent(cost.dollars, spent.unpriced)
    if spent.dollars and not rows.add_cost(cost, spent.dollars, now):
        return Spent(rows.get_cost(cost.fleet, cost.day).dollars, spent.unpriced)
    return Spent(cost.dollars + spent.dollars, spent.unpriced)

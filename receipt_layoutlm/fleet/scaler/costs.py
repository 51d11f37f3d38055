"""What the machines of a fleet cost today, metered at each look of the scaler."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from receipt_dynamo import FleetCost, FleetRows
from receipt_layoutlm.fleet.names import FLEET_TAG

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import InstanceTypeDef


ALIVE = ("pending", "running")
PAID = (*ALIVE, "shutting-down", "terminated")  # those that ended too, as long as EC2 lists them
METERED_AGAIN = timedelta(seconds=30)  # looks that come sooner, as in a burst of submits, meter nothing


@dataclass(frozen=True)
class FleetInstance:
    """A machine that is paid for, until `ended_at`: EC2 tells when for those that were ended on request."""

    instance_id: str
    instance_type: str
    spot: bool
    zone: str
    launched_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True)
class Spent:
    """Dollars of today so far, and the types of machines whose price nobody knows."""

    dollars: float
    unpriced: tuple[str, ...]


def list_instances(client: "EC2Client", fleet: str, states: Sequence[str] = ALIVE) -> list[FleetInstance]:
    """Every machine of the fleet in these states, also one that its group has let go. ClientError."""
    pages = client.get_paginator("describe_instances").paginate(
        Filters=[
            {"Name": f"tag:{FLEET_TAG}", "Values": [fleet]},
            {"Name": "instance-state-name", "Values": list(states)},
        ]
    )
    found = [each for page in pages for each in page["Reservations"]]
    machines = [_machine(each) for reservation in found for each in reservation["Instances"]]
    return [machine for machine in machines if machine is not None]


def _machine(described: "InstanceTypeDef") -> FleetInstance | None:
    """None for one that ended nobody knows when."""
    ended_at = _ended_at(described.get("StateTransitionReason", ""))
    if ended_at is None and described["State"]["Name"] not in ALIVE:
        return None
    return FleetInstance(
        instance_id=described["InstanceId"],
        instance_type=described["InstanceType"],
        spot=described.get("InstanceLifecycle") == "spot",
        zone=described["Placement"]["AvailabilityZone"],
        launched_at=described["LaunchTime"],
        ended_at=ended_at,
    )


def _ended_at(reason: str) -> datetime | None:
    """EC2 tells the time in words only, as in `User initiated (2026-05-01 12:00:00 GMT)`."""
    found = re.search(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)", reason)
    return datetime.fromisoformat(found[1]).replace(tzinfo=UTC) if found else None


def midnight_of(moment: datetime) -> datetime:
    """When the day of a moment began."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def dollars_between(
    instances: Iterable[FleetInstance],
    price: Callable[[FleetInstance], float | None],
    since: datetime,
    until: datetime,
) -> Spent:
    """What these machines cost from `since`, or from their start if that was later, to `until` or their end."""
    dollars, unpriced = 0.0, set()
    for each in instances:
        per_hour = price(each)
        if per_hour is None:
            unpriced.add(each.instance_type)
        else:
            end = min(until, each.ended_at or until)
            dollars += per_hour * max(0.0, (end - max(since, each.launched_at)).total_seconds()) / 3600
    return Spent(dollars, tuple(sorted(unpriced)))


def meter(
    rows: FleetRows,
    cost: FleetCost,
    instances: Sequence[FleetInstance],
    price: Callable[[FleetInstance], float | None],
    now: datetime,
) -> Spent:
    """Add to today's costs, as they were read, what the machines cost since it was last done; of two at once, one adds.

    Of a machine that spot took away EC2 tells no end: what it cost after the last look is missing.
    """
    since = cost.metered_until or midnight_of(now)
    spent = dollars_between(instances, price, since, now)
    if cost.metered_until is not None and now - since < METERED_AGAIN:
        return Spent(cost.dollars, spent.unpriced)
    if spent.dollars and not rows.add_cost(cost, spent.dollars, now):
        return Spent(rows.get_cost(cost.fleet, cost.day).dollars, spent.unpriced)
    return Spent(cost.dollars + spent.dollars, spent.unpriced)

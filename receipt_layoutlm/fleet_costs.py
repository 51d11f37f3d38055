"""What the machines of a fleet cost today, metered at each look of the scaler."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from receipt_dynamo import FleetRows
from receipt_layoutlm.fleet_names import FLEET_TAG

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

METERED_AGAIN = timedelta(seconds=30)  # looks that come sooner, as in a burst of submits, meter nothing


@dataclass(frozen=True)
class FleetInstance:
    """A machine that is paid for now."""

    instance_id: str
    instance_type: str
    spot: bool
    zone: str
    launched_at: datetime


@dataclass(frozen=True)
class Spent:
    """Dollars of today so far, and the types of machines whose price nobody knows."""

    dollars: float
    unpriced: tuple[str, ...]


def list_instances(client: "EC2Client", fleet: str) -> list[FleetInstance]:
    """Every machine of the fleet that is starting or running, also one that its group has let go. ClientError."""
    pages = client.get_paginator("describe_instances").paginate(
        Filters=[
            {"Name": f"tag:{FLEET_TAG}", "Values": [fleet]},
            {"Name": "instance-state-name", "Values": ["pending", "running"]},
        ]
    )
    return [
        FleetInstance(
            instance_id=each["InstanceId"],
            instance_type=each["InstanceType"],
            spot=each.get("InstanceLifecycle") == "spot",
            zone=each["Placement"]["AvailabilityZone"],
            launched_at=each["LaunchTime"],
        )
        for page in pages
        for reservation in page["Reservations"]
        for each in reservation["Instances"]
    ]


def midnight_of(moment: datetime) -> datetime:
    """When the day of a moment began."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def dollars_between(
    instances: Iterable[FleetInstance],
    price: Callable[[FleetInstance], float | None],
    since: datetime,
    until: datetime,
) -> Spent:
    """What these machines cost from `since`, or from their start if that was later, to `until`."""
    dollars, unpriced = 0.0, set()
    for each in instances:
        per_hour = price(each)
        if per_hour is None:
            unpriced.add(each.instance_type)
        else:
            dollars += per_hour * max(0.0, (until - max(since, each.launched_at)).total_seconds()) / 3600
    return Spent(dollars, tuple(sorted(unpriced)))


def meter(
    rows: FleetRows,
    fleet: str,
    instances: Sequence[FleetInstance],
    price: Callable[[FleetInstance], float | None],
    now: datetime,
) -> Spent:
    """Add to today's costs what the machines cost since it was last done; of two at once, one adds.

    A machine that ended between two looks is not paid for after the first of them: with a look every five minutes and
    at each end of a machine, little is missing.
    """
    cost = rows.get_cost(fleet, now.date())
    since = cost.metered_until or midnight_of(now)
    spent = dollars_between(instances, price, since, now)
    if cost.metered_until is not None and now - since < METERED_AGAIN:
        return Spent(cost.dollars, spent.unpriced)
    if spent.dollars and not rows.add_cost(cost, spent.dollars, now):
        return Spent(rows.get_cost(fleet, now.date()).dollars, spent.unpriced)
    return Spent(cost.dollars + spent.dollars, spent.unpriced)

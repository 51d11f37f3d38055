"""PynamoDB items of a fleet: FLEET#{name} / PAUSE, COST#{day} and SILENT, and FLEET#{name}#CLAIMED / {instance_id}."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from pydantic import TypeAdapter
from pynamodb.attributes import UnicodeAttribute

from receipt_dynamo.attributes import DocumentAttribute, NumericAttribute, TimeAttribute
from receipt_dynamo.entities import FleetCost, FleetPause
from receipt_dynamo.items import RawItem, TableItem, key, values_of
from receipt_dynamo.lease_watch import Sighting

KEPT_DAYS = 60  # of costs and machines; a pause goes a day after its end


class FleetPauseItem(TableItem, discriminator="FLEET_PAUSE"):
    reason = UnicodeAttribute()
    paused_at = TimeAttribute()
    until = TimeAttribute()
    time_to_live = NumericAttribute(null=True)  # a row without one is read too


class FleetCostItem(TableItem, discriminator="FLEET_COST"):
    dollars = NumericAttribute()
    metered_until = TimeAttribute()
    time_to_live = NumericAttribute(null=True)


class SilentLeasesItem(TableItem, discriminator="FLEET_SILENT_LEASES"):
    leases = DocumentAttribute()
    time_to_live = NumericAttribute(null=True)


class FleetMachineItem(TableItem, discriminator="FLEET_MACHINE"):
    claimed_at = TimeAttribute()
    time_to_live = NumericAttribute(null=True)


def fleet_pk(fleet: str) -> str:
    return f"FLEET#{fleet}"


def pause_key(fleet: str) -> RawItem:
    return key(fleet_pk(fleet), "PAUSE")


def cost_key(fleet: str, day: date) -> RawItem:
    return key(fleet_pk(fleet), f"COST#{day.isoformat()}")


def silent_key(fleet: str) -> RawItem:
    return key(fleet_pk(fleet), "SILENT")


def machine_key(fleet: str, instance_id: str) -> RawItem:
    """A separate partition: workers may write here, but neither pauses nor costs."""
    return key(f"{fleet_pk(fleet)}#CLAIMED", instance_id)


def machine_item(fleet: str, instance_id: str, claimed_at: datetime) -> FleetMachineItem:
    row = machine_key(fleet, instance_id)
    return FleetMachineItem(
        pk=row["PK"]["S"],
        sk=row["SK"]["S"],
        time_to_live=_epoch(claimed_at + timedelta(days=KEPT_DAYS)),
        claimed_at=claimed_at,
    )


def pause_item(pause: FleetPause) -> FleetPauseItem:
    row = pause_key(pause.fleet)
    return FleetPauseItem(
        pk=row["PK"]["S"],
        sk=row["SK"]["S"],
        time_to_live=_epoch(pause.until + timedelta(days=1)),
        **pause.model_dump(exclude={"fleet"}),
    )


def pause_from(fleet: str, raw: RawItem) -> FleetPause:
    return FleetPause(fleet=fleet, **values_of(FleetPauseItem, raw))


def cost_item(cost: FleetCost) -> FleetCostItem:
    row = cost_key(cost.fleet, cost.day)
    midnight = datetime(cost.day.year, cost.day.month, cost.day.day, tzinfo=UTC)
    return FleetCostItem(
        pk=row["PK"]["S"],
        sk=row["SK"]["S"],
        time_to_live=_epoch(midnight + timedelta(days=KEPT_DAYS)),
        dollars=cost.dollars,
        metered_until=cost.metered_until,
    )


def cost_from(fleet: str, day: date, raw: RawItem) -> FleetCost:
    return FleetCost(fleet=fleet, day=day, **values_of(FleetCostItem, raw))


_SIGHTINGS = TypeAdapter(tuple[Sighting, ...])


def silent_item(fleet: str, sightings: Sequence[Sighting], now: datetime) -> SilentLeasesItem:
    row = silent_key(fleet)
    return SilentLeasesItem(
        pk=row["PK"]["S"],
        sk=row["SK"]["S"],
        leases=_SIGHTINGS.dump_python(tuple(sightings), mode="json"),
        time_to_live=_epoch(now + timedelta(days=1)),
    )


def silent_from(raw: RawItem) -> Sequence[Sighting]:
    return _SIGHTINGS.validate_python(values_of(SilentLeasesItem, raw)["leases"])


def _epoch(moment: datetime) -> int:
    """Epoch seconds, the format of the table's TTL."""
    return int(moment.timestamp())

"""PynamoDB items of a fleet.

FLEET#{name} / PAUSE, COST#{day}, SILENT, LOCK and WARM, FLEET#{name}#CLAIMED / {instance_id}, QUEUE#{queue} / FLEET.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from pydantic import TypeAdapter
from pynamodb.attributes import UnicodeAttribute

from receipt_dynamo.attributes import DocumentAttribute, NumericAttribute, TimeAttribute
from receipt_dynamo.entities import FleetCost, FleetPause, FleetWarmUp, ServedQueue
from receipt_dynamo.items import RawItem, TableItem, key, queue_pk, values_of
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


class FleetLockItem(TableItem, discriminator="FLEET_LOCK"):
    token = UnicodeAttribute()
    taken_at = TimeAttribute()
    expires_at = TimeAttribute()
    time_to_live = NumericAttribute()


class FleetWarmUpItem(TableItem, discriminator="FLEET_WARM_UP"):
    machines = NumericAttribute()
    until = TimeAttribute()
    time_to_live = NumericAttribute()


class ServedQueueItem(TableItem, discriminator="SERVED_QUEUE"):
    served = DocumentAttribute()
    time_to_live = NumericAttribute()


def fleet_pk(fleet: str) -> str:
    return f"FLEET#{fleet}"


def pause_key(fleet: str) -> RawItem:
    return key(fleet_pk(fleet), "PAUSE")


def cost_key(fleet: str, day: date) -> RawItem:
    return key(fleet_pk(fleet), f"COST#{day.isoformat()}")


def silent_key(fleet: str) -> RawItem:
    return key(fleet_pk(fleet), "SILENT")


def lock_key(fleet: str) -> RawItem:
    return key(fleet_pk(fleet), "LOCK")


def warm_up_key(fleet: str) -> RawItem:
    return key(fleet_pk(fleet), "WARM")


def served_key(queue: str) -> RawItem:
    return key(queue_pk(queue), "FLEET")


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


def claimed_at_from(raw: RawItem) -> datetime:
    return FleetMachineItem.from_raw_data(raw).claimed_at


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


def lock_item(fleet: str, token: str, taken_at: datetime, expires_at: datetime) -> FleetLockItem:
    row = lock_key(fleet)
    return FleetLockItem(
        pk=row["PK"]["S"],
        sk=row["SK"]["S"],
        token=token,
        taken_at=taken_at,
        expires_at=expires_at,
        time_to_live=_epoch(expires_at + timedelta(days=1)),
    )


def warm_up_item(warm: FleetWarmUp) -> FleetWarmUpItem:
    row = warm_up_key(warm.fleet)
    return FleetWarmUpItem(
        pk=row["PK"]["S"],
        sk=row["SK"]["S"],
        time_to_live=_epoch(warm.until + timedelta(days=1)),
        **warm.model_dump(exclude={"fleet"}),
    )


def warm_up_from(fleet: str, raw: RawItem) -> FleetWarmUp:
    return FleetWarmUp(fleet=fleet, **values_of(FleetWarmUpItem, raw))


def served_item(served: ServedQueue) -> ServedQueueItem:
    row = served_key(served.queue)
    return ServedQueueItem(
        pk=row["PK"]["S"],
        sk=row["SK"]["S"],
        served=served.model_dump(mode="json"),
        time_to_live=_epoch(served.seen_at + timedelta(days=1)),
    )


def served_from(raw: RawItem) -> ServedQueue:
    return ServedQueue.model_validate(values_of(ServedQueueItem, raw)["served"])


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

"""PynamoDB items of a fleet.

FLEET#{name} / PAUSE, COST#{day}, SILENT, LOCK and WARM, FLEET#{name}#CLAIMED / {instance_id}, QUEUE#{queue} / FLEET.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

from pydantic import TypeAdapter
from pynamodb.attributes import UnicodeAttribute

from receipt_dynamo.attributes import DocumentAttribute, NumericAttribute, TimeAttribute
from receipt_dynamo.entities import FleetCost, FleetPause, FleetWarmUp, ServedQueue
from receipt_dynamo.items import RawItem, TableItem, item_at, key, queue_pk, values_of
from receipt_dynamo.lease_watch import Sighting

F = TypeVar("F", bound="FleetItem")

KEPT_DAYS = 60  # of costs and machines; a pause goes a day after its end


class FleetItem(TableItem):
    """The table removes a fleet's rows some time after they count; a row without that time is read too."""

    time_to_live = NumericAttribute(null=True)  # epoch seconds


class FleetPauseItem(FleetItem, discriminator="FLEET_PAUSE"):
    reason = UnicodeAttribute()
    paused_at = TimeAttribute()
    until = TimeAttribute()


class FleetCostItem(FleetItem, discriminator="FLEET_COST"):
    dollars = NumericAttribute()
    metered_until = TimeAttribute()


class SilentLeasesItem(FleetItem, discriminator="FLEET_SILENT_LEASES"):
    leases = DocumentAttribute()


class FleetMachineItem(FleetItem, discriminator="FLEET_MACHINE"):
    claimed_at = TimeAttribute()


class FleetLockItem(FleetItem, discriminator="FLEET_LOCK"):
    token = UnicodeAttribute()
    taken_at = TimeAttribute()
    expires_at = TimeAttribute()


class FleetWarmUpItem(FleetItem, discriminator="FLEET_WARM_UP"):
    machines = NumericAttribute()
    until = TimeAttribute()


class ServedQueueItem(FleetItem, discriminator="SERVED_QUEUE"):
    served = DocumentAttribute()


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


def _item(model: type[F], row: RawItem, until: datetime, /, **values: Any) -> F:
    """An item that the table removes after `until`."""
    return item_at(model, row, time_to_live=int(until.timestamp()), **values)


def machine_item(fleet: str, instance_id: str, claimed_at: datetime) -> FleetMachineItem:
    return _item(
        FleetMachineItem,
        machine_key(fleet, instance_id),
        claimed_at + timedelta(days=KEPT_DAYS),
        claimed_at=claimed_at,
    )


def claimed_at_from(raw: RawItem) -> datetime:
    return values_of(FleetMachineItem, raw)["claimed_at"]  # type: ignore[no-any-return]


def pause_item(pause: FleetPause) -> FleetPauseItem:
    return _item(
        FleetPauseItem,
        pause_key(pause.fleet),
        pause.until + timedelta(days=1),
        **pause.model_dump(exclude={"fleet"}),
    )


def pause_from(fleet: str, raw: RawItem) -> FleetPause:
    return FleetPause(fleet=fleet, **values_of(FleetPauseItem, raw))


def cost_item(cost: FleetCost) -> FleetCostItem:
    midnight = datetime(cost.day.year, cost.day.month, cost.day.day, tzinfo=UTC)
    return _item(
        FleetCostItem,
        cost_key(cost.fleet, cost.day),
        midnight + timedelta(days=KEPT_DAYS),
        dollars=cost.dollars,
        metered_until=cost.metered_until,
    )


def cost_from(fleet: str, day: date, raw: RawItem) -> FleetCost:
    return FleetCost(fleet=fleet, day=day, **values_of(FleetCostItem, raw))


def lock_item(fleet: str, token: str, taken_at: datetime, expires_at: datetime) -> FleetLockItem:
    return _item(
        FleetLockItem,
        lock_key(fleet),
        expires_at + timedelta(days=1),
        token=token,
        taken_at=taken_at,
        expires_at=expires_at,
    )


def lock_from(raw: RawItem) -> tuple[str, datetime]:
    """Token and time of the look that took the lock."""
    values = values_of(FleetLockItem, raw)
    return values["token"], values["taken_at"]


def warm_up_item(warm: FleetWarmUp) -> FleetWarmUpItem:
    return _item(
        FleetWarmUpItem,
        warm_up_key(warm.fleet),
        warm.until + timedelta(days=1),
        **warm.model_dump(exclude={"fleet"}),
    )


def warm_up_from(fleet: str, raw: RawItem) -> FleetWarmUp:
    return FleetWarmUp(fleet=fleet, **values_of(FleetWarmUpItem, raw))


def served_item(served: ServedQueue) -> ServedQueueItem:
    return _item(
        ServedQueueItem,
        served_key(served.queue),
        served.seen_at + timedelta(days=1),
        served=served.model_dump(mode="json"),
    )


def served_from(raw: RawItem) -> ServedQueue:
    return ServedQueue.model_validate(values_of(ServedQueueItem, raw)["served"])


_SIGHTINGS = TypeAdapter(tuple[Sighting, ...])


def silent_item(fleet: str, sightings: Sequence[Sighting], now: datetime) -> SilentLeasesItem:
    return _item(
        SilentLeasesItem,
        silent_key(fleet),
        now + timedelta(days=1),
        leases=_SIGHTINGS.dump_python(tuple(sightings), mode="json"),
    )


def silent_from(raw: RawItem) -> Sequence[Sighting]:
    return _SIGHTINGS.validate_python(values_of(SilentLeasesItem, raw)["leases"])

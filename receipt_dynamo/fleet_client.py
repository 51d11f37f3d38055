"""FleetRows: the rows of a fleet beside its jobs, one method per access pattern."""

import contextlib
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from functools import partial

from pynamodb.expressions.condition import Condition

from receipt_dynamo import fleet_items as items
from receipt_dynamo.arguments import checked
from receipt_dynamo.client import DynamoClient
from receipt_dynamo.entities import FleetCost, FleetPause, FleetWarmUp, ServedQueue
from receipt_dynamo.fleet_items import FleetCostItem, FleetLockItem
from receipt_dynamo.lease_watch import Sighting
from receipt_dynamo.unreadable import read, readable
from receipt_dynamo.writes import ConditionFailed, delete, put


class FleetRows:
    """Reads and writes the rows of fleets through one DynamoClient's connection, by the server's time."""

    def __init__(self, client: DynamoClient, now: Callable[[], datetime] | None = None) -> None:
        self._client = client
        self._now = now or client.now

    @checked
    def get_pause(self, fleet: str) -> FleetPause | None:
        """The current pause of the fleet, or None; one that has expired or cannot be read does not count."""
        raw = self._client.get_row(items.pause_key(fleet), consistent=False)
        pause = next(readable(partial(items.pause_from, fleet), [raw] if raw else []), None)
        return None if pause is None or pause.until <= self._now() else pause

    @checked
    def put_pause(self, pause: FleetPause) -> None:
        """Pause the fleet; replaces an existing pause."""
        self._client.writer.execute(put(items.pause_item(pause)))

    @checked
    def remove_pause(self, fleet: str) -> None:
        """End the pause. Idempotent."""
        self._client.writer.execute(delete(items.pause_key(fleet)))

    @checked
    def get_cost(self, fleet: str, day: date) -> FleetCost:
        """Metered costs of a day, 0 dollars if none yet. A consistent read. Raises UnreadableRow."""
        raw = self._client.get_row(items.cost_key(fleet, day), consistent=True)
        return FleetCost(fleet=fleet, day=day) if raw is None else read(partial(items.cost_from, fleet, day), raw)

    @checked
    def add_cost(self, before: FleetCost, dollars: float, metered_until: datetime) -> bool:
        """Add to a day's costs as they were read; False when they have changed since."""
        new = before.model_copy(update={"dollars": before.dollars + dollars, "metered_until": metered_until})
        if before.metered_until is None:
            unchanged: Condition = FleetCostItem.pk.does_not_exist()
        else:
            unchanged = FleetCostItem.metered_until == before.metered_until
        try:
            self._client.writer.execute(put(items.cost_item(new), unchanged))
        except ConditionFailed as lost:
            stored = lost.losers[0]  # our own write, whose reply was lost?
            return stored is not None and items.cost_from(before.fleet, before.day, stored) == new
        return True

    @checked
    def get_sightings(self, fleet: str) -> Sequence[Sighting]:
        """Leases that an earlier look of the scaler saw without a renewal. A consistent read."""
        raw = self._client.get_row(items.silent_key(fleet), consistent=True)
        return next(readable(items.silent_from, [raw] if raw else []), ())

    @checked
    def put_sightings(self, fleet: str, sightings: Sequence[Sighting]) -> None:
        """Keep sightings for the next look. Each one is true for itself, so of two concurrent calls either may win."""
        self._client.writer.execute(put(items.silent_item(fleet, sightings, self._now())))

    @checked
    def take_lock(self, fleet: str, token: str, seconds: float) -> datetime | None:
        """Take the lock of a fleet's looks for so long; None when it was taken, else when its holder took it."""
        now, length = self._now(), timedelta(seconds=seconds)
        # not "expired": a row without an expiry, or with one that no look writes, must not stop the fleet for ever
        free = ~FleetLockItem.expires_at.between(now, now + 2 * length)
        try:
            self._client.writer.execute(put(items.lock_item(fleet, token, now, now + length), free))
        except ConditionFailed as lost:
            holder, taken_at = read(items.lock_from, lost.losers[0] or {})
            return None if holder == token else taken_at  # our own write, whose reply was lost
        return None

    @checked
    def release_lock(self, fleet: str, token: str) -> None:
        """Let the next look begin, unless the lock was lost meanwhile."""
        now = self._now()
        ended = now - timedelta(minutes=1)  # another machine's reading of the server's time may differ by a second
        with contextlib.suppress(ConditionFailed):
            self._client.writer.execute(put(items.lock_item(fleet, token, now, ended), FleetLockItem.token == token))

    @checked
    def get_warm_up(self, fleet: str) -> FleetWarmUp | None:
        """The machines ordered ahead of jobs, or None; an order that has expired or cannot be read does not count."""
        raw = self._client.get_row(items.warm_up_key(fleet), consistent=True)
        warm = next(readable(partial(items.warm_up_from, fleet), [raw] if raw else []), None)
        return None if warm is None or warm.until <= self._now() else warm

    @checked
    def put_warm_up(self, warm: FleetWarmUp) -> None:
        """Keep an order ahead of jobs; replaces an existing one."""
        self._client.writer.execute(put(items.warm_up_item(warm)))

    @checked
    def get_served(self, queue: str) -> ServedQueue | None:
        """The fleet that serves a queue, as its last look saw it; None without one, or when it cannot be read."""
        raw = self._client.get_row(items.served_key(queue), consistent=True)
        return next(readable(items.served_from, [raw] if raw else []), None)

    @checked
    def put_served(self, served: ServedQueue) -> None:
        """Keep what a look saw of a queue. Only looks that hold the fleet's lock do so."""
        self._client.writer.execute(put(items.served_item(served)))

    @checked
    def note_claim(self, fleet: str, instance_id: str) -> None:
        """Record that this machine has claimed or ended a job just now, so its setup works."""
        self._client.writer.execute(put(items.machine_item(fleet, instance_id, self._now())))

    @checked
    def claimed_at(self, fleet: str, instance_id: str) -> datetime | None:
        """When a machine last claimed or ended a job, if that was in the last 60 days. Raises UnreadableRow."""
        raw = self._client.get_row(items.machine_key(fleet, instance_id), consistent=False)
        return None if raw is None else read(items.claimed_at_from, raw)

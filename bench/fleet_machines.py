"""Simulated machines: a group that starts them, how they are reclaimed, and how they end themselves.

The group is behind scaling_group.Group, as AWS's own is. A machine ends as terminate_instance.sh ends it.
"""

import math
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from fleet_workers import IDLE_LOOK, TYPE, SimulatedWorker

from receipt_layoutlm.fleet.names import instance_of
from receipt_layoutlm.fleet.scaler.costs import FleetInstance
from receipt_layoutlm.fleet.scaler.group import Group, GroupFigures, Launch

if TYPE_CHECKING:
    from fleet_world import World

# seconds
NOTICE = 120.0
DRAIN = 2.0  # from the end of an idle slot to the signal that the others obey
LAST_LOOK = 4.0  # from the end of a machine's last worker to `worker peek`
LAST_CALLS = 6.0  # from there to the call that ends it: two runs of the AWS CLI
ORDERED = (2.0, 8.0)  # from a raised capacity to the start of machines
REPLACED = (20.0, 60.0)  # from the end of a machine that is still ordered to the start of the next
ENDED = (30.0, 60.0)  # from a machine's end to the event that tells it


class SimulatedGroup:
    """An autoscaling group: starts what is ordered, replaces what was reclaimed, ends nothing by itself."""

    def __init__(self, world: "World", queue: str, maximum: int, reclaimed_per_hour: float) -> None:
        self.world, self.queue, self.maximum = world, queue, maximum
        self.reclaimed_per_hour = reclaimed_per_hour
        self.desired = 0
        self.alive: dict[str, SimulatedMachine] = {}
        self._launched: list[Launch] = []

    def seen(self) -> Group:
        """As the scaler sees it."""
        return Group(f"group-{self.queue}", self.queue, self.maximum, self._read, self._launches, self._raise_to)

    def _read(self) -> GroupFigures:
        return GroupFigures(self.desired, self.maximum, frozenset(self.alive), None, self.world.clock())

    def _launches(self, since: datetime) -> list[Launch]:
        known = self._launched if self.world.conditions.trials == "yes" else []
        return [each for each in known if each.started_at >= since]

    def _raise_to(self, capacity: int) -> None:
        assert capacity <= self.maximum
        self.desired = capacity
        self.world.after(self.world.rng.uniform(*ORDERED), self._start_missing)

    def _start_missing(self) -> None:
        while len(self.alive) < self.desired:
            self.world.found.machines += 1
            machine = SimulatedMachine(self, f"i-{self.world.found.machines:017x}")
            self.alive[machine.instance_id] = machine
            self._launched.append(Launch(machine.instance_id, self.world.clock()))

    def free_since(self, claimer_since: float) -> float:
        """Since when a worker was free that could have taken what a claimer took now."""
        workers = [worker for machine in self.alive.values() for worker in machine.workers if worker.is_free]
        return min([claimer_since, *(worker.free_since for worker in workers)])

    def shrink(self) -> None:
        self.desired = max(0, self.desired - 1)

    def gone(self, machine: "SimulatedMachine") -> None:
        del self.alive[machine.instance_id]
        self.world.after(self.world.rng.uniform(*REPLACED), self._start_missing)
        self.world.after(self.world.rng.uniform(*ENDED), self.world.machine_ended)


class SimulatedMachine:
    """One instance with a worker in each slot, from its start to its end."""

    def __init__(self, group: SimulatedGroup, instance_id: str) -> None:
        self.group, self.world, self.instance_id = group, group.world, instance_id
        self.started = self.world.clock.seconds
        self.is_gone = self.is_leaving = self._is_ending = False
        self.workers: list[SimulatedWorker] = []
        rng, conditions = self.world.rng, self.world.conditions
        self._is_broken = conditions.broken_from <= self.started < conditions.broken_until
        self.world.after(conditions.boot_seconds * rng.uniform(0.9, 1.1), self._booted)
        if group.reclaimed_per_hour:
            # so that the chance to be there an hour longer is 1 - reclaimed_per_hour, at any time
            self.will_be_reclaimed(rng.expovariate(-math.log(1 - group.reclaimed_per_hour) / 3600))

    def paid(self, begins: datetime) -> FleetInstance:
        return FleetInstance(self.instance_id, TYPE, True, "us-east-1a", begins + timedelta(seconds=self.started))

    def pay(self) -> None:
        self.world.found.instance_hours += (self.world.clock.seconds - self.started) / 3600

    def _booted(self) -> None:
        if self.is_gone or self.is_leaving:
            return
        if self._is_broken:
            self.end("shrinks")  # bootstrap.sh fails closed; before any claim nothing comes in its place
            return
        self.workers = [SimulatedWorker(self, slot) for slot in range(self.world.conditions.slots)]
        for worker in self.workers:
            worker.becomes_free()

    def is_busy(self) -> bool:
        return any(worker.lease is not None for worker in self.workers)

    def renew(self) -> None:
        for worker in self.workers:
            worker.renews()

    # is reclaimed

    def will_be_reclaimed(self, seconds: float) -> None:
        self.world.after(seconds, self._reclaimed)
        if self.world.rng.random() < self.world.conditions.noticed:
            self.world.after(max(0.0, seconds - NOTICE) + self.world.rng.uniform(0, IDLE_LOOK), self._noticed)

    def _noticed(self) -> None:
        if self.is_gone or self.is_leaving:
            return
        self.is_leaving = True
        self.world.found.reclaimed += 1
        for worker in self.workers:
            worker.stops()
        self.world.after(self.world.conditions.stop_seconds if self.is_busy() else 0.0, self._all_stopped)

    def _all_stopped(self) -> None:
        if self.is_gone or not self.workers:
            return
        for worker in self.workers:
            worker.gives_back()
        self.world.after(LAST_LOOK, lambda: self.end("stays" if self._has_work() else "shrinks"))

    def _reclaimed(self) -> None:
        if not self.is_gone:
            self.world.found.reclaimed += not self.is_leaving
            for worker in self.workers:
                worker.dies()
            self._gone()

    # ends itself

    def _has_work(self) -> bool:
        return next(self.world.queue.due_jobs(self.group.queue), None) is not None

    def slot_ended_idle(self, ended: SimulatedWorker) -> None:
        """The other slots still claim until they are told to end. One slot decides for the machine."""
        ended.ends()
        if self._is_ending:
            return
        self._is_ending = True
        if len(self.workers) > 1:
            self._may_race(DRAIN)
        self.world.after(DRAIN, self._drained)

    def _drained(self) -> None:
        if self.is_gone or self.is_leaving:
            return
        if self.is_busy() and self.world.conditions.drains == "yes":
            self._resume()
            return
        for worker in self.workers:
            worker.ends()
        self.world.after(LAST_LOOK, self._last_look)

    def _resume(self) -> None:
        self._is_ending = False
        for worker in self.workers:
            if worker.lease is None:
                worker.becomes_free()

    def _may_race(self, within: float) -> None:
        if self.world.races_left:
            self.world.races_left -= 1
            self.world.after(within * self.world.rng.uniform(0, 0.5), self.world.race)

    def _last_look(self) -> None:
        if self.is_gone or self.is_leaving:
            return
        if self._has_work():
            self._resume()
            return
        self.world.after(LAST_CALLS, partial(self.end, "shrinks"))
        if len(self.workers) == 1:
            self._may_race(LAST_CALLS)

    def end(self, size: str) -> None:
        """Terminate this machine; the group `stays` as large, or `shrinks`."""
        if self.is_gone:
            return
        self.world.found.busy_ended += self._holds_a_lease()
        if size == "shrinks":
            self.group.shrink()
        self._gone()

    def _gone(self) -> None:
        self.is_gone = True
        self.pay()
        self.group.gone(self)

    def _holds_a_lease(self) -> bool:
        """Whether the table knows a live lease of one of its workers."""
        self.renew()
        now = self.world.clock()
        held = [lease for _, lease in self.world.queue.held() if instance_of(lease.worker_id) == self.instance_id]
        return any(lease.expires_at is not None and lease.expires_at > now for lease in held)

"""Simulated machines: an autoscaling group that launches them, spot reclaims, and termination by themselves.

The group is reached through scaler/group.py's Group, as AWS's own is. A machine terminates as terminate_instance.sh
does it.
"""

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from botocore.exceptions import ClientError
from fleet_clock import BEGINS
from fleet_workers import IDLE_LOOK, TYPE, Host, SimulatedWorker
from fleet_world import World

from receipt_layoutlm.fleet.names import instance_of
from receipt_layoutlm.fleet.scaler.costs import FleetInstance
from receipt_layoutlm.fleet.scaler.group import FailedLaunch, Group, GroupFigures, Launch

# seconds
NOTICE = 120.0
DRAIN = 2.0  # from the end of an idle slot to the signal that the others obey
LAST_LOOK = 4.0  # from the end of a machine's last worker to `worker peek`
LAST_CALLS = 6.0  # from there to the terminating call: two runs of the AWS CLI
ORDERED = (2.0, 8.0)  # from a raised capacity to the launch of machines
REPLACED = (20.0, 60.0)  # from the end of a machine within the desired capacity to the launch of the next
ENDED = (30.0, 60.0)  # from a machine's end to its event
IN_SERVICE = 45.0  # from a launch to the protection of the machine
TRIED_AGAIN = 120.0  # from a launch that failed to the next one


class SimulatedMachine:
    """One instance with a worker in each slot, from its launch to its end.

    `on_end` receives the machine and what its group does: it `stays` as large, or `shrinks`.
    """

    def __init__(
        self,
        world: World,
        queue: str,
        instance_id: str,
        reclaimed_per_hour: float,
        on_end: "Callable[[SimulatedMachine, str], None]",
    ) -> None:
        self.world = world
        self.host = Host(instance_id, queue, world.clock.seconds)
        self._on_end, self._is_ending = on_end, False
        rng, conditions = world.rng, world.conditions
        self._is_broken = conditions.broken_from <= self.host.started < conditions.broken_until
        boots = conditions.boot_seconds * rng.uniform(0.9, 1.1)
        if boots <= conditions.boot_deadline_seconds:
            world.clock.after(boots, self._booted)
        else:
            world.clock.after(conditions.boot_deadline_seconds, self._past_deadline)
        if reclaimed_per_hour:
            # so that the chance to survive another hour is 1 - reclaimed_per_hour at any time
            self.reclaim_in(rng.expovariate(-math.log(1 - reclaimed_per_hour) / 3600))

    def billed(self) -> FleetInstance:
        """The machine as EC2 lists it."""
        launched_at = BEGINS + timedelta(seconds=self.host.started)
        return FleetInstance(self.host.instance_id, TYPE, True, "us-east-1a", launched_at)

    def pay(self) -> None:
        hours, settled_at = (self.world.clock.seconds - self.host.started) / 3600, self.world.measured.settled_at
        self.world.measured.instance_hours += hours
        if settled_at is not None and self.host.started > settled_at:
            self.world.measured.late_hours += hours
            self.world.measured.late_machines += 1

    def _booted(self) -> None:
        if self.host.is_gone or self.host.is_leaving:
            return
        if self._is_broken:
            self.end("shrinks")  # bootstrap.sh fails closed; before any claim it is not replaced
            return
        slots = range(self.world.conditions.slots)
        self.host.workers = [SimulatedWorker(self.world, self.host, slot, self._slot_is_idle) for slot in slots]
        for worker in self.host.workers:
            worker.become_free()

    def _past_deadline(self) -> None:
        if not self.host.is_gone and not self.host.is_leaving:
            self.end("shrinks")  # its timer terminates it

    def renew(self) -> None:
        for worker in self.host.workers:
            worker.renew()

    # reclaimed by spot

    def reclaim_in(self, seconds: float) -> None:
        self.world.clock.after(seconds, self._reclaim)
        if self.world.rng.random() < self.world.conditions.noticed:
            self.world.clock.after(max(0.0, seconds - NOTICE) + self.world.rng.uniform(0, IDLE_LOOK), self._notice)

    def _notice(self) -> None:
        if self.host.is_gone or self.host.is_leaving:
            return
        self.host.is_leaving = True
        self.world.measured.reclaimed += 1
        for worker in self.host.workers:
            worker.stop()
        self.world.clock.after(self.world.conditions.stop_seconds if self.host.is_busy() else 0.0, self._all_stopped)

    def _all_stopped(self) -> None:
        if self.host.is_gone or not self.host.workers:
            return
        for worker in self.host.workers:
            worker.release()
        self.world.clock.after(LAST_LOOK, lambda: self.end("stays" if self._has_work() else "shrinks"))

    def _reclaim(self) -> None:
        if not self.host.is_gone:
            self.world.measured.reclaimed += not self.host.is_leaving
            for worker in self.host.workers:
                worker.die()
            self._finish("stays")

    # terminates itself

    def _has_work(self) -> bool:
        return next(self.world.queue.due_jobs(self.host.queue), None) is not None

    def _slot_is_idle(self, worker: SimulatedWorker) -> None:
        """One slot decides for the machine; the others still claim until they are told to end."""
        worker.end()
        if self._is_ending:
            return
        self._is_ending = True
        if len(self.host.workers) > 1:
            self.world.may_race(DRAIN)
        self.world.clock.after(DRAIN, self._drained)

    def _drained(self) -> None:
        if self.host.is_gone or self.host.is_leaving:
            return
        if self.host.is_busy() and self.world.conditions.drains == "yes":
            self._resume()
            return
        for worker in self.host.workers:
            worker.end()
        self.world.clock.after(LAST_LOOK, self._last_look)

    def _resume(self) -> None:
        self._is_ending = False
        for worker in self.host.workers:
            if worker.lease is None:
                worker.become_free()

    def _last_look(self) -> None:
        if self.host.is_gone or self.host.is_leaving:
            return
        if self._has_work():
            self._resume()
            return
        self.world.clock.after(LAST_CALLS, partial(self.end, "shrinks"))
        if len(self.host.workers) == 1:
            self.world.may_race(LAST_CALLS)

    def end(self, group_size: str) -> None:
        """Terminate this machine; its group `stays` as large, or `shrinks`, if the request reaches it."""
        if not self.host.is_gone:
            self.world.measured.busy_ended += self._holds_a_lease()
            reaches = self.world.conditions.reaches_group == "yes" and not self.world.is_out()
            self._finish(group_size if reaches else "stays")

    def _holds_a_lease(self) -> bool:
        """Whether one of the machine's workers has a live lease in the table."""
        self.renew()
        now = self.world.clock()
        leases = [
            lease for _, lease in self.world.queue.held() if instance_of(lease.worker_id) == self.host.instance_id
        ]
        return any(lease.expires_at is not None and lease.expires_at > now for lease in leases)

    def _finish(self, group_size: str) -> None:
        self.host.is_gone = True
        for worker in self.host.workers:
            worker.end()
        self.pay()
        self._on_end(self, group_size)


def api_error() -> ClientError:
    """The reply of Auto Scaling during an outage."""
    return ClientError({"Error": {"Code": "ServiceUnavailable", "Message": "an outage"}}, "AnyOperation")


class SimulatedGroup:
    """An autoscaling group: launches machines up to its capacity, and replaces those that are gone.

    A lower capacity ends machines that are not in service yet; the others are protected. `delivers_from` is the time
    of the first launch that succeeds. `on_event` is called when the event of a machine's end arrives.
    """

    def __init__(
        self,
        world: World,
        queue: str,
        maximum: int,
        reclaimed_per_hour: float,
        on_event: Callable[[], None],
        delivers_from: float = 0.0,
    ) -> None:
        self.world, self.queue, self.maximum = world, queue, maximum
        self.desired = 0
        self._delivers_from = delivers_from
        self._failed_at: float | None = None
        self.alive: dict[str, SimulatedMachine] = {}
        self._reclaimed_per_hour, self._on_event = reclaimed_per_hour, on_event
        self._launched: list[Launch] = []

    def seen(self) -> Group:
        """The group as the scaler sees it."""
        return Group(
            name=f"group-{self.queue}",
            queue=self.queue,
            maximum=self.maximum,
            read=self._read,
            launches=self._launches,
            raise_to=self._raise_to,
            lower_to=self._lower_to,
            replace=self._replace,
            failure=self._failure,
        )

    def starting(self) -> frozenset[str]:
        now = self.world.clock.seconds
        return frozenset(name for name, machine in self.alive.items() if now - machine.host.started < IN_SERVICE)

    def _read(self) -> GroupFigures:
        if self.world.is_out():
            raise api_error()
        return GroupFigures(
            desired=self.desired,
            largest=self.maximum,
            instances=frozenset(self.alive),
            unsettled=None,
            read_at=self.world.clock(),
            starting=self.starting(),
        )

    def _failure(self) -> FailedLaunch | None:
        if self._failed_at is None:
            return None
        return FailedLaunch("Max spot instance count exceeded", BEGINS + timedelta(seconds=self._failed_at))

    def _launches(self, since: datetime) -> list[Launch]:
        known = self._launched if self.world.conditions.trials == "yes" else []
        return [launch for launch in known if launch.started_at >= since]

    def _raise_to(self, capacity: int) -> None:
        assert self.desired < capacity <= self.maximum
        self.order(capacity)

    def order(self, capacity: int) -> None:
        self.desired = capacity
        self.world.clock.after(self.world.rng.uniform(*ORDERED), self._launch_missing)

    def _lower_to(self, capacity: int, seen: GroupFigures) -> None:
        if self.world.conditions.lowers == "no":
            return
        assert (seen.desired, seen.instances) == (self.desired, frozenset(self.alive))
        assert 0 <= capacity < self.desired
        self.desired = capacity
        for name in sorted(self.starting())[: max(0, len(self.alive) - capacity)]:
            self.alive[name].end("stays")

    def _replace(self, instance_id: str) -> None:
        self.alive[instance_id].end("stays")

    def _launch_missing(self) -> None:
        if len(self.alive) < self.desired and self.world.clock.seconds < self._delivers_from:
            self._failed_at = self.world.clock.seconds
            self.world.clock.after(TRIED_AGAIN, self._launch_missing)
            return
        while len(self.alive) < self.desired:
            self.world.measured.machines += 1
            instance_id = f"i-{self.world.measured.machines:017x}"
            machine = SimulatedMachine(self.world, self.queue, instance_id, self._reclaimed_per_hour, self._on_end)
            self.alive[instance_id] = machine
            self._launched.append(Launch(instance_id, self.world.clock()))

    def _on_end(self, machine: SimulatedMachine, group_size: str) -> None:
        if group_size == "shrinks":
            self.desired = max(0, self.desired - 1)
        del self.alive[machine.host.instance_id]
        self.world.clock.after(self.world.rng.uniform(*REPLACED), self._launch_missing)
        self.world.clock.after(self.world.rng.uniform(*ENDED), self._on_event)

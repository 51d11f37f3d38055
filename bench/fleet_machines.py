"""Simulated machines: a group that starts them, workers that train on them, how they are reclaimed and end themselves.

The group is behind scaling_group.Group, as AWS's own is. A worker does with the real queue what worker.py does: it
claims, renews, records checkpoints, releases at a notice, completes, and rescues while it is idle. A machine ends as
terminate_instance.sh ends it.

Requests that nobody could tell from none are saved: an idle worker's look every 5 s is sent only when something was put
into the queue since its last one, and a renewal every 15 s only when somebody is about to read leases, dated as it
would have been.
"""

import math
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from receipt_dynamo import JobLog, JobStatus, Lease, Machine, Pointer
from receipt_layoutlm.fleet_costs import FleetInstance
from receipt_layoutlm.fleet_names import instance_of
from receipt_layoutlm.scaling_group import Group, GroupFigures, Launch

if TYPE_CHECKING:
    from fleet_world import World

TYPE = "g5.xlarge"

# seconds
IDLE_LOOK = 5.0  # between two looks of an idle worker, and of its watch for a spot notice
IDLE_RESCUE = 20.0
NOTICE = 120.0
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

    def _launches(self) -> list[Launch]:
        return self._launched[-50:] if self.world.conditions.trials == "yes" else []

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
        self.is_gone = self.is_leaving = False
        self.workers: list[SimulatedWorker] = []
        rng, conditions = self.world.rng, self.world.conditions
        self._is_broken = self.started < conditions.broken_until
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

    def workers_ended_idle(self) -> None:
        for worker in self.workers:
            worker.ends()
        self.world.after(LAST_LOOK, self._last_look)

    def _last_look(self) -> None:
        if self.is_gone or self.is_leaving:
            return
        if self._has_work():
            for worker in self.workers:
                worker.becomes_free()
            return
        self.world.after(LAST_CALLS, partial(self.end, "shrinks"))
        if self.world.races_left:
            self.world.races_left -= 1
            self.world.after(LAST_CALLS * self.world.rng.uniform(0, 0.5), self.world.race)

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
        client, now = self.world.queue.client, self.world.clock()
        leases = [client.get_lease(job.job_id) for job in client.list_jobs_by_status(JobStatus.RUNNING)]
        return any(
            lease.worker_id is not None
            and instance_of(lease.worker_id) == self.instance_id
            and lease.expires_at is not None
            and lease.expires_at > now
            for lease in leases
        )


class SimulatedWorker:
    """The worker of one slot: free, or at a job. What was planned before its last change of mind is void (`_turn`)."""

    def __init__(self, machine: SimulatedMachine, slot: int) -> None:
        self._machine, self._world = machine, machine.world
        self._worker_id = f"{machine.instance_id}-{slot}-{self._world.rng.getrandbits(24):06x}"
        self.lease: Lease | None = None
        self._turn = 0
        self._free_since = self._idle_since = self._rescue_at = 0.0
        self._puts_seen = -1
        self._claimed_at = self._resumed_at = self._first_step_at = 0.0
        self._renewals = 0
        self._stopped_with: float | None = None

    def _after(self, seconds: float, do: "partial[None]") -> None:
        turn = self._turn

        def unless_void() -> None:
            if turn == self._turn and not self._machine.is_gone:
                do()

        self._world.after(seconds, unless_void)

    # free

    def becomes_free(self) -> None:
        self.ends()
        self._free_since = self._idle_since = self._rescue_at = self._world.clock.seconds
        self._puts_seen = -1
        if not self._machine.is_leaving:
            self._looks()

    def ends(self) -> None:
        self._turn += 1
        self.lease = None

    def _looks(self) -> None:
        now, conditions = self._world.clock.seconds, self._world.conditions
        if now >= self._rescue_at:
            self._rescue_at = now + IDLE_RESCUE
            self._world.rescue()
        lease = self._claims()
        if lease is not None:
            self._begins(lease)
            return
        if self._machine.is_busy():
            self._idle_since = now  # one machine ends as a whole
        if now - self._idle_since >= conditions.idle_seconds:
            self._machine.workers_ended_idle()
            return
        self._after(IDLE_LOOK, partial(self._looks))

    def _claims(self) -> Lease | None:
        if self._puts_seen == self._world.puts:
            return None
        self._puts_seen = self._world.puts
        machine = Machine(instance_type=TYPE, spot=True)
        return self._world.queue.claim(self._worker_id, self._machine.group.queue, machine=machine)

    # at a job

    def _begins(self, lease: Lease) -> None:
        self._turn += 1
        self.lease = lease
        conditions, now = self._world.conditions, self._world.clock.seconds
        self._world.claimed(lease.job_id, self._free_since)
        self._resumed_at = float(lease.checkpoint.global_step) if lease.checkpoint else 0.0
        self._world.found.repeated_seconds += max(0.0, self._world.trained.get(lease.job_id, 0.0) - self._resumed_at)
        self._claimed_at, self._renewals = now, 0
        self._first_step_at, self._stopped_with = now + conditions.start_seconds, None
        self._world.trains(lease.job_id, self._first_step_at, self._machine.started)
        left = conditions.job_seconds - self._resumed_at
        self._after(conditions.start_seconds + left, partial(self._completes))
        self._after(conditions.start_seconds + conditions.checkpoint_seconds, partial(self._saves))

    def _trained(self) -> float:
        """Seconds of training that the job has now."""
        if self._stopped_with is not None:
            return self._stopped_with
        return self._resumed_at + max(0.0, self._world.clock.seconds - self._first_step_at)

    def renews(self) -> None:
        """Send the last renewal that was due by now, dated as of then: of all before it nothing would be left.

        As long as the stored lease has not run out, a reader could tell no difference, and nothing is sent.
        """
        if self.lease is None or (self.lease.expires_at or self._world.clock()) > self._world.clock():
            return
        self.renews_at_last()

    def renews_at_last(self) -> None:
        """Send it in any case: the holder dies now, and this is when its lease runs out."""
        assert self.lease is not None
        seconds = self._world.conditions.renew_seconds
        due = math.floor((self._world.clock.seconds - self._claimed_at) / seconds)
        if due > self._renewals:
            self._renewals = due
            with self._world.clock.set_to(self._claimed_at + due * seconds):
                self.lease = self._world.queue.renew(self.lease)

    def _saves(self) -> None:
        self._save()
        self._after(self._world.conditions.checkpoint_seconds, partial(self._saves))

    def _save(self) -> None:
        assert self.lease is not None
        step = int(self._trained())
        stored = self.lease.checkpoint
        if stored is None or step > stored.global_step:
            pointer = Pointer(attempt=self.lease.attempt, global_step=step, manifest_sha256=f"{step:064x}")
            self.lease = self._world.queue.record_checkpoint(self.lease, pointer, None)

    def _completes(self) -> None:
        lease = self.lease
        assert lease is not None
        summary = JobLog(
            job_id=lease.job_id,
            timestamp=self._world.clock(),
            level="info",
            event="run_summary",
            message="done",
            attempt=lease.attempt,
            seq=1,
        )
        self._world.queue.complete(lease, results={}, summary=summary)
        self._world.succeeded()
        self.becomes_free()

    def stops(self) -> None:
        """A notice: no further step, and a last checkpoint. What was planned is void."""
        if self.lease is None:
            self.ends()
            return
        self._stopped_with = self._trained()
        self._turn += 1

    def gives_back(self) -> None:
        if self.lease is not None:
            self._note_trained()
            self._save()
            self._world.queue.release(self.lease, "spot")
            self._world.released(self.lease.job_id)
            self.ends()

    def dies(self) -> None:
        if self.lease is not None:
            self.renews_at_last()
            self._note_trained()
            self._world.died_with(self.lease.job_id)
            self.ends()

    def _note_trained(self) -> None:
        assert self.lease is not None
        known = self._world.trained.get(self.lease.job_id, 0.0)
        self._world.trained[self.lease.job_id] = max(known, self._trained())

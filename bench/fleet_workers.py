"""Simulated workers: what worker.py does with the real queue, on a simulated clock.

It claims, renews, records checkpoints, releases at a notice, completes, and rescues while it is idle. Requests that
nobody could tell from none are saved: an idle worker's look every 5 s is sent only when something was put into the
queue since its last one, and a renewal every 15 s only when somebody is about to read leases, dated as it would have
been.
"""

import math
from functools import partial
from typing import TYPE_CHECKING

from receipt_dynamo import JobLog, Lease, Machine, Pointer

if TYPE_CHECKING:
    from fleet_machines import SimulatedMachine

TYPE = "g5.xlarge"

# seconds
IDLE_LOOK = 5.0  # between two looks of an idle worker, and of its watch for a spot notice
IDLE_RESCUE = 20.0


class SimulatedWorker:
    """The worker of one slot: free, or at a job. What was planned before its last change of mind is void (`_turn`)."""

    def __init__(self, machine: "SimulatedMachine", slot: int) -> None:
        self._machine, self._world = machine, machine.world
        self._worker_id = f"{machine.instance_id}-{slot}-{self._world.rng.getrandbits(24):06x}"
        self.lease: Lease | None = None
        self.is_free = False
        self._turn = 0
        self.free_since = self._idle_since = self._rescue_at = 0.0
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
        self.free_since = self._idle_since = self._rescue_at = self._world.clock.seconds
        self._puts_seen = -1
        if not self._machine.is_leaving:
            self.is_free = True
            self._looks()

    def ends(self) -> None:
        self._turn += 1
        self.lease, self.is_free = None, False

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
            self._machine.slot_ended_idle(self)
            return
        self._after(IDLE_LOOK * self._world.rng.uniform(0.9, 1.1), partial(self._looks))

    def _claims(self) -> Lease | None:
        if self._puts_seen == self._world.puts:
            return None
        self._puts_seen = self._world.puts
        machine = Machine(instance_type=TYPE, spot=True)
        return self._world.queue.claim(self._worker_id, self._machine.group.queue, machine=machine)

    # at a job

    def _begins(self, lease: Lease) -> None:
        self._turn += 1
        self.lease, self.is_free = lease, False
        conditions, now = self._world.conditions, self._world.clock.seconds
        self._world.claimed(lease.job_id, self._machine.group.free_since(self.free_since))
        self._resumed_at = float(lease.checkpoint.global_step) if lease.checkpoint else 0.0
        self._world.found.repeated_seconds += max(0.0, self._world.trained.get(lease.job_id, 0.0) - self._resumed_at)
        self._claimed_at, self._renewals = now, 0
        self._first_step_at, self._stopped_with = now + conditions.start_seconds, None
        self._world.note_claim(self._machine.instance_id)
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

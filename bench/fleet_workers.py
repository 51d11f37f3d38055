"""Simulated workers: the calls of worker.py to the real queue, on a simulated clock.

A worker claims, renews, records checkpoints, releases at a notice, completes, and rescues while it is idle. Requests
without any effect are not sent: an idle worker's look every 5 s only when something was put into the queue since its
last one, and a renewal every 15 s only before leases are read, dated as it would have been.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from fleet_world import FLEET, World

from receipt_dynamo import JobLog, Lease, Machine, Pointer

TYPE = "g5.xlarge"

# seconds
IDLE_LOOK = 5.0  # between two looks of an idle worker, and of its watch for a spot notice
IDLE_RESCUE = 20.0


@dataclass
class Host:
    """The state of a machine that its workers see."""

    instance_id: str
    queue: str
    started: float
    is_gone: bool = False
    is_leaving: bool = False
    workers: "list[SimulatedWorker]" = field(default_factory=list)

    def is_busy(self) -> bool:
        return any(worker.lease is not None for worker in self.workers)


class SimulatedWorker:
    """The worker of one slot: free, or at a job. A change of state voids all calls scheduled before it (`_turn`)."""

    def __init__(self, world: World, host: Host, slot: int, on_idle: "Callable[[SimulatedWorker], None]") -> None:
        self._world, self._host, self._on_idle = world, host, on_idle
        self._worker_id = f"{host.instance_id}-{slot}-{world.rng.getrandbits(24):06x}"
        self.lease: Lease | None = None
        self._turn = 0
        self._free_since = self._idle_since = self._rescue_at = 0.0
        self._puts_seen = -1
        self._claimed_at = self._resumed_at = self._first_step_at = 0.0
        self._renewals = 0
        self._stopped_with: float | None = None

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        turn = self._turn

        def unless_void() -> None:
            if turn == self._turn and not self._host.is_gone:
                call()

        self._world.clock.after(seconds, unless_void)

    @property
    def _free_workers(self) -> dict[str, float]:
        return self._world.free_since.setdefault(self._host.queue, {})

    # free

    def become_free(self) -> None:
        self.end()
        self._free_since = self._idle_since = self._rescue_at = self._world.clock.seconds
        self._puts_seen = -1
        if not self._host.is_leaving:
            self._free_workers[self._worker_id] = self._free_since
            self._look()

    def end(self) -> None:
        self._turn += 1
        self.lease = None
        self._free_workers.pop(self._worker_id, None)

    def _look(self) -> None:
        now, conditions = self._world.clock.seconds, self._world.conditions
        if now >= self._rescue_at:
            self._rescue_at = now + IDLE_RESCUE
            self._world.rescue()
        lease = self._claim()
        if lease is not None:
            self._begin(lease)
            return
        if self._host.is_busy():
            self._idle_since = now  # a machine terminates only as a whole
        if now - self._idle_since >= conditions.idle_seconds:
            self._on_idle(self)
            return
        self._after(IDLE_LOOK * self._world.rng.uniform(0.9, 1.1), self._look)

    def _claim(self) -> Lease | None:
        if self._puts_seen == self._world.puts:
            return None
        self._puts_seen = self._world.puts
        machine = Machine(instance_type=TYPE, spot=True)
        return self._world.queue.claim(self._worker_id, self._host.queue, machine=machine)

    # at a job

    def _begin(self, lease: Lease) -> None:
        self.end()
        self.lease = lease
        conditions, now = self._world.conditions, self._world.clock.seconds
        self._world.claimed(lease.job_id, self._host.queue, self._free_since)
        self._resumed_at = float(lease.checkpoint.global_step) if lease.checkpoint else 0.0
        trained_before = self._world.trained.get(lease.job_id, 0.0)
        self._world.measured.repeated_seconds += max(0.0, trained_before - self._resumed_at)
        self._claimed_at, self._renewals = now, 0
        self._first_step_at, self._stopped_with = now + conditions.start_seconds, None
        self._world.rows.note_claim(FLEET, self._host.instance_id)
        self._world.trains(lease.job_id, self._first_step_at, self._host.started)
        self._after(conditions.start_seconds + conditions.job_seconds - self._resumed_at, self._complete)
        self._after(conditions.start_seconds + conditions.checkpoint_seconds, self._save_regularly)

    def _trained(self) -> float:
        """Seconds of training behind the job's current state."""
        if self._stopped_with is not None:
            return self._stopped_with
        return self._resumed_at + max(0.0, self._world.clock.seconds - self._first_step_at)

    def renew(self) -> None:
        """Send the last renewal that was due, dated as of then: it would have overwritten all before it.

        While the stored lease has not expired a renewal makes no difference to any reader, and nothing is sent.
        """
        if self.lease is None or (self.lease.expires_at or self._world.clock()) > self._world.clock():
            return
        self.renew_unconditionally()

    def renew_unconditionally(self) -> None:
        """Send it in any case: the holder dies now, which fixes the expiry of its lease."""
        assert self.lease is not None
        seconds = self._world.conditions.renew_seconds
        due = math.floor((self._world.clock.seconds - self._claimed_at) / seconds)
        if due > self._renewals:
            self._renewals = due
            with self._world.clock.set_to(self._claimed_at + due * seconds):
                self.lease = self._world.queue.renew(self.lease)

    def _save_regularly(self) -> None:
        self._save()
        self._after(self._world.conditions.checkpoint_seconds, self._save_regularly)

    def _save(self) -> None:
        assert self.lease is not None
        step = int(self._trained())
        stored = self.lease.checkpoint
        if stored is None or step > stored.global_step:
            pointer = Pointer(attempt=self.lease.attempt, global_step=step, manifest_sha256=f"{step:064x}")
            self.lease = self._world.queue.record_checkpoint(self.lease, pointer, None)

    def _complete(self) -> None:
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
        self._world.rows.note_claim(FLEET, self._host.instance_id)
        self._world.succeeded()
        self.become_free()

    def stop(self) -> None:
        """React to a notice: no further step, a last checkpoint."""
        if self.lease is None:
            self.end()
            return
        self._stopped_with = self._trained()
        self._turn += 1

    def release(self) -> None:
        if self.lease is not None:
            self._note_trained()
            self._save()
            self._world.queue.release(self.lease, "spot")
            self._world.rows.note_claim(FLEET, self._host.instance_id)
            self._world.released(self.lease.job_id)
            self.end()

    def die(self) -> None:
        if self.lease is not None:
            self.renew_unconditionally()
            self._note_trained()
            self._world.died_with(self.lease.job_id)
            self.end()

    def _note_trained(self) -> None:
        assert self.lease is not None
        before = self._world.trained.get(self.lease.job_id, 0.0)
        self._world.trained[self.lease.job_id] = max(before, self._trained())

"""One schedule of the protocol: people, workers and rescuers on one clock, and every stored write judged."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from receipt_dynamo import (
    FleetRows,
    Job,
    JobQueue,
    JobStatus,
    Lease,
    LeaseLost,
    StateConflict,
    StoreError,
    new_job_id,
)
from receipt_dynamo.server_clock import ServerClock
from receipt_layoutlm.fleet.scaler.look import Scaler, look
from tests.receipt_dynamo.protocol_faults import Broken, Fault, Killed, Line, Operation, Witness
from tests.receipt_dynamo.protocol_rules import (
    FINAL,
    TIMING,
    History,
    Place,
    Rules,
    Stored,
    read_stored,
    require,
    view_of,
)
from tests.receipt_dynamo.protocol_store import RawRow
from tests.receipt_dynamo.protocol_worker import EVAL_STEPS, TOTAL_STEPS, Around, Call, Worker, pointer_of
from tests.support.stores import Clock

PRIORITIES = ("critical", "high", "medium", "low")
WORKERS = 3
ACTORS = ("worker", "rescuer", "person", "scaler")
SCALER = "scaler"  # whose containers, scaler-0 and so on, share what their looks kept
SILENT_SECONDS = TIMING.lease_seconds - 2 * TIMING.renew_seconds  # of a lease left: its look is kept
OLD_WORKER = "worker-2"  # whose machine's clock is never ahead, or it would claim jobs before they are due
CLOCK_SECONDS = 3.0  # a corrected clock is off by less
Sign = tuple[int, int]  # attempt and renewals of a lease
CROSSINGS = tuple(
    "time rescue takeover claim holders_renew holders_work holder_stops cancel retry submit scaler".split()
)


@dataclass
class World:
    """The store as it was last seen, the bucket, and everyone who acts."""

    line: Line
    table: str
    queue_name: str
    clock: Clock = field(default_factory=Clock)
    stored: dict[str, Stored] = field(default_factory=dict)
    versions: dict[str, list[RawRow]] = field(default_factory=dict)
    checkpoints: dict[tuple[str, Place], tuple[History, bool]] = field(default_factory=dict)
    damaged: set[tuple[str, Place]] = field(default_factory=set)
    keys: dict[str, str] = field(default_factory=dict)
    claims: dict[tuple[str, int], str] = field(default_factory=dict)  # acknowledged: (job, attempt) -> token
    skews: dict[str, float] = field(default_factory=dict)  # seconds by which the clock of an actor's machine is off
    looks: dict[tuple[str, str], tuple[Sign, datetime]] = field(default_factory=dict)  # first (memory, job) as it was

    def __post_init__(self) -> None:
        witness = Witness(self._wrote, self._cross, self._stale_rows, self._replied)
        self.line.open(self.table, witness, self.clock)
        self.rules = Rules(self.checkpoints)
        self.clocks: dict[str, ServerClock] = {}
        self.queues: dict[str, JobQueue] = {}
        self.queue = self.queue_of("person")
        self.workers = [
            Worker(name, Around(self.queue_of(name), self.queue_name, self.clock, self.checkpoints, self.damaged))
            for name in (f"worker-{number}" for number in range(WORKERS))
        ]

    def queue_of(self, actor: str) -> JobQueue:
        """The actor's own queue: its process with the clock of its machine, which the dates of replies correct."""
        if actor not in self.queues:
            clock = self.clocks[actor] = ServerClock(lambda: self.clock() + timedelta(seconds=self.skew_of(actor)))
            clock.is_told = True
            self.queues[actor] = JobQueue(self.line.client, now=clock, rng=random.Random(0))
        return self.queues[actor]

    def skew_of(self, actor: str) -> float:
        kind, _, number = actor.partition("-")
        skew = self.skews.get(kind, 0.0)
        if kind == SCALER and int(number) % 2:
            return -skew  # of two containers that share what they kept, one is ahead and one behind
        return min(skew, -skew) if actor == OLD_WORKER else skew

    # what passes on the line

    def _replied(self, operation: Operation) -> None:
        """A reply carries the server's date, cut to the second."""
        if operation.actor == OLD_WORKER:
            return  # a version that goes by the clock of its machine
        here = self.clock.time + timedelta(seconds=self.skew_of(operation.actor))
        self.clocks[operation.actor].learn(self.clock.time.replace(microsecond=0), here, here)

    def _wrote(self, operation: Operation, job_ids: set[str]) -> None:
        for job_id in job_ids:
            old = self.stored.get(job_id)
            rows = self.line.store.rows(self.table, f"JOB#{job_id}")
            new = read_stored([row for row in rows if not row["SK"]["S"].startswith("ALERT#")], old)
            self.stored[job_id] = new
            self.versions.setdefault(job_id, []).append(new.raw["JOB"][0])
            self.rules.judge(operation, old, new, self.clock.time)
            if operation.name == "claim" and new != old:
                self._check_order(operation, job_id)

    def _check_order(self, operation: Operation, job_id: str) -> None:
        """An undisturbed claim takes the first of the jobs that were due."""
        taken = rank_of(self.stored[job_id])
        if not operation.is_crossed and operation.actor != OLD_WORKER:
            ahead = [each for each in self.due_ranks(operation.began) if each < taken]
            require(not ahead, "claimed by priority, then age", taken, ahead)

    def due_ranks(self, at: datetime) -> list[tuple[int, str]]:
        at -= timedelta(seconds=CLOCK_SECONDS)  # what the correction may be off by
        return sorted(rank_of(each) for each in self.stored.values() if each.is_due(at))

    def _stale_rows(self, index: str, partition: str, lag: int) -> list[RawRow]:
        """Each job as it was `lag` writes ago, or not yet there."""
        old = [versions[-1 - lag] for versions in self.versions.values() if len(versions) > lag]
        rows = [row for row in old if row.get(f"{index}PK", {}).get("S") == partition]
        return sorted(rows, key=lambda row: str(row[f"{index}SK"]["S"]))

    # calls into the run store

    def perform(self, operation: Operation, run: Callable[[], Any]) -> Any:
        """The result, or the StoreError or Killed that ended it."""
        operation.began = self.clock.time
        self.line.stack.append(operation)
        try:
            return run()
        except (StoreError, Killed) as trouble:
            return trouble
        except Exception as error:  # from within another call botocore would take it for a lost connection
            raise Broken(repr(error)) from error
        finally:
            self.line.stack.remove(operation)

    def jobs(self, *statuses: str) -> list[str]:
        return [job_id for job_id, stored in self.stored.items() if not statuses or stored.status in statuses]

    def holders(self) -> list[Worker]:
        """Workers who believe that they hold a lease."""
        return [worker for worker in self.workers if worker.lease is not None and not worker.is_busy]

    def idle(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.lease is None and not worker.is_busy]

    # people and rescuers

    def submit(self, how: str, priority: str, fault: Fault | None = None) -> None:
        """`how` is plain, goes on (from a checkpoint of another job), or a key."""
        key = how if how.endswith("key") else None
        job_id = new_job_id() if how == "goes on" else None
        checkpoint = pointer_of((0, EVAL_STEPS), False) if job_id else None
        if job_id is not None:
            self.checkpoints[job_id, (0, EVAL_STEPS)] = (), False
        job = self.perform(
            Operation("submit", "person", fault=fault),
            lambda: self.queue.submit(
                name="a-job",
                config={},
                created_by="person",
                queue=self.queue_name,
                priority=priority,
                checkpoint=checkpoint,
                best=checkpoint,
                job_id=job_id,
                unique_key=f"{self.queue_name} {key}" if key else None,
            ),
        )
        if isinstance(job, Job):
            require(job.job_id in self.stored, "an accepted job is stored", job.job_id)
            if key is not None:
                require(self.keys.setdefault(key, job.job_id) == job.job_id, "one key is one job", key)

    def cancel(self, job_id: str, fault: Fault | None = None) -> None:
        operation = Operation("cancel", "person", fault=fault)
        status = self.perform(operation, lambda: self.queue.cancel(job_id))
        stored = self.stored[job_id]
        if isinstance(status, JobStatus):
            require(
                stored.lease["cancel_requested"] or stored.status == "cancelled", "an acknowledged cancel is stored"
            )
        elif isinstance(status, StateConflict) and not operation.is_crossed:
            require(stored.status in ("succeeded", "failed"), "whatever has not ended can be cancelled", stored.status)

    def retry(self, job_id: str, fault: Fault | None = None) -> None:
        before = self.stored[job_id].status
        operation = Operation("retry", "person", fault=fault)
        job = self.perform(operation, lambda: self.queue.retry(job_id))
        if isinstance(job, Job):
            require(operation.is_crossed or before == "failed", "only a failed job is tried again", before)
            require(job.status != "failed", "a job that is tried again has left failed")

    def rescue(self, name: str, fault: Fault | None = None) -> None:
        self._look(name, name, self.queue_of(name).rescue, fault)

    def scale(self, name: str, fault: Fault | None = None) -> None:
        """A look of the scaler in a container of its own, which knows what the looks before it kept in the table."""
        self.queues.pop(name, None)
        queue, clock, client = self.queue_of(name), self.clocks[name], self.line.client
        rows = FleetRows(client, clock)
        scaler = Scaler(self.queue_name, queue, rows, [], 1, instances=list, price=lambda _: None, now=clock)

        def rescued() -> Sequence[Job] | None:
            seen = look(scaler)
            return None if seen.errors else seen.rescued

        self._look(name, SCALER, rescued, fault)

    def _look(self, name: str, memory: str, run: Callable[[], Sequence[Job] | None], fault: Fault | None) -> None:
        """Whoever looks with this memory takes every lease that is dead by it, and remembers the others."""
        dead = {job_id: stored.number for job_id, stored in self.stored.items() if self._is_dead(memory, stored)}
        operation = Operation("rescue", name, fault=fault)
        jobs = self.perform(operation, run)
        if not isinstance(jobs, list) or operation.is_crossed:  # it may not have seen every lease
            self.looks = {key: seen for key, seen in self.looks.items() if key[0] != memory}
            return
        for job_id, stored in self.stored.items():
            sign = stored.number, int(stored.lease["renewals"])
            if memory == SCALER and not self._ends_within(stored, SILENT_SECONDS):
                self.looks.pop((memory, job_id), None)
            elif self.looks.get((memory, job_id), (None,))[0] != sign:
                self.looks[memory, job_id] = sign, self.clock.time
        left = [job_id for job_id, number in dead.items() if self.stored[job_id].token and number]
        require(not left, "a rescue takes every expired lease", left)

    def _ends_within(self, stored: Stored, seconds: float) -> bool:
        """By everybody's clock."""
        ends = stored.lease.get("expires_at")
        latest = self.clock.time + timedelta(seconds=seconds - CLOCK_SECONDS)
        return ends is not None and datetime.fromisoformat(ends) < latest

    def late_rescue(self, name: str, fault: Fault | None = None, seconds: float = 125.0) -> None:
        """A look, and another one when a lease that stands still has run out."""
        self.rescue(name)
        self.clock.pass_seconds(seconds)
        self.rescue(name, fault)

    def late_scale(self, numbers: tuple[int, int], fault: Fault | None = None) -> None:
        """Looks of two containers, the second one when a lease that stands still has run out."""
        self.scale(f"{SCALER}-{numbers[0]}")
        self.clock.pass_seconds(130)
        self.scale(f"{SCALER}-{numbers[1]}", fault)

    def _is_dead(self, memory: str, stored: Stored) -> bool:
        """Expired, and seen to stand still with this memory."""
        job_id = stored.lease["PK"].partition("#")[2]
        sign, since = self.looks.get((memory, job_id), (None, self.clock.time))
        slack = CLOCK_SECONDS * (2 if memory == SCALER else 1)  # of two clocks
        is_still = sign == (stored.number, int(stored.lease["renewals"]))
        lasts = timedelta(seconds=TIMING.lease_seconds + slack)
        return self._ends_within(stored, -TIMING.rescue_grace_seconds) and is_still and since + lasts < self.clock.time

    def damage(self, job_id: str) -> None:
        """The files of the job's resume point rot in the bucket."""
        place = self.stored[job_id].place()
        if place is not None:
            self.damaged.add((job_id, place))

    # workers

    def end_worker(self, worker: Worker, how: str) -> None:
        """Killed, asked to stop, or its trainer fails; the last two show at its next call."""
        if how == "kill":
            worker.die()
        elif how == "stop":
            worker.stop_asked = True
        else:
            worker.crash = how

    def work(self, worker: Worker, calls: int, fault: Fault | None = None) -> None:
        """Go on by so many calls, the last one with the fault; an idle worker begins with a claim."""
        for number in range(1, calls + 1):
            if worker.is_busy:
                return
            if worker.life is None:
                worker.life = worker.begin()
                worker.call = next(worker.life)
            self._next_call(worker, fault if number == calls else None)
            if worker.life is None:
                return

    def _next_call(self, worker: Worker, fault: Fault | None) -> None:
        call, life = worker.call, worker.life
        assert call is not None and life is not None
        operation = Operation(call.name, worker.name, worker.lease, fault, call.given, call.needs)
        worker.is_busy = True
        reply = self.perform(operation, call.run)
        worker.is_busy = False
        self._check_reply(worker, operation, call, reply)
        if isinstance(reply, Killed | LeaseLost) or (isinstance(reply, StoreError) and worker.lease is None):
            worker.die()
        elif isinstance(reply, StoreError):  # as run_job does: the failure is reported once
            failing = call.name == "fail" and call.given == "storage"
            worker.die() if failing else self._begin_failing(worker)
        else:
            try:
                worker.call = life.send(reply)
            except StopIteration:
                worker.die()

    def _begin_failing(self, worker: Worker) -> None:
        worker.life = worker.fail("storage")
        worker.call = next(worker.life)

    def _check_reply(self, worker: Worker, operation: Operation, call: Call, reply: Any) -> None:
        lease = worker.lease
        if operation.name == "claim":
            self._check_claim(operation, reply)
        elif lease is not None:
            stored = self.stored[lease.job_id]
            ended_by = stored.attempts[lease.attempt].get("ended_by")
            require(not isinstance(reply, StateConflict), "a holder is never told of another state", call.name, reply)
            if isinstance(reply, LeaseLost):
                require((stored.number, stored.token) != (lease.attempt, lease.lease_token), "a held lease is not lost")
                require(not call.ends or ended_by != lease.lease_token, "one's own end is not taken for another's")
            elif call.ends and isinstance(reply, JobStatus):
                require(ended_by == lease.lease_token, "an acknowledged end is stored", call.name)
                require(
                    operation.is_crossed or stored.status == reply, "the end is told as it is", reply, stored.status
                )
            elif call.name == "checkpoint" and isinstance(reply, Lease):
                require(operation.is_crossed or stored.place() == call.given, "an acknowledged pointer is stored")

    def _check_claim(self, operation: Operation, reply: Lease | BaseException | None) -> None:
        if isinstance(reply, Lease):
            sign = (reply.job_id, reply.attempt)
            token = str(reply.lease_token)
            require(self.claims.setdefault(sign, token) == token, "each attempt is given once", sign)
            stored = self.stored[reply.job_id]
            require(operation.is_crossed or stored.token == token, "an acknowledged claim is held", stored.token)
        elif reply is None and not operation.is_crossed and operation.actor != OLD_WORKER:
            require(not self.due_ranks(operation.began), "a due job is found", self.due_ranks(operation.began))

    def renew(self, worker: Worker, fault: Fault | None = None) -> None:
        """The heartbeat's thread, which may beat while another call of the worker is under way."""
        lease = worker.lease
        if lease is None:
            return
        operation = Operation("renew", worker.name, lease, fault)
        queue = self.queue_of(worker.name)
        reply = self.perform(operation, lambda: queue.renew(lease, f"step of {worker.name}"))
        if isinstance(reply, Lease):
            worker.cancel_seen = worker.cancel_seen or reply.cancel_requested
        elif isinstance(reply, LeaseLost):
            stored = self.stored[lease.job_id]
            require((stored.number, stored.token) != (lease.attempt, lease.lease_token), "a held lease is not lost")
        elif isinstance(reply, Killed) and not worker.is_busy:
            worker.die()

    # what may happen while a call is under way

    def _cross(self, operation: Operation, what: str) -> None:
        holders, idle = self.holders(), self.idle()
        if what == "time":
            self.clock.pass_seconds(130)
        if what in ("rescue", "takeover"):
            self.late_rescue("rescuer-2", seconds=130)
        if what == "scaler":
            self.late_scale((2, 3))
        if what in ("claim", "takeover") and idle:
            self.work(idle[0], 1 if what == "claim" else 3)
        if what == "holders_renew":
            for worker in self.workers:
                self.renew(worker)
        if what == "holders_work":
            for worker in holders:
                self.work(worker, 6)  # from a claim to its first checkpoint
        if what == "holder_stops" and holders:
            holders[0].stop_asked = True
            self.work(holders[0], 3)
        if what in ("cancel", "retry") and self.stored:
            first = next(iter(self.stored))
            (self.cancel if what == "cancel" else self.retry)(operation.lease.job_id if operation.lease else first)
        if what == "submit" and self.keys:
            self.submit(next(iter(self.keys)), "medium")

    # the end

    def settle(self) -> None:
        """Faults stop, time goes on, healthy workers and a rescuer come by: every job ends."""
        for worker in self.workers:
            worker.die()
        for _ in range(8):
            if all(stored.status in FINAL for stored in self.stored.values()):
                break
            self.late_rescue("rescuer-3", seconds=2000)
            self._work_until_idle(self.workers[0])
        for job_id, stored in self.stored.items():
            require(stored.status in FINAL, "every accepted job reaches a final state", job_id, stored.status)
            self._check_end(job_id, stored)

    def _work_until_idle(self, worker: Worker) -> None:
        for _ in range(60):
            self.work(worker, 1)
            self.clock.pass_seconds(1)
            if worker.life is None and not self.due_ranks(self.clock.time):
                return
        require(False, "workers become idle")

    def _check_end(self, job_id: str, stored: Stored) -> None:
        shown = [
            (each.attempt, each.global_step)
            for each in self.perform(Operation("read", "person"), lambda: self.queue.client.list_job_metrics(job_id))
        ]
        require(shown == view_of(stored), "a person is shown the same", shown)
        if stored.status == "succeeded":
            first = stored.job.get("started_at")
            require(first == stored.attempts[1]["started_at"], "the first start is kept", first)
            steps = [step for _, step in shown]
            whole = list(range(EVAL_STEPS, TOTAL_STEPS + 1, EVAL_STEPS))
            begins = 1 if (job_id, (0, EVAL_STEPS)) in self.checkpoints else 0  # its parent has the first
            require(steps in (whole, whole[begins:]), "no evaluation is missing or there twice", steps)


def rank_of(stored: Stored) -> tuple[int, str]:
    """Priority, then age."""
    return PRIORITIES.index(stored.job["priority"]), str(stored.job["created_at"])

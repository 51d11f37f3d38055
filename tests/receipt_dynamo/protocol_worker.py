"""The model's worker: what a real one asks of the run store, in its order, as a generator of calls.

So it can be stopped, killed and crossed by others between any two calls, and inside each.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from receipt_dynamo import JobError, JobLog, JobMetric, JobQueue, Lease, Pointer
from tests.receipt_dynamo.protocol_rules import History, Place
from tests.support.stores import Clock

TOTAL_STEPS, EVAL_STEPS = 4, 2
CHECKPOINT_STEPS = (2, 3, 4)  # after each evaluation, and one between


@dataclass(frozen=True)
class Call:
    """What a worker does next."""

    name: str
    run: Callable[[], Any]
    given: object = None
    needs: tuple[int, ...] = ()
    ends: bool = False


Life = Generator[Call, Any, None]
EventKind = tuple[str, int]  # "evaluation" or "checkpoint", and its seq


@dataclass
class Trainer:
    """Deterministic: a step, an evaluation when due, a checkpoint after it. Where it is lies in its checkpoints."""

    step: int
    history: History
    is_due: bool
    seq: int = 0
    rows: list[int] = field(default_factory=lambda: [0])  # seq of the events that become rows

    @property
    def is_finished(self) -> bool:
        return self.step == TOTAL_STEPS and not self.is_due

    def run_on(self, attempt: int) -> list[EventKind]:
        """The events up to the next checkpoint or evaluation."""
        kinds: list[str] = []
        if self.is_due:
            self.history, self.is_due = (*self.history, (attempt, self.step)), False
            kinds = ["evaluation", "checkpoint"]
            self.rows.append(self.seq + 1)
        else:
            self.step += 1
            self.is_due = self.step % EVAL_STEPS == 0
            kinds = [] if self.is_due or self.step not in CHECKPOINT_STEPS else ["checkpoint"]
        return [(kind, self._next_seq()) for kind in kinds]

    def stop(self) -> list[EventKind]:
        return [("checkpoint", self._next_seq())]

    def _next_seq(self) -> int:
        self.seq += 1
        return self.seq


# What the worker of receipt_layoutlm does and the run store cannot: kept apart so that it can be broken on purpose.


def in_recording_order(events: list[EventKind]) -> list[EventKind]:
    """As the recorder reads them: in the order of seq."""
    return events


def resume_point(lease: Lease, _checkpoints: dict[tuple[str, Place], tuple[History, bool]]) -> Place | None:
    """As prepare_run_dir does it: what the lease names, never a listing."""
    return place_of(lease.checkpoint)


def place_of(pointer: Pointer | None) -> Place | None:
    return None if pointer is None else (pointer.attempt, pointer.global_step)


def pointer_of(place: Place, is_due: bool) -> Pointer:
    """Two attempts may write the same bytes, so the manifest does not name the attempt."""
    return Pointer(attempt=place[0], global_step=place[1], manifest_sha256=f"{place[1]:063d}{is_due:d}")


@dataclass
class Around:
    """What all workers of a schedule share. `checkpoints` is the bucket: what the files of each checkpoint hold."""

    queue: JobQueue
    queue_name: str
    clock: Clock
    checkpoints: dict[tuple[str, Place], tuple[History, bool]]
    damaged: set[tuple[str, Place]]


@dataclass
class Worker:
    """One process after another under one name."""

    name: str
    around: Around
    life: Life | None = None
    call: Call | None = None
    lease: Lease | None = None
    is_busy: bool = False  # a call of its is under way: only its heartbeat may run
    stop_asked: bool = False
    cancel_seen: bool = False
    crash: str | None = None
    last_time: datetime | None = None

    def die(self) -> None:
        self.life = self.call = self.lease = self.crash = self.last_time = None
        self.stop_asked = self.cancel_seen = False

    def begin(self) -> Life:
        queue, client = self.around.queue, self.around.queue.client
        lease = yield Call("claim", lambda: queue.claim(self.name, self.around.queue_name))
        if lease is None:
            return
        self.lease = lease
        job_id = lease.job_id
        while lease.checkpoint and (job_id, place_of(lease.checkpoint)) in self.around.damaged:
            self.lease = lease = yield Call("fall_back", lambda lease=lease: queue.fall_back(lease))
        if lease.attempt > 1:
            self.last_time = yield Call("last event", lambda: client.last_event_at(job_id))
        place = resume_point(lease, {each: seen for each, seen in self.around.checkpoints.items() if each[0] == job_id})
        history, is_due = self.around.checkpoints[job_id, place] if place else ((), False)
        trainer = Trainer(place[1] if place else 0, history, is_due)
        yield self._log("run_config", seq=0)
        while not trainer.is_finished or self.crash:
            if self.crash is not None:
                yield from self.fail(self.crash)
                return
            is_last = self.stop_asked or self.cancel_seen
            events = trainer.stop() if is_last else trainer.run_on(lease.attempt)
            yield from self._record(trainer, events)
            if not events:
                yield Call("train", lambda: None)  # it may be stopped here, with an evaluation due
            if is_last:
                yield self._cancelled() if self.cancel_seen else self._released()
                return
        yield self._completed(trainer)

    def _record(self, trainer: Trainer, events: list[EventKind]) -> Life:
        for kind, seq in in_recording_order(events):
            if kind == "evaluation":
                stored = yield self._evaluation(trainer.step, seq)
                self.last_time = stored.timestamp
            else:
                self.lease = yield self._checkpoint(trainer, seq)

    def _evaluation(self, step: int, seq: int) -> Call:
        lease = self._held()
        metric = JobMetric(
            job_id=lease.job_id,
            timestamp=self._next_time(),
            metric_name="eval_f1",
            metric_value=0.5,
            global_step=step,
            attempt=lease.attempt,
            seq=seq,
        )
        return Call("evaluation", lambda: self.around.queue.client.add_job_metric(lease, metric))

    def _log(self, event: str, seq: int) -> Call:
        row = self._log_row(event, seq)
        lease = self._held()

        def add() -> JobLog:
            stored = self.around.queue.client.add_job_log(lease, row)
            self.last_time = stored.timestamp
            return stored

        return Call("log", add)

    def _log_row(self, event: str, seq: int) -> JobLog:
        lease, time = self._held(), self._next_time()
        return JobLog(
            job_id=lease.job_id, timestamp=time, level="info", event=event, message="", attempt=lease.attempt, seq=seq
        )

    def _next_time(self) -> datetime:
        now, last = self.around.clock(), self.last_time
        return now if last is None else max(now, last + timedelta(microseconds=1))

    def _checkpoint(self, trainer: Trainer, seq: int) -> Call:
        lease = self._held()
        place = lease.attempt, trainer.step
        self.around.checkpoints[lease.job_id, place] = trainer.history, trainer.is_due  # its manifest is stored
        pointer = pointer_of(place, trainer.is_due)
        best = pointer if trainer.step % EVAL_STEPS == 0 and not trainer.is_due else None
        needs = tuple(number for number in trainer.rows if number < seq)
        return Call("checkpoint", lambda: self.around.queue.record_checkpoint(lease, pointer, best), place, needs)

    def _completed(self, trainer: Trainer) -> Call:
        lease, summary = self._held(), self._log_row("run_summary", trainer.seq + 1)
        results = {"attempt": lease.attempt}
        return Call("complete", lambda: self.around.queue.complete(lease, results=results, summary=summary), ends=True)

    def _released(self) -> Call:
        lease = self._held()
        return Call("release", lambda: self.around.queue.release(lease, "asked to stop"), ends=True)

    def _cancelled(self) -> Call:
        lease = self._held()
        return Call("acknowledge", lambda: self.around.queue.acknowledge_cancel(lease), ends=True)

    def fail(self, cause: str) -> Life:
        lease, error = self._held(), JobError(cause=cause, message="")
        yield Call("fail", lambda: self.around.queue.fail(lease, error), given=cause, ends=True)

    def _held(self) -> Lease:
        assert self.lease is not None
        return self.lease

"""JobQueue: the sole writer of Job.status. docs/protocol.md draws the states and lists the invariants.

The attempt number with the lease token is the fence of every worker-side write. Clocks decide when a job may be taken
over; the token decides whose writes are accepted.
"""

import itertools
import logging
import random
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from receipt_dynamo import items
from receipt_dynamo.arguments import checked
from receipt_dynamo.client import DynamoClient, checked_client, fence
from receipt_dynamo.entities import (
    AttemptEnd,
    Budgets,
    Job,
    JobError,
    JobLog,
    JobStatus,
    JsonObject,
    Lease,
    Machine,
    Pointer,
    Priority,
    Promotion,
    Storage,
    Timing,
    new_job_id,
    ondemand_queue,
    parse_job_id,
    spot_queue,
)
from receipt_dynamo.errors import (
    InvalidInput,
    LeaseLost,
    NotFound,
    RowRefused,
    StateConflict,
    StoreError,
    UnreadableRow,
)
from receipt_dynamo.items import JobItem, LeaseItem, lease_key
from receipt_dynamo.lease_watch import LeaseWatch
from receipt_dynamo.limits import check_lengths, cut_error
from receipt_dynamo.model_items import promotion_from
from receipt_dynamo.retries import Pauses
from receipt_dynamo.transitions import (
    WANTS_CANCEL,
    Move,
    cancel_writes,
    claim_writes,
    delete_decision_writes,
    end_writes,
    fall_back_writes,
    interruption,
    is_behind,
    later_keys,
    move_writes,
    pin_writes,
    pointer_actions,
    pointer_as_read,
    progressed,
    promotion_writes,
    prune_decision_writes,
    rescued_attempt,
    retry_writes,
    return_writes,
    take_away_writes,
)
from receipt_dynamo.unreadable import read
from receipt_dynamo.writes import DEFAULT_PATIENCE_SECONDS, ConditionFailed, Write, delete, put, update

log = logging.getLogger(__name__)

WORKER_ID_BYTES = 100
CLAIM_PAGE = 25  # entries read at once: a claim takes one of the first, and 1,000 jobs are 128 read units
PROGRESS_BYTES = 200  # with the longest worker id, a full lease stays under the 1,024 bytes of one write unit

OF_ONE_ROW = (UnreadableRow, RowRefused)
"""Errors of one row, in which a look or a claim goes on with the others."""

DEFAULT_TIMING = Timing()


class JobQueue:
    """Claims jobs of one table and changes their state.

    `now` is the server's time unless it is given, as a test does. Then leases are watched by that clock too, otherwise
    by this machine's monotonic one.
    """

    def __init__(
        self,
        client: DynamoClient,
        now: Callable[[], datetime] | None = None,
        rng: random.Random | None = None,
        timing: Timing = DEFAULT_TIMING,
    ) -> None:
        self.client = checked_client(client)
        self.timing = timing
        self.watch = LeaseWatch() if now is None else LeaseWatch(lambda: now().timestamp())
        self.now = now or client.now
        self._rng = rng or random.Random()

    def __repr__(self) -> str:
        return f"JobQueue({self.client!r})"

    # submit

    @checked
    def submit(
        self,
        *,
        name: str | None,
        config: JsonObject,
        created_by: str,
        queue: str = "default",
        priority: str = "medium",
        unique_key: str | None = None,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        storage: Storage | None = None,
        budgets: Budgets | None = None,
        job_id: str | None = None,
        checkpoint: Pointer | None = None,
        best: Pointer | None = None,
        not_before: datetime | None = None,
        max_cost: float | None = None,
        notify: str | None = None,
    ) -> Job:
        """Create a pending job and its lease in one transaction.

        No worker claims it before `not_before`. `max_cost` (US dollars) is kept by workers, `notify` is told of alerts.

        A unique key determines the id, so the second submit of a key returns the first job. A job without a name
        is named after its date and the beginning of its id. One with a checkpoint (of attempt 0)
        resumes from it; its files lie below an id that the caller took from `new_job_id`.
        """
        if name == "":
            raise InvalidInput("a job's name cannot be empty: give one, or none to have it generated")
        texts = {"name": name, "queue": queue, "created_by": created_by, "unique_key": unique_key}
        check_lengths(**texts, description=description, tags=dict(tags or {}), config=config)
        if priority not in list(Priority):
            raise InvalidInput(f"unknown priority {priority!r}: use one of {', '.join(Priority)}")
        job_id = new_job_id(unique_key) if job_id is None else parse_job_id(job_id)
        now = self.now()
        job = Job(
            job_id=job_id,
            name=name or f"job-{now:%Y%m%d-%H%M%S}-{job_id[:8]}",
            status=JobStatus.PENDING,
            created_at=now,
            created_by=created_by,
            job_config=config,
            description=description,
            priority=Priority(priority),
            queue=queue,
            storage=storage,
            tags=dict(tags or {}),
            budgets=budgets or Budgets(),
            not_before=not_before,
            max_cost=max_cost,
            notify=notify,
        )
        lease = Lease(job_id=job.job_id, attempt=0, checkpoint=checkpoint, best=best)
        # attribute_not_exists(PK) on both: nothing of this id exists yet
        try:
            self.client.writer.execute(
                put(items.job_item(job), JobItem.pk.does_not_exist()),
                put(items.lease_item(lease), LeaseItem.pk.does_not_exist()),
            )
        except ConditionFailed:
            return self.client.get_job(job.job_id, consistent=True)  # the same key, or our own lost reply
        return job

    # claim

    @checked
    def claim(
        self,
        worker_id: str,
        queue: str = "default",
        *,
        accepts: Callable[[Job], bool] = lambda _job: True,
        machine: Machine | None = None,
    ) -> Lease | None:
        """Claim the first due job by priority, then age; None when no job is due.

        A job that `accepts` refuses, such as one of a newer config version, is left to other workers.
        """
        due: Iterator[Job] = filter(accepts, self.due_jobs(queue))
        is_crowded = False
        while (job := next(due, None)) is not None:
            seen = self.readable_lease(job.job_id)
            if seen is None:
                continue
            try:
                lease = self._try_claim(seen, job.attempt, worker_id, machine or Machine())
            except OF_ONE_ROW as error:
                self._pass_over(job.job_id, error)
                continue
            if lease is not None:
                return lease
            if not is_crowded:
                due, is_crowded = self._scattered(due), True
        return None

    def _scattered(self, due: Iterator[Job]) -> Iterator[Job]:
        """The jobs of each priority in random order: other workers try the same ones from the front."""
        for _, jobs in itertools.groupby(due, key=lambda job: job.priority):
            while some := list(itertools.islice(jobs, CLAIM_PAGE - 1)):
                self._rng.shuffle(some)
                yield from some

    @checked
    def due_jobs(self, queue: str = "default", *, page: int = CLAIM_PAGE) -> Iterator[Job]:
        """Claimable jobs in claim order, read `page` entries at a time; those in backoff are hardly read."""
        return self.client.iter_due(queue, self.now, page=page)

    @checked
    def claim_job(self, job_id: str, worker_id: str, *, machine: Machine | None = None) -> Lease | None:
        """Claim one job; None when it is held, ended or in backoff."""
        job = self.client.get_job(job_id, consistent=True)
        if not job.status.is_claimable:
            return None
        seen = self.readable_lease(job.job_id)
        return None if seen is None else self._try_claim(seen, job.attempt, worker_id, machine or Machine())

    def _try_claim(self, seen: Lease, attempt: int, worker_id: str, machine: Machine) -> Lease | None:
        if len(worker_id.encode()) > WORKER_ID_BYTES:
            raise InvalidInput(f"worker id {worker_id!r} is longer than {WORKER_ID_BYTES} bytes")
        if seen.attempt != attempt or seen.lease_token is not None or seen.cancel_requested:
            return None  # the index was stale
        now, token = self.now(), str(uuid.uuid4())
        lease = seen.model_copy(
            update={
                "attempt": attempt + 1,
                "lease_token": token,
                "worker_id": worker_id,
                "expires_at": now + timedelta(seconds=self.timing.lease_seconds),
                "progress": "",
            }
        )
        try:
            self.client.writer.execute(*claim_writes(seen, lease, machine, now))
        except ConditionFailed as lost:
            stored = lost.losers[1]  # our token there: the claim passed and its reply was lost
            if stored is None or read(items.lease_from, stored).lease_token != token:
                return None
        self.watch.note(lease)
        return lease

    # while held

    @checked
    def renew(self, lease: Lease, progress: str = "") -> Lease:
        """Extend the lease: one write of one unit. The reply carries cancel_requested. Raises LeaseLost."""
        shortened = progress.encode()[:PROGRESS_BYTES].decode(errors="ignore")
        actions = [
            LeaseItem.expires_at.set(self.now() + timedelta(seconds=self.timing.lease_seconds)),
            LeaseItem.renewals.set(LeaseItem.renewals + 1),
            LeaseItem.progress.set(shortened),
        ]
        renewed = self._update_lease(lease, actions, fence(lease))
        self.watch.note(renewed)
        return renewed

    @checked
    def record_checkpoint(self, lease: Lease, pointer: Pointer, best: Pointer | None) -> Lease:
        """Move the resume point forward, after the checkpoint's manifest is stored. Raises LeaseLost.

        Forward is a later step, or the same step by a later attempt: a stop right after a resume, or an evaluation
        that was still due. Any other pointer than the stored one raises StateConflict.
        """
        try:
            return self._update_lease(lease, pointer_actions(lease, pointer, best), fence(lease) & is_behind(pointer))
        except StateConflict:
            stored = self.client.get_lease(lease.job_id)
            if stored.checkpoint != pointer:
                raise
            return stored  # our own write, whose reply was lost

    @checked
    def fall_back(self, lease: Lease) -> Lease:
        """Replace a damaged resume point by the previous one, or by the beginning. Raises LeaseLost.

        The attempt's resume_step follows, which hides later evaluations. To be called before training starts.
        """
        try:
            self.client.writer.execute(*fall_back_writes(lease, fence(lease)), patience_seconds=self._patience(lease))
        except ConditionFailed:
            stored = self.client.get_lease(lease.job_id)
            if (stored.attempt, stored.lease_token) != (lease.attempt, lease.lease_token):
                raise LeaseLost(f"attempt {lease.attempt} of job {lease.job_id} lost its lease") from None
            if stored.checkpoint != lease.previous:
                raise StateConflict(f"job {lease.job_id}: another checkpoint is stored") from None
            return stored  # our own write, whose reply was lost
        pointers = {"checkpoint": lease.previous, "best": lease.previous_best}
        return lease.model_copy(update={**pointers, "previous": None, "previous_best": None})

    @checked
    def pin(self, lease: Lease, seen: JsonObject, config: JsonObject) -> Job:
        """Replace the config by one with values that only the worker can resolve, such as a snapshot of the table.

        `seen` is the config as it was read; a config that has changed since is kept. Returns the stored job.
        Raises LeaseLost.
        """
        try:
            self.client.writer.execute(
                *pin_writes(lease, seen, config, fence(lease)), patience_seconds=self._patience(lease)
            )
        except ConditionFailed as lost:
            if lost.failed[1]:
                raise LeaseLost(f"attempt {lease.attempt} of job {lease.job_id} lost its lease") from None
        return self.client.get_job(lease.job_id, consistent=True)

    def _update_lease(self, lease: Lease, actions: Sequence[Action], condition: Condition) -> Lease:
        try:
            raw = self.client.writer.execute(
                update(lease_key(lease.job_id), actions, condition), patience_seconds=self._patience(lease)
            )
        except ConditionFailed as lost:
            stored = read(items.lease_from, lost.losers[0]) if lost.losers[0] else None
            if stored is None or (stored.attempt, stored.lease_token) != (lease.attempt, lease.lease_token):
                raise LeaseLost(f"attempt {lease.attempt} of job {lease.job_id} lost its lease") from None
            raise StateConflict(f"job {lease.job_id}: the stored checkpoint is not behind the given one") from None
        assert raw is not None
        return read(items.lease_from, raw)

    def _patience(self, lease: Lease) -> float:
        # A holder may pass the lease as it was claimed; the fence, not the clock, refuses a late write.
        left = (lease.expires_at - self.now()).total_seconds() if lease.expires_at else 0.0
        return max(DEFAULT_PATIENCE_SECONDS, left)

    # ends by the holder; each returns the resulting status

    @checked
    def complete(
        self, lease: Lease, *, results: JsonObject, summary: JobLog, end: AttemptEnd | None = None
    ) -> JobStatus:
        """succeeded, with run_summary in the same transaction; or cancelled, if that was requested.

        Raises LeaseLost.
        """
        job = Move(JobStatus.SUCCEEDED, [JobItem.results.set(results)])
        return self._end(lease, job, outcome="succeeded", end=end, summary=summary)

    @checked
    def fail(
        self, lease: Lease, error: JobError, *, summary: JobLog | None = None, end: AttemptEnd | None = None
    ) -> JobStatus:
        """pending after a backoff while the budgets last, else failed; cancelled if that was requested."""
        error = cut_error(error)
        job = self.client.get_job(lease.job_id, consistent=True)
        held = self.client.get_lease(lease.job_id)
        budgets = job.budgets.after_error(error.cause, progressed=progressed(held))
        actions: list[Action] = [
            JobItem.error.set(error.model_dump(mode="json")),
            JobItem.budgets.set(budgets.model_dump(mode="json")),
        ]
        if error.is_retryable and budgets.exhausted_by is None:
            due = self.now() + self.timing.backoff(budgets.errors_in_a_row, self._rng)
            moved = Move(JobStatus.PENDING, [*actions, JobItem.not_before.set(due), *later_keys(job, due)])
        else:
            moved = Move(JobStatus.FAILED, actions)
        return self._end(lease, moved, outcome=f"failed: {error.cause}", end=end, summary=summary)

    @checked
    def release(self, lease: Lease, reason: str, *, end: AttemptEnd | None = None) -> JobStatus:
        """interrupted, claimable at once (spot notice, SIGTERM); or cancelled, if that was requested."""
        job = self.client.get_job(lease.job_id, consistent=True)
        moved = interruption(job, self.client.get_lease(lease.job_id), self.timing, self.now())
        return self._end(lease, moved, outcome=f"interrupted: {reason}", end=end)

    @checked
    def acknowledge_cancel(self, lease: Lease, *, end: AttemptEnd | None = None) -> JobStatus:
        """cancelled, after the holder saw cancel_requested and stopped."""
        return self._end_as_cancelled(lease, end)

    def _end(
        self,
        lease: Lease,
        moved: Move,
        *,
        outcome: str,
        end: AttemptEnd | None,
        summary: JobLog | None = None,
    ) -> JobStatus:
        writes = end_writes(lease, moved, outcome, end, fence(lease) & ~WANTS_CANCEL, self.now())
        if summary is not None:
            writes.append(put(items.log_item(summary), items.JobLogItem.pk.does_not_exist()))
        try:
            self.client.writer.execute(*writes, patience_seconds=self._patience(lease))
        except ConditionFailed as lost:
            if lost.failed == (False, False, False, True) and summary is not None:  # its microsecond is taken
                later = summary.model_copy(update={"timestamp": summary.timestamp + timedelta(microseconds=1)})
                return self._end(lease, moved, outcome=outcome, end=end, summary=later)
            return self._after_lost_end(lease, lost, end)
        return moved.status

    def _after_lost_end(self, lease: Lease, lost: ConditionFailed, end: AttemptEnd | None) -> JobStatus:
        """The job was cancelled, ended by this holder with a lost reply, or taken over."""
        stored = read(items.lease_from, lost.losers[1]) if lost.losers[1] else None
        if stored is not None and stored.lease_token == lease.lease_token and stored.cancel_requested:
            return self._end_as_cancelled(lease, end)
        return self._status_if_ended_by(lease)

    def _end_as_cancelled(self, lease: Lease, end: AttemptEnd | None) -> JobStatus:
        writes = end_writes(lease, Move(JobStatus.CANCELLED, []), "cancelled", end, fence(lease), self.now())
        try:
            self.client.writer.execute(*writes, patience_seconds=self._patience(lease))
        except ConditionFailed:
            return self._status_if_ended_by(lease)
        return JobStatus.CANCELLED

    def _status_if_ended_by(self, lease: Lease) -> JobStatus:
        attempt = self.client.get_attempt(lease.job_id, lease.attempt)
        if attempt.ended_by != lease.lease_token:
            raise LeaseLost(f"attempt {lease.attempt} of job {lease.job_id} was ended by another worker")
        return self.client.get_job(lease.job_id, consistent=True).status

    # for a person, a scaler or an idle worker

    @checked
    def cancel(self, job_id: str) -> JobStatus:
        """Cancel at once when the job is not held; otherwise ask its worker to stop and return running."""
        job_id, pauses = parse_job_id(job_id), None
        while True:
            job, lease = self.client.get_job(job_id, consistent=True), self.client.get_lease(job_id)
            if job.status is JobStatus.CANCELLED:
                return job.status
            if job.status.is_final:
                raise StateConflict(f"job {job_id} is {job.status} and cannot be cancelled")
            try:
                self.client.writer.execute(*cancel_writes(job, lease, self.now()))
            except ConditionFailed:  # its state changed between read and write
                pauses = self._pause_or_refuse(pauses, job, lease)
                continue
            return JobStatus.RUNNING if job.status is JobStatus.RUNNING else JobStatus.CANCELLED

    def _pause_or_refuse(self, pauses: Pauses | None, job: Job, lease: Lease) -> Pauses:
        """Before job and lease are read again. Raises StateConflict once they have not agreed for too long.

        None at the first refusal, from which the time counts: the write may have waited long for its own reply.
        """
        pauses = pauses or self.client.writer.pauses()
        if not pauses.pause():
            held = "held" if lease.lease_token is not None else "not held"
            raise StateConflict(
                f"job {job.job_id} is {job.status}, but its lease is {held} (attempt {job.attempt} of the job, "
                f"{lease.attempt} of the lease): another program changed its rows, or they change too fast; try again"
            )
        return pauses

    @checked
    def retry(self, job_id: str, *, max_cost: float | None = None) -> Job:
        """Requeue a failed job with unused budgets; it resumes from its checkpoint. StateConflict for any other.

        `max_cost`, where given, replaces its limit.
        """
        job_id = parse_job_id(job_id)
        job, lease = self.client.get_job(job_id, consistent=True), self.client.get_lease(job_id)
        if lease.deleting_at is not None:
            raise StateConflict(f"job {job_id} is being deleted: `layoutlm-cli job delete {job_id[:8]}` finishes that")
        if job.status is not JobStatus.FAILED:
            raise StateConflict(f"job {job_id} is {job.status}: only a failed job can be retried")
        try:
            self.client.writer.execute(*retry_writes(job, lease, self.now(), max_cost))
        except ConditionFailed:
            stored = self.client.get_job(job_id, consistent=True)
            if stored.status is JobStatus.FAILED:
                raise StateConflict(f"job {job_id} cannot be retried: it was cancelled, or is being deleted") from None
            return stored  # our own lost reply, or another retry
        return self.client.get_job(job_id, consistent=True)

    @checked
    def move_to_ondemand(self, job: Job) -> Job | None:
        """Move a waiting job, as it was read, to the on-demand queue; None when it was claimed or changed since."""
        return self._requeue(job, ondemand_queue(job.queue), move_writes(job, self.now()))

    @checked
    def return_to_spot(self, job: Job) -> Job | None:
        """Move a waiting job, as it was read, back from the on-demand queue; None as by move_to_ondemand."""
        return self._requeue(job, spot_queue(job.queue), return_writes(job))

    def _requeue(self, job: Job, queue: str, writes: list[Write]) -> Job | None:
        if not job.status.is_claimable:
            raise StateConflict(f"job {job.job_id} is {job.status}: only a job that waits can be moved")
        try:
            self.client.writer.execute(*writes)
        except ConditionFailed:
            stored = self.client.get_job(job.job_id, consistent=True)
            is_moved = stored.status.is_claimable and stored.queue == queue
            return stored if is_moved else None  # our own write, whose reply was lost
        return self.client.get_job(job.job_id, consistent=True)

    def held(self) -> list[tuple[Job, Lease]]:
        """Running jobs with their held leases; jobs released meanwhile are left out."""
        running = self.client.list_jobs_by_status(JobStatus.RUNNING)
        leases = [(job, self.readable_lease(job.job_id)) for job in running]
        return [(job, lease) for job, lease in leases if lease is not None and lease.lease_token is not None]

    def overdue(self, held: Sequence[tuple[Job, Lease]] | None = None) -> list[Lease]:
        """Leases that have expired by their own date: rescue takes those that stand still, too.

        `held` is a recent result of the method of this name, which saves reading it again. Each call is a look.
        """
        leases = [lease for _, lease in (self.held() if held is None else held)]
        self.watch.look(leases)
        return [lease for lease in leases if self._is_overdue(lease)]

    def expired(
        self, held: Sequence[tuple[Job, Lease]] | None = None, *, watched_seconds: float | None = None
    ) -> list[Lease]:
        """Leases of dead workers: overdue, and seen without a renewal for a lease's length, or `watched_seconds`."""
        seconds = self.timing.lease_seconds if watched_seconds is None else watched_seconds
        return [lease for lease in self.overdue(held) if self._stands_still(lease, seconds)]

    def rescue(
        self, held: Sequence[tuple[Job, Lease]] | None = None, *, watched_seconds: float | None = None
    ) -> list[Job]:
        """Requeue jobs whose lease has expired; returns the moved jobs as they are now.

        The first look at a lease of another process takes nothing away: a later one does, if it was not renewed for
        the length of a lease, or for `watched_seconds`.
        """
        rescued = list[Job]()
        for lease in self.expired(held, watched_seconds=watched_seconds):
            try:
                job = self._rescue(lease)
            except (*OF_ONE_ROW, NotFound) as error:
                self._pass_over(lease.job_id, error)
            else:
                rescued += [] if job is None else [job]
        return rescued

    def readable_lease(self, job_id: str) -> Lease | None:
        """The lease; None, with a warning, if its row cannot be read, and None for a job of the original system."""
        try:
            return self.client.get_lease(job_id)
        except NotFound:
            return None
        except UnreadableRow as error:
            self._pass_over(job_id, error)
            return None

    def _pass_over(self, job_id: str, error: StoreError) -> None:
        """Note a row that must not stop the others."""
        log.warning("job %s is passed over: %s", job_id, error)
        self.client.unreadable.add(error.place if isinstance(error, UnreadableRow) else job_id)

    def _is_overdue(self, lease: Lease) -> bool:
        grace = timedelta(seconds=self.timing.rescue_grace_seconds)
        return lease.expires_at is not None and lease.expires_at + grace < self.now()

    def _stands_still(self, lease: Lease, seconds: float) -> bool:
        return self.watch.still_seconds(lease) >= seconds

    def _rescue(self, lease: Lease) -> Job | None:
        job_id, now = lease.job_id, self.now()
        # compare-and-set: a worker that renewed or moved its pointer since the read keeps its job
        untouched = (
            fence(lease)
            & (LeaseItem.renewals == lease.renewals)
            & (LeaseItem.cancel_requested == lease.cancel_requested)
            & pointer_as_read(lease.checkpoint)
        )
        if lease.cancel_requested:
            moved = Move(JobStatus.CANCELLED, [])
        else:  # the budgets are read here, because the index that named the job may lag behind
            moved = interruption(self.client.get_job(job_id, consistent=True), lease, self.timing, now)
        writes = [*take_away_writes(lease, moved, untouched, now), rescued_attempt(lease, moved, now)]
        try:
            self.client.writer.execute(*writes)
        except ConditionFailed:
            return None
        return self.client.get_job(job_id, consistent=True)

    @checked
    def decide_to_prune(self, job: Job, names: Callable[[Pointer], bool]) -> bool:
        """Take the pointers to checkpoints that will be removed off the lease of a job that has ended, as it was read.

        `names` says of a pointer whether its checkpoint will be removed. Returns False, and changes nothing, when the
        job was retried, or has gone, since it was read, or is one of the original system.
        """
        lease = self.readable_lease(job.job_id)
        if lease is None or job.ended_at is None:
            return False
        pointers = {name: getattr(lease, name) for name in items.POINTERS}
        gone = {name: None for name, pointer in pointers.items() if pointer is not None and names(pointer)}
        try:
            self.client.writer.execute(*prune_decision_writes(job, lease, lease.model_copy(update=gone)))
        except ConditionFailed as lost:
            stored = read(items.lease_from, lost.losers[1]) if lost.losers[1] else None
            same = lost.failed == (False, True) and stored is not None and stored.lease_token is None
            return same and self.decide_to_prune(job, names)  # another one pruned it, or our own lost reply
        return True

    @checked
    def decide_to_delete(self, job_id: str) -> Job:
        """Mark a job in a final state, so that nothing retries or claims it while it is being deleted. Idempotent.

        Raises NotFound, StateConflict for a job that has not ended.
        """
        pauses = None
        while True:
            job = self.client.get_job(job_id, consistent=True)
            try:
                lease = self.client.get_lease(job_id)
            except NotFound:
                self.client.get_job(job_id, consistent=True)  # gone as well, if another deletion has just ended
                raise
            if not job.status.is_final:
                raise StateConflict(f"job {job.job_id} is {job.status}: cancel it first")
            if job.promoted_at is not None:
                raise StateConflict(
                    f"the model of job {job.job_id} was promoted, and models that were in use are kept: "
                    "`layoutlm-cli model list` shows them"
                )
            if lease.deleting_at is not None:
                return job
            try:
                self.client.writer.execute(*delete_decision_writes(job, lease, self.now()))
            except ConditionFailed:  # retried, or deleted, between read and write
                pauses = self._pause_or_refuse(pauses, job, lease)

    @checked
    def promote(self, promotion: Promotion) -> bool:
        """Put the next version of a stage, which is in use from then on; False if another one took its number.

        From then on the job is not deleted. Raises NotFound, StateConflict for a job that has not succeeded or is being
        deleted.
        """
        try:
            self.client.writer.execute(*promotion_writes(promotion))
        except ConditionFailed as lost:
            if lost.failed[0]:
                stored = lost.losers[0]  # our own write, whose reply was lost?
                return stored is not None and read(partial(promotion_from, promotion.stage), stored) == promotion
            job = self.client.get_job(promotion.job_id, consistent=True)
            state = job.status if lost.failed[1] else "being deleted, or a job of the original system"
            raise StateConflict(f"job {job.job_id} is {state}: only a job that has succeeded is promoted") from None
        return True

    @checked
    def delete(self, job_id: str) -> int:
        """Remove the rows of a job that was decided to be deleted, Lease and Job last. Returns the number of rows.

        The caller removes its objects in the bucket in between. An interrupted deletion can be repeated, and two at
        once end alike.
        """
        job = self.decide_to_delete(job_id)
        last = [lease_key(job.job_id), items.job_key(job.job_id)]
        rows = [key for key in self.client.iter_job_rows(job.job_id) if key not in last]
        for key in rows:
            self.client.writer.execute(delete(key))
        try:
            # together: a Job without its Lease would look like one of the original system
            self.client.writer.execute(
                delete(last[0], LeaseItem.deleting_at.exists()), delete(last[1], JobItem.pk.exists())
            )
        except ConditionFailed as lost:
            if any(lost.losers):
                raise StateConflict(f"job {job.job_id} was changed while it was being deleted: try again") from None
            return len(rows)  # another deletion was faster, or our own reply was lost
        return len(rows) + len(last)

"""JobQueue: the sole writer of Job.status. docs/protocol.md draws the states and lists the invariants.

The fence of every worker-side write is the attempt number with the lease token. Clocks decide when to take a
job over; the token decides who may write.
"""

import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from receipt_dynamo import items
from receipt_dynamo.client import DynamoClient, fence
from receipt_dynamo.entities import (
    AttemptEnd,
    Job,
    JobError,
    JobLog,
    JobStatus,
    JsonObject,
    Lease,
    Machine,
    Pointer,
    Priority,
    Storage,
    backoff,
    parse_job_id,
    utcnow,
)
from receipt_dynamo.errors import InvalidInput, LeaseLost, NotFound, StateConflict
from receipt_dynamo.items import JobItem, LeaseItem, lease_key
from receipt_dynamo.transitions import (
    WANTS_CANCEL,
    Move,
    cancel_writes,
    claim_writes,
    end_writes,
    interrupted,
    is_behind,
    progressed,
    queue_keys,
    rescued_attempt,
    take_away_writes,
)
from receipt_dynamo.writes import DEFAULT_PATIENCE_SECONDS, ConditionFailed, delete, put, update

LEASE_SECONDS = 90.0
RENEW_SECONDS = 15.0
RESCUE_GRACE_SECONDS = 30.0  # added to the lease, so that clocks may differ by as much
WORKER_ID_BYTES = 100
PROGRESS_BYTES = 200  # with the longest worker id, a full lease stays under the 1,024 bytes of one write unit
_UNIQUE_KEYS = uuid.UUID("6f6a1c1e-8f57-5d2a-9f0e-2c7a1f0f3b11")  # namespace of ids made from unique keys


def _accept_any(_job: Job) -> bool:
    return True


def _shortened(text: str) -> str:
    return text.encode()[:PROGRESS_BYTES].decode(errors="ignore")


class JobQueue:
    """Claims and moves jobs of one table. `now` and `rng` are injected by tests."""

    def __init__(
        self,
        client: DynamoClient,
        now: Callable[[], datetime] = utcnow,
        rng: random.Random | None = None,
    ) -> None:
        self.client = client
        self._now = now
        self._rng = rng or random.Random()

    # submit

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
    ) -> Job:
        """Create a pending job and its lease in one transaction.

        With a unique key the id is made from it, so the second submit of a key returns the first job. A job
        without a name is called by its date and the beginning of its id.
        """
        if name == "":
            raise InvalidInput("a job's name cannot be empty: leave it out to have one made")
        if priority not in list(Priority):
            raise InvalidInput(f"unknown priority {priority!r}: use one of {', '.join(Priority)}")
        job_id = str(uuid.uuid4() if unique_key is None else uuid.uuid5(_UNIQUE_KEYS, unique_key))
        now = self._now()
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
        )
        # attribute_not_exists(PK) on both: nothing of this id exists yet
        try:
            self.client.writer.execute(
                put(items.job_item(job), JobItem.pk.does_not_exist()),
                put(items.lease_item(Lease(job_id=job.job_id, attempt=0)), LeaseItem.pk.does_not_exist()),
            )
        except ConditionFailed:
            return self.client.get_job(job.job_id, consistent=True)  # the same key, or our own lost reply
        return job

    # claim

    def claim(
        self,
        worker_id: str,
        queue: str = "default",
        *,
        accepts: Callable[[Job], bool] = _accept_any,
        machine: Machine | None = None,
    ) -> Lease | None:
        """The first due job by priority, then age, as a lease; None when there is none.

        A job that `accepts` refuses (a newer config version, say) is left to others.
        """
        for job in self.client.iter_queue(queue):
            if (job.not_before is None or job.not_before <= self._now()) and accepts(job):
                lease = self._try_claim(job.job_id, job.attempt, worker_id, machine or Machine())
                if lease is not None:
                    return lease
        return None

    def claim_job(self, job_id: str, worker_id: str, *, machine: Machine | None = None) -> Lease | None:
        """Claim one named job; None when it cannot be claimed now: held, ended, or waiting after an error."""
        job = self.client.get_job(job_id, consistent=True)
        if not job.status.is_claimable:
            return None
        return self._try_claim(job.job_id, job.attempt, worker_id, machine or Machine())

    def _try_claim(self, job_id: str, attempt: int, worker_id: str, machine: Machine) -> Lease | None:
        if len(worker_id.encode()) > WORKER_ID_BYTES:
            raise InvalidInput(f"worker id {worker_id!r} is longer than {WORKER_ID_BYTES} bytes")
        try:
            seen = self.client.get_lease(job_id)
        except NotFound:
            return None  # a job of the original system is read-only
        if seen.attempt != attempt or seen.lease_token is not None or seen.cancel_requested:
            return None  # the index was stale
        now, token = self._now(), str(uuid.uuid4())
        lease = seen.model_copy(
            update={
                "attempt": attempt + 1,
                "lease_token": token,
                "worker_id": worker_id,
                "expires_at": now + timedelta(seconds=LEASE_SECONDS),
                "progress": "",
            }
        )
        try:
            self.client.writer.execute(*claim_writes(seen, lease, machine, now))
        except ConditionFailed as lost:
            stored = lost.losers[1]  # our token there: the claim passed and its reply was lost
            if stored is None or items.lease_from(stored).lease_token != token:
                return None
        return lease

    # while held

    def renew(self, lease: Lease, progress: str = "") -> Lease:
        """Extend the lease: one write of one unit. The reply carries cancel_requested. Raises LeaseLost."""
        actions = [
            LeaseItem.expires_at.set(self._now() + timedelta(seconds=LEASE_SECONDS)),
            LeaseItem.renewals.set(LeaseItem.renewals + 1),
            LeaseItem.progress.set(_shortened(progress)),
        ]
        return self._update_lease(lease, actions, fence(lease))

    def record_checkpoint(self, lease: Lease, pointer: Pointer, best: Pointer | None) -> Lease:
        """Move the resume point forward, after the checkpoint's manifest is stored. Raises LeaseLost.

        Ahead is a later step, or the same step by a later attempt: a stop right after a resume, or the
        evaluation that was still due. Another pointer than the stored one that is not ahead: StateConflict.
        """
        actions: list[Action] = [LeaseItem.checkpoint.set(items.pointer_map(pointer))]
        if best is not None:
            actions.append(LeaseItem.best.set(items.pointer_map(best)))
        if lease.checkpoint is not None and lease.checkpoint != pointer:
            actions.append(LeaseItem.previous.set(items.pointer_map(lease.checkpoint)))
        try:
            return self._update_lease(lease, actions, fence(lease) & is_behind(pointer))
        except StateConflict:
            stored = self.client.get_lease(lease.job_id)
            if stored.checkpoint != pointer:
                raise
            return stored  # our own write, whose reply was lost

    def _update_lease(self, lease: Lease, actions: Sequence[Action], condition: Condition) -> Lease:
        try:
            raw = self.client.writer.execute(
                update(lease_key(lease.job_id), actions, condition), patience_seconds=self._patience(lease)
            )
        except ConditionFailed as lost:
            stored = items.lease_from(lost.losers[0]) if lost.losers[0] else None
            if stored is None or (stored.attempt, stored.lease_token) != (lease.attempt, lease.lease_token):
                raise LeaseLost(f"attempt {lease.attempt} of job {lease.job_id} lost its lease") from None
            raise StateConflict(f"job {lease.job_id}: the stored checkpoint is not behind the given one") from None
        assert raw is not None
        return items.lease_from(raw)

    def _patience(self, lease: Lease) -> float:
        # A holder may pass the lease as it was claimed; the fence, not the clock, refuses a late write.
        left = (lease.expires_at - self._now()).total_seconds() if lease.expires_at else 0.0
        return max(DEFAULT_PATIENCE_SECONDS, left)

    # ends that the holder asks for: each returns the status that the job ended up in

    def complete(
        self, lease: Lease, *, results: JsonObject, summary: JobLog, end: AttemptEnd | None = None
    ) -> JobStatus:
        """succeeded, with run_summary in the same transaction; or cancelled, if that was asked for.

        Raises LeaseLost.
        """
        job = Move(JobStatus.SUCCEEDED, [JobItem.results.set(results)])
        return self._end(lease, job, outcome="succeeded", end=end, summary=summary)

    def fail(
        self, lease: Lease, error: JobError, *, summary: JobLog | None = None, end: AttemptEnd | None = None
    ) -> JobStatus:
        """pending after a backoff while the budgets last, else failed; cancelled if that was asked for."""
        job = self.client.get_job(lease.job_id, consistent=True)
        held = self.client.get_lease(lease.job_id)
        budgets = job.budgets.after_error(error.cause, progressed=progressed(held))
        actions: list[Action] = [
            JobItem.error.set(error.model_dump(mode="json")),
            JobItem.budgets.set(budgets.model_dump(mode="json")),
        ]
        if error.is_retryable and budgets.exhausted_by is None:
            due = self._now() + backoff(budgets.errors_in_a_row, self._rng)
            moved = Move(JobStatus.PENDING, [*actions, JobItem.not_before.set(due), *queue_keys(job)])
        else:
            moved = Move(JobStatus.FAILED, actions)
        return self._end(lease, moved, outcome=f"failed: {error.cause}", end=end, summary=summary)

    def release(self, lease: Lease, reason: str, *, end: AttemptEnd | None = None) -> JobStatus:
        """interrupted, to be claimed again at once (spot notice, SIGTERM); or cancelled, if asked for."""
        job = self.client.get_job(lease.job_id, consistent=True)
        moved = interrupted(job, self.client.get_lease(lease.job_id))
        return self._end(lease, moved, outcome=f"interrupted: {reason}", end=end)

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
        writes = end_writes(lease, moved, outcome, end, fence(lease) & ~WANTS_CANCEL, self._now())
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
        """Cancelled meanwhile, ended by ourselves with a lost reply, or taken over."""
        stored = items.lease_from(lost.losers[1]) if lost.losers[1] else None
        if stored is not None and stored.lease_token == lease.lease_token and stored.cancel_requested:
            return self._end_as_cancelled(lease, end)
        return self._status_if_ended_by(lease)

    def _end_as_cancelled(self, lease: Lease, end: AttemptEnd | None) -> JobStatus:
        writes = end_writes(lease, Move(JobStatus.CANCELLED, []), "cancelled", end, fence(lease), self._now())
        try:
            self.client.writer.execute(*writes, patience_seconds=self._patience(lease))
        except ConditionFailed:
            return self._status_if_ended_by(lease)
        return JobStatus.CANCELLED

    def _status_if_ended_by(self, lease: Lease) -> JobStatus:
        attempt = self.client.get_attempt(lease.job_id, lease.attempt)
        if attempt.ended_by != lease.lease_token:
            raise LeaseLost(f"attempt {lease.attempt} of job {lease.job_id} was ended by somebody else")
        return self.client.get_job(lease.job_id, consistent=True).status

    # a person, a scaler or an idle worker

    def cancel(self, job_id: str) -> JobStatus:
        """cancelled at once when nobody holds the job; else its worker is asked (the reply: running)."""
        job_id = parse_job_id(job_id)
        while True:
            job, lease = self.client.get_job(job_id, consistent=True), self.client.get_lease(job_id)
            if job.status is JobStatus.CANCELLED:
                return job.status
            if job.status.is_final:
                raise StateConflict(f"job {job_id} is {job.status} and cannot be cancelled")
            try:
                self.client.writer.execute(*cancel_writes(job, lease, self._now()))
            except ConditionFailed:
                continue  # it moved between the read and the write
            return JobStatus.RUNNING if job.status is JobStatus.RUNNING else JobStatus.CANCELLED

    def rescue(self) -> list[Job]:
        """Take expired leases away from dead workers; returns the jobs that moved, as they are now."""
        running = self.client.list_jobs_by_status(JobStatus.RUNNING)
        rescued = [self._rescue(job.job_id) for job in running]
        return [job for job in rescued if job is not None]

    def _rescue(self, job_id: str) -> Job | None:
        try:
            lease = self.client.get_lease(job_id)
        except NotFound:
            return None  # a job of the original system is read-only
        now = self._now()
        grace = timedelta(seconds=RESCUE_GRACE_SECONDS)
        if lease.lease_token is None or lease.expires_at is None or lease.expires_at + grace >= now:
            return None
        # compare-and-set on renewals: a worker that renewed since the read keeps its job
        untouched = (
            fence(lease)
            & (LeaseItem.renewals == lease.renewals)
            & (LeaseItem.cancel_requested == lease.cancel_requested)
        )
        if lease.cancel_requested:
            moved = Move(JobStatus.CANCELLED, [])
        else:  # the budgets are read here, because the index that named the job may lag behind
            moved = interrupted(self.client.get_job(job_id, consistent=True), lease)
        writes = [*take_away_writes(lease, moved, untouched, now), rescued_attempt(lease, now)]
        try:
            self.client.writer.execute(*writes)
        except ConditionFailed:
            return None
        return self.client.get_job(job_id, consistent=True)

    def delete(self, job_id: str) -> int:
        """Remove a job in a final state, its rows first, then Lease and Job; returns the number of rows.

        The caller removes what lies in the bucket before this. A deletion that broke off is repeated.
        """
        job = self.client.get_job(job_id, consistent=True)
        if not job.status.is_final:
            raise StateConflict(f"job {job.job_id} is {job.status}: cancel it first")
        self.client.get_lease(job.job_id)  # NotFound for a job of the original system
        last = [lease_key(job.job_id), items.job_key(job.job_id)]
        rows = [key for key in self.client.iter_job_rows(job.job_id) if key not in last]
        for key in rows:
            self.client.writer.execute(delete(key))
        still_final = JobItem.status.is_in(*(status.value for status in JobStatus if status.is_final))
        # together: a Job without its Lease would look like one of the original system
        self.client.writer.execute(delete(last[0]), delete(last[1], still_final))
        return len(rows) + len(last)

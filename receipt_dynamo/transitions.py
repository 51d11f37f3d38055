"""The writes of each transition, with their conditions. Only JobQueue sends them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from receipt_dynamo import items
from receipt_dynamo.entities import (
    Attempt,
    AttemptEnd,
    Job,
    JobError,
    JobStatus,
    JsonObject,
    Lease,
    Machine,
    Pointer,
    Promotion,
    Timing,
    ondemand_queue,
    spot_queue,
)
from receipt_dynamo.items import AttemptItem, JobItem, LeaseItem, PointerMap, lease_key
from receipt_dynamo.model_items import PromotionItem, promotion_item
from receipt_dynamo.writes import Write, check, put, update

EXPIRED = "lease expired"
EXPIRED_AND_CANCELLED = "cancelled: lease expired"  # before its worker saw the cancel

WANTS_CANCEL: Condition = LeaseItem.cancel_requested == True  # noqa: E712


@dataclass(frozen=True)
class Move:
    """The new status of a job, and further changes of its item."""

    status: JobStatus
    actions: Sequence[Action]


def progressed(lease: Lease) -> bool:
    """Whether this attempt moved the checkpoint pointer."""
    return lease.checkpoint is not None and lease.checkpoint.attempt == lease.attempt


def _status_actions(status: JobStatus) -> list[Action]:
    return [JobItem.status.set(status.value), JobItem.gsi1_pk.set(items.status_pk(status))]


def queue_keys(job: Job) -> list[Action]:
    return [
        JobItem.gsi3_pk.set(items.queue_pk(job.queue)),
        JobItem.gsi3_sk.set(items.queue_sk(job.priority, job.created_at, job.job_id)),
    ]


def later_keys(job: Job, not_before: datetime) -> list[Action]:
    """The keys of a job that waits: claims pass over it without reading it until it is due."""
    return [
        JobItem.gsi3_pk.set(items.queue_pk(job.queue)),
        JobItem.gsi3_sk.set(items.later_sk(job.priority, not_before, job.job_id)),
    ]


def interruption(job: Job, lease: Lease, timing: Timing, now: datetime) -> Move:
    """Interrupted and requeued; failed when the interruptions are used up."""
    budgets = job.budgets.after_interruption(progressed=progressed(lease))
    used = JobItem.budgets.set(budgets.model_dump(mode="json"))
    if budgets.exhausted_by is None:
        return Move(JobStatus.INTERRUPTED, [used, *_queue_after_interruption(job, timing, now)])
    error = JobError(cause="interruptions", message=f"given up after {budgets.exhausted_by}")
    return Move(JobStatus.FAILED, [used, JobItem.error.set(error.model_dump(mode="json"))])


def _queue_after_interruption(job: Job, timing: Timing, now: datetime) -> list[Action]:
    """The keys of its queue; those of the on-demand queue after too many interruptions within the window."""
    if timing.ondemand_after == 0:
        return queue_keys(job)
    since = now - timedelta(seconds=timing.ondemand_window_seconds)
    recent = [*(time for time in job.interrupted_at if time > since), now]
    kept = JobItem.interrupted_at.set(items.times_document(recent))
    if len(recent) < timing.ondemand_after:
        return [kept, *queue_keys(job)]
    moved = job.model_copy(update={"queue": ondemand_queue(job.queue)})
    return [kept, JobItem.moved_at.set(now), JobItem.queue.set(moved.queue), *queue_keys(moved)]


def move_writes(job: Job, now: datetime) -> list[Write]:
    """A job that waits, as it was read -> the on-demand queue, due at once."""
    return _requeue(job, ondemand_queue(job.queue), JobItem.moved_at.set(now))


def return_writes(job: Job) -> list[Write]:
    """A job that waits in the on-demand queue, as it was read -> the queue that it was moved from."""
    return _requeue(job, spot_queue(job.queue), JobItem.moved_at.remove())


def _requeue(job: Job, queue: str, note: Action) -> list[Write]:
    moved = job.model_copy(update={"queue": queue})
    as_read = (
        (JobItem.status == job.status.value) & (JobItem.attempt == job.attempt) & (JobItem.queue == job.queue)
    ) & JobItem.gsi3_pk.exists()
    return [update(items.job_key(job.job_id), [note, JobItem.queue.set(queue), *queue_keys(moved)], as_read)]


def is_behind(pointer: Pointer) -> Condition:
    """The stored resume point is of an earlier step, or of this step by an earlier attempt."""
    step, attempt = LeaseItem.checkpoint.global_step, LeaseItem.checkpoint.attempt
    earlier = (step < pointer.global_step) | ((step == pointer.global_step) & (attempt < pointer.attempt))
    return cast(Condition, LeaseItem.checkpoint.does_not_exist() | earlier)  # pynamodb types a nested path as its value


def job_write(lease: Lease, moved: Move, now: datetime) -> Write:
    actions = [*_status_actions(moved.status), *moved.actions]
    if moved.status.is_final:
        actions.append(JobItem.ended_at.set(now))
    condition = (JobItem.status == JobStatus.RUNNING.value) & (JobItem.attempt == lease.attempt)
    return update(items.job_key(lease.job_id), actions, condition)


def take_away_writes(lease: Lease, moved: Move, condition: Condition, now: datetime) -> list[Write]:
    """Job: running under this attempt, to its new state · LEASE: `condition`, token removed."""
    released = [LeaseItem.lease_token.remove(), LeaseItem.expires_at.remove(), LeaseItem.worker_id.remove()]
    return [job_write(lease, moved, now), update(lease_key(lease.job_id), released, condition)]


def end_writes(
    lease: Lease, moved: Move, outcome: str, end: AttemptEnd | None, condition: Condition, now: datetime
) -> list[Write]:
    """take_away_writes, and the end of the attempt, signed by its holder."""
    numbers = (end or AttemptEnd()).model_dump(exclude_none=True)
    actions = [
        AttemptItem.ended_at.set(now),
        AttemptItem.outcome.set(outcome),
        AttemptItem.ended_by.set(lease.lease_token or ""),
        *(getattr(AttemptItem, name).set(value) for name, value in numbers.items()),
    ]
    key = items.attempt_key(lease.job_id, lease.attempt)
    return [*take_away_writes(lease, moved, condition, now), update(key, actions, AttemptItem.pk.exists())]


def rescued_attempt(lease: Lease, moved: Move, now: datetime) -> Write:
    ended_at = lease.expires_at or now  # dead since then, whenever it was noticed
    return update(
        items.attempt_key(lease.job_id, lease.attempt),
        [
            AttemptItem.ended_at.set(ended_at),
            AttemptItem.outcome.set(EXPIRED_AND_CANCELLED if moved.status is JobStatus.CANCELLED else EXPIRED),
            AttemptItem.progress.set(lease.progress),
        ],
        AttemptItem.pk.exists(),
    )


def retry_writes(job: Job, lease: Lease, now: datetime, max_cost: float | None = None) -> list[Write]:
    """A failed job -> pending, due at once, with unused budgets. Its lease must not be held and stays.

    A new limit of its cost replaces the former one.
    """
    actions = [
        *_status_actions(JobStatus.PENDING),
        JobItem.budgets.set(job.budgets.unused().model_dump(mode="json")),
        JobItem.not_before.set(now),
        JobItem.ended_at.remove(),
        *([] if max_cost is None else [JobItem.max_cost.set(max_cost)]),
        *queue_keys(job),
    ]
    failed = (JobItem.status == JobStatus.FAILED.value) & (JobItem.attempt == job.attempt)
    unheld = (LeaseItem.attempt == lease.attempt) & LeaseItem.lease_token.does_not_exist() & ~WANTS_CANCEL
    return [update(items.job_key(job.job_id), actions, failed), check(lease_key(job.job_id), unheld)]


def is_final() -> Condition:
    return cast(Condition, JobItem.status.is_in(*(status.value for status in JobStatus if status.is_final)))


def delete_decision_writes(job: Job, lease: Lease, now: datetime) -> list[Write]:
    """The lease of an ended job, marked: with a cancel requested no version of this system retries or claims it."""
    ended = (JobItem.status == job.status.value) & (JobItem.attempt == job.attempt)
    unheld = (LeaseItem.attempt == lease.attempt) & LeaseItem.lease_token.does_not_exist()
    actions = [LeaseItem.cancel_requested.set(True), LeaseItem.deleting_at.set(LeaseItem.deleting_at | now)]
    unused = JobItem.promoted_at.does_not_exist()
    return [
        check(items.job_key(job.job_id), ended & is_final() & unused),
        update(lease_key(job.job_id), actions, unheld),
    ]


def promotion_writes(promotion: Promotion) -> list[Write]:
    """The next version of a stage, of a job that has succeeded, is not being deleted, and is kept from now on."""
    succeeded = JobItem.status == JobStatus.SUCCEEDED.value
    promoted_at = JobItem.promoted_at.set(JobItem.promoted_at | promotion.promoted_at)
    return [
        put(promotion_item(promotion), PromotionItem.pk.does_not_exist()),
        update(items.job_key(promotion.job_id), [promoted_at], succeeded),
        check(lease_key(promotion.job_id), LeaseItem.pk.exists() & LeaseItem.deleting_at.does_not_exist()),
    ]


def prune_decision_writes(job: Job, lease: Lease, kept: Lease) -> list[Write]:
    """The lease of an ended job names only the pointers of `kept`, so that nothing resumes from the others."""
    ended = (JobItem.status == job.status.value) & (JobItem.attempt == job.attempt) & (JobItem.ended_at == job.ended_at)
    unheld = (LeaseItem.attempt == lease.attempt) & LeaseItem.lease_token.does_not_exist()
    pointers = [_pointer_action(getattr(LeaseItem, name), getattr(kept, name)) for name in items.POINTERS]
    return [
        check(items.job_key(job.job_id), ended & is_final()),
        update(lease_key(job.job_id), pointers, unheld & pointer_as_read(lease.checkpoint)),
    ]


def pin_writes(lease: Lease, seen: JsonObject, config: JsonObject, condition: Condition) -> list[Write]:
    """The job's config, if it is still the one that was read, under the fence."""
    as_read = (JobItem.attempt == lease.attempt) & (JobItem.job_config == seen)
    return [
        update(items.job_key(lease.job_id), [JobItem.job_config.set(config)], as_read),
        check(lease_key(lease.job_id), condition),
    ]


def fall_back_writes(lease: Lease, condition: Condition) -> list[Write]:
    """Resume point, best and the attempt's resume_step -> those of the previous checkpoint, or of none."""
    pointers = [
        _pointer_action(LeaseItem.checkpoint, lease.previous),
        _pointer_action(LeaseItem.best, lease.previous_best),
        LeaseItem.previous.remove(),
        LeaseItem.previous_best.remove(),
    ]
    begins = AttemptItem.resume_step.set(lease.previous.global_step if lease.previous else 0)
    return [
        update(lease_key(lease.job_id), pointers, condition & pointer_as_read(lease.checkpoint)),
        update(items.attempt_key(lease.job_id, lease.attempt), [begins], AttemptItem.pk.exists()),
    ]


def pointer_actions(lease: Lease, pointer: Pointer, best: Pointer | None) -> list[Action]:
    """The resume point -> `pointer`; the former one, with its best, is kept to fall back to."""
    actions: list[Action] = [LeaseItem.checkpoint.set(items.pointer_map(pointer))]
    if best is not None:
        actions.append(LeaseItem.best.set(items.pointer_map(best)))
    if lease.checkpoint is not None and lease.checkpoint != pointer:
        actions.append(LeaseItem.previous.set(items.pointer_map(lease.checkpoint)))
        actions.append(_pointer_action(LeaseItem.previous_best, lease.best))
    return actions


def _pointer_action(path: PointerMap, pointer: Pointer | None) -> Action:
    return path.remove() if pointer is None else path.set(items.pointer_map(pointer))


def claim_writes(seen: Lease, lease: Lease, machine: Machine, now: datetime) -> list[Write]:
    """Job -> running · LEASE gets the token, its pointers stay · new Attempt."""
    job_is_free = (
        JobItem.status.is_in(JobStatus.PENDING.value, JobStatus.INTERRUPTED.value)
        & (JobItem.attempt == seen.attempt)
        & (JobItem.not_before.does_not_exist() | (JobItem.not_before <= now))
    )
    lease_is_free = (
        (LeaseItem.attempt == seen.attempt)
        & LeaseItem.lease_token.does_not_exist()
        & ~WANTS_CANCEL
        & pointer_as_read(seen.checkpoint)
    )
    assert lease.lease_token and lease.worker_id and lease.expires_at
    attempt = Attempt(
        job_id=lease.job_id,
        attempt=lease.attempt,
        worker_id=lease.worker_id,
        started_at=now,
        machine=machine,
        resume_step=seen.checkpoint.global_step if seen.checkpoint else 0,
    )
    return [
        update(
            items.job_key(lease.job_id),
            [
                *_status_actions(JobStatus.RUNNING),
                JobItem.attempt.set(lease.attempt),
                JobItem.started_at.set(JobItem.started_at | now),
                JobItem.gsi3_pk.remove(),
                JobItem.gsi3_sk.remove(),
            ],
            job_is_free,
        ),
        update(
            lease_key(lease.job_id),
            [
                LeaseItem.attempt.set(lease.attempt),
                LeaseItem.lease_token.set(lease.lease_token),
                LeaseItem.worker_id.set(lease.worker_id),
                LeaseItem.expires_at.set(lease.expires_at),
                LeaseItem.progress.remove(),
            ],
            lease_is_free,
        ),
        put(items.attempt_item(attempt), AttemptItem.pk.does_not_exist()),
    ]


def pointer_as_read(pointer: Pointer | None) -> Condition:
    if pointer is None:
        return LeaseItem.checkpoint.does_not_exist()
    same = (LeaseItem.checkpoint.manifest_sha256 == pointer.manifest_sha256) & (
        LeaseItem.checkpoint.attempt == pointer.attempt  # two attempts may write the same bytes
    )
    return cast(Condition, same)  # pynamodb types a nested path as its value


def cancel_writes(job: Job, lease: Lease, now: datetime) -> list[Write]:
    if job.status is JobStatus.RUNNING:
        return [
            check(items.job_key(job.job_id), JobItem.status == JobStatus.RUNNING.value),
            update(
                lease_key(job.job_id),
                [LeaseItem.cancel_requested.set(True)],
                (LeaseItem.attempt == job.attempt) & LeaseItem.lease_token.exists(),
            ),
        ]
    unheld = (JobItem.status == job.status.value) & (JobItem.attempt == job.attempt)
    actions = [*_status_actions(JobStatus.CANCELLED), JobItem.ended_at.set(now)]
    return [
        update(items.job_key(job.job_id), [*actions, JobItem.gsi3_pk.remove(), JobItem.gsi3_sk.remove()], unheld),
        update(
            lease_key(job.job_id),
            [LeaseItem.cancel_requested.set(True)],
            (LeaseItem.attempt == lease.attempt) & LeaseItem.lease_token.does_not_exist(),
        ),
    ]

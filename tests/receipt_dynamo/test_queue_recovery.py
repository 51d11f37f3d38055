"""What brings a job back: retry, the checkpoint before a damaged one, expired leases, rows that cannot be read."""

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from receipt_dynamo import (
    Budgets,
    DynamoClient,
    Job,
    JobError,
    JobMetric,
    JobQueue,
    JobStatus,
    Lease,
    LeaseLost,
    NotFound,
    Pointer,
    StateConflict,
    Timing,
    new_job_id,
)
from tests.support.jobs import NOON, claim, claimed, pointer, submit, summary
from tests.support.stores import Clock
from tests.support.wire import Patience, Wire, twice

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = pytest.mark.engine

FINAL = JobError(cause="bad_data", message="page 7 has no words")
HANG = JobError(cause="hang", message="no step for an hour")


def stored_job(queue: JobQueue, job_id: str) -> Job:
    return queue.client.get_job(job_id, consistent=True)


def evaluate(queue: JobQueue, lease: Lease, step: int) -> None:
    metric = JobMetric(
        job_id=lease.job_id,
        timestamp=NOON,
        metric_name="eval_f1",
        metric_value=0.5,
        global_step=step,
        attempt=lease.attempt,
        seq=step,
    )
    queue.client.add_job_metric(lease, metric)


def trained(queue: JobQueue, lease: Lease, *steps: int) -> Lease:
    """An evaluation and a checkpoint at each step."""
    for step in steps:
        evaluate(queue, lease, step)
        place = pointer(step, lease.attempt)
        lease = queue.record_checkpoint(lease, place, place)
    return lease


def shown(queue: JobQueue, job_id: str) -> list[tuple[int | None, int | None]]:
    return [(metric.attempt, metric.global_step) for metric in queue.client.list_job_metrics(job_id)]


# retry


def failed(queue: JobQueue, clock: Clock, **more: Any) -> Lease:
    """A job whose first attempt waited after an error and whose second failed for good, at step 10."""
    submit(queue, **more)
    queue.fail(claim(queue), HANG)
    clock.pass_seconds(31)
    lease = trained(queue, claim(queue), 10)
    assert queue.fail(lease, FINAL) is JobStatus.FAILED
    return lease


def test_a_failed_job_that_is_retried_is_pending_with_nothing_used_up_and_its_limits_kept(
    queue: JobQueue, clock: Clock
) -> None:
    limits = Budgets(max_errors=7, max_interruptions=2)
    lease = failed(queue, clock, budgets=limits)
    before = stored_job(queue, lease.job_id)
    assert (before.budgets.errors, before.not_before is None, before.ended_at is None) == (2, False, False)

    job = queue.retry(lease.job_id)

    assert job == stored_job(queue, lease.job_id)
    assert (job.status, job.budgets, job.attempt) == (JobStatus.PENDING, limits, 2)
    assert (job.not_before, job.ended_at) == (clock.time, None)


def test_a_retried_job_goes_on_from_its_checkpoint_at_once(queue: JobQueue, clock: Clock) -> None:
    lease = failed(queue, clock)
    queue.retry(lease.job_id)

    again = claim(queue)

    assert (again.attempt, again.checkpoint, again.best) == (3, lease.checkpoint, lease.best)
    assert queue.client.get_attempt(lease.job_id, 3).resume_step == 10
    assert queue.complete(again, results={}, summary=summary(again)) is JobStatus.SUCCEEDED


@pytest.mark.parametrize("status", [status for status in JobStatus if status is not JobStatus.FAILED])
def test_only_a_failed_job_is_retried(queue: JobQueue, status: JobStatus) -> None:
    job_id = submit(queue).job_id
    if status is not JobStatus.PENDING:
        lease = claim(queue)
    if status is JobStatus.INTERRUPTED:
        queue.release(lease, "spot")
    elif status is JobStatus.SUCCEEDED:
        queue.complete(lease, results={}, summary=summary(lease))
    elif status is JobStatus.CANCELLED:
        queue.cancel(job_id)
        queue.acknowledge_cancel(lease)
    before = stored_job(queue, job_id)
    assert before.status is status

    with pytest.raises(StateConflict, match=f"is {status}: only a failed job"):
        queue.retry(job_id)

    assert stored_job(queue, job_id) == before


@twice
def test_a_retry_whose_reply_is_lost_happened_once(
    queue: JobQueue, clock: Clock, wire: Wire, patience: Patience, times: int
) -> None:
    lease = failed(queue, clock)
    wire.lose_reply("TransactWriteItems", times=times)

    assert queue.retry(lease.job_id).status is JobStatus.PENDING

    assert [job.job_id for job in queue.due_jobs()] == [lease.job_id]


def test_a_retry_applied_behind_a_conflict_is_no_error(
    queue: JobQueue, clock: Clock, wire: Wire, patience: Patience
) -> None:
    lease = failed(queue, clock)
    wire.lose_reply("TransactWriteItems")
    wire.refuse("TransactWriteItems", "TransactionCanceledException", reasons=("TransactionConflict", "None"))

    assert queue.retry(lease.job_id).status is JobStatus.PENDING


# falling back


def test_a_job_falls_back_to_the_checkpoint_before_then_to_its_beginning(queue: JobQueue) -> None:
    first = trained(queue, claimed(queue), 10, 20)
    queue.release(first, "spot")
    lease = claim(queue)
    assert shown(queue, lease.job_id) == [(1, 10), (1, 20)]

    fallen = queue.fall_back(lease)

    assert (fallen.checkpoint, fallen.best, fallen.previous) == (pointer(10), pointer(10), None)
    assert fallen == queue.client.get_lease(lease.job_id)
    assert queue.client.get_attempt(lease.job_id, 2).resume_step == 10
    assert shown(queue, lease.job_id) == [(1, 10)]

    bare = queue.fall_back(fallen)

    assert (bare.checkpoint, bare.best, bare.previous) == (None, None, None)
    assert bare == queue.client.get_lease(lease.job_id)
    assert queue.client.get_attempt(lease.job_id, 2).resume_step == 0
    assert shown(queue, lease.job_id) == []


def test_a_job_that_fell_back_trains_on_and_may_lie_behind_what_it_lost(queue: JobQueue) -> None:
    queue.release(trained(queue, claimed(queue), 10, 20), "spot")
    lease = trained(queue, queue.fall_back(claim(queue)), 15)
    queue.release(lease, "spot")

    third = claim(queue)

    assert (third.checkpoint, third.previous) == (pointer(15, 2), pointer(10))
    assert shown(queue, lease.job_id) == [(1, 10), (2, 15)]


@twice
def test_falling_back_with_a_lost_reply_goes_back_by_one(
    queue: JobQueue, wire: Wire, patience: Patience, times: int
) -> None:
    queue.release(trained(queue, claimed(queue), 10, 20), "spot")
    lease = claim(queue)
    wire.lose_reply("TransactWriteItems", times=times)

    assert queue.fall_back(lease).checkpoint == pointer(10)
    assert queue.client.get_lease(lease.job_id).checkpoint == pointer(10)


def test_falling_back_behind_a_conflict_goes_back_by_one(queue: JobQueue, wire: Wire, patience: Patience) -> None:
    queue.release(trained(queue, claimed(queue), 10, 20), "spot")
    lease = claim(queue)
    wire.lose_reply("TransactWriteItems")
    wire.refuse("TransactWriteItems", "TransactionCanceledException", reasons=("TransactionConflict", "None"))

    assert queue.fall_back(lease) == queue.client.get_lease(lease.job_id)
    assert queue.client.get_lease(lease.job_id).checkpoint == pointer(10)


def test_an_old_holder_cannot_make_the_job_fall_back(queue: JobQueue, clock: Clock) -> None:
    lease = trained(queue, claimed(queue), 10, 20)
    clock.pass_seconds(121)
    queue.rescue()
    second = claim(queue)

    with pytest.raises(LeaseLost):
        queue.fall_back(lease)

    assert queue.client.get_lease(lease.job_id) == second
    assert queue.client.get_attempt(lease.job_id, 1).resume_step == 0


def test_a_holder_whose_pointer_moved_on_cannot_fall_back_from_the_old_one(queue: JobQueue) -> None:
    lease = trained(queue, claimed(queue), 10)
    moved = queue.record_checkpoint(lease, pointer(20), None)

    with pytest.raises(StateConflict, match="another checkpoint"):
        queue.fall_back(lease)

    assert queue.client.get_lease(lease.job_id) == moved


def test_an_evaluation_that_was_due_is_shown_once_however_many_attempts_make_it(queue: JobQueue) -> None:
    """A stop during an evaluation leaves a checkpoint at its step; each attempt that begins there evaluates first."""
    queue.release(queue.record_checkpoint(claimed(queue), pointer(10), None), "stopped while evaluating")
    for attempt in (2, 3):
        lease = claim(queue)
        evaluate(queue, lease, 10)
        assert shown(queue, lease.job_id) == [(attempt, 10)]
        queue.release(lease, "died before its checkpoint")


# expired leases


def test_expired_leases_are_those_that_a_rescue_takes_by_the_queues_own_timing(
    client: DynamoClient, clock: Clock
) -> None:
    queue = JobQueue(client, now=clock, timing=Timing(lease_seconds=9, rescue_grace_seconds=3))
    dead = claimed(queue)
    clock.pass_seconds(10)
    claimed(queue)
    assert (queue.expired(), queue.rescue()) == ([], [])
    clock.pass_seconds(2.1)

    assert queue.expired() == [dead]
    assert [job.job_id for job in queue.rescue()] == [dead.job_id]
    assert queue.expired() == []


def test_a_rescued_attempt_keeps_what_was_last_heard_of_it(queue: JobQueue, clock: Clock) -> None:
    lease, last = claimed(queue), json.dumps(["train", 7, 40, 0.5])
    queue.renew(lease, last)
    expires_at = queue.client.get_lease(lease.job_id).expires_at
    clock.pass_seconds(121)
    queue.rescue()

    attempt = queue.client.get_attempt(lease.job_id, 1)

    assert (attempt.outcome, attempt.progress, attempt.ended_by) == ("lease expired", last, None)
    assert attempt.ended_at == expires_at  # not the time of the rescue: nothing ran since then
    assert claim(queue).progress == ""


def test_a_rescue_counts_a_checkpoint_that_came_between_its_read_and_its_write(
    queue: JobQueue, client: DynamoClient, clock: Clock
) -> None:
    """The fifth interruption in a row without a checkpoint fails a job; one with a checkpoint begins a new row."""
    submit(queue)
    for _ in range(4):
        queue.release(claim(queue), "spot")
    lease = claim(queue)
    clock.pass_seconds(121)

    def record_first() -> datetime:  # the clock is read between the lease and the write
        if client.get_lease(lease.job_id).checkpoint is None:
            queue.record_checkpoint(lease, pointer(10, lease.attempt), None)
        return clock()

    assert JobQueue(client, now=record_first).rescue() == []
    assert stored_job(queue, lease.job_id).status is JobStatus.RUNNING
    (job,) = queue.rescue()
    assert (job.status, job.budgets.interruptions_in_a_row) == (JobStatus.INTERRUPTED, 1)


# the queue


def test_a_job_that_waits_is_passed_over_until_it_is_due(queue: JobQueue, clock: Clock) -> None:
    waiting = submit(queue, priority="critical")
    queue.fail(claim(queue), HANG)
    other = submit(queue)
    assert [job.job_id for job in queue.due_jobs()] == [other.job_id]

    clock.pass_seconds(31)

    assert [job.job_id for job in queue.due_jobs()] == [waiting.job_id, other.job_id]


def test_a_job_submitted_with_a_checkpoint_goes_on_from_it(queue: JobQueue) -> None:
    job_id = new_job_id()
    start, best = pointer(30, attempt=0), pointer(20, attempt=0)
    assert submit(queue, job_id=job_id, checkpoint=start, best=best).job_id == job_id

    lease = claim(queue)

    assert (lease.job_id, lease.attempt, lease.checkpoint, lease.best) == (job_id, 1, start, best)
    assert queue.client.get_attempt(job_id, 1).resume_step == 30
    assert queue.record_checkpoint(lease, pointer(30), None).previous == start


HOSTILE: dict[str, dict[str, Any]] = {
    "no status": {"status": None},
    "a status that nobody knows": {"status": {"S": "sleeping"}},
    "budgets that are no budgets": {"budgets": {"S": '{"errors":"\\u001b[2J"}'}},
    "budgets that are no JSON": {"budgets": {"S": "{"}},
    "a time that is none": {"created_at": {"S": "yesterday"}},
    "an attempt that is text": {"attempt": {"S": "1"}},
    "an id that is no UUID": {"PK": {"S": "JOB#../../etc"}},
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("index", ["queue", "status"])
def test_a_row_that_cannot_be_read_does_not_stop_the_others(
    queue: JobQueue, clock: Clock, dynamo: "DynamoDBClient", table_name: str, what: str, index: str
) -> None:
    hostile = submit(queue, priority="critical")
    if index == "status":
        claim(queue)
    key = {"PK": {"S": f"JOB#{hostile.job_id}"}, "SK": {"S": "JOB"}}
    row = dynamo.get_item(TableName=table_name, Key=key)["Item"]
    changed = {name: value for name, value in {**row, **HOSTILE[what]}.items() if value is not None}
    dynamo.delete_item(TableName=table_name, Key=key)
    dynamo.put_item(TableName=table_name, Item=changed)
    good = submit(queue)

    lease = claim(queue)
    clock.pass_seconds(121)
    rescued = queue.rescue()

    assert lease.job_id == good.job_id
    assert good.job_id in [job.job_id for job in rescued]


HOSTILE_LEASES: dict[str, dict[str, Any]] = {
    "no attempt": {"attempt": None},
    "an attempt that is text": {"attempt": {"S": "1"}},
    "a pointer without a step": {"checkpoint": {"M": {"attempt": {"N": "1"}}}},
    "a pointer that is text": {"checkpoint": {"S": "s3://elsewhere"}},
    "an end that is no time": {"expires_at": {"S": "tomorrow"}},
}


@pytest.mark.parametrize("what", HOSTILE_LEASES)
@pytest.mark.parametrize("index", ["queue", "status"])
def test_a_lease_that_cannot_be_read_does_not_stop_the_others(
    queue: JobQueue, clock: Clock, dynamo: "DynamoDBClient", table_name: str, what: str, index: str
) -> None:
    hostile = submit(queue, priority="critical")
    if index == "status":
        claim(queue)
    key = {"PK": {"S": f"JOB#{hostile.job_id}"}, "SK": {"S": "LEASE"}}
    row = {**dynamo.get_item(TableName=table_name, Key=key)["Item"], **HOSTILE_LEASES[what]}
    dynamo.put_item(TableName=table_name, Item={name: value for name, value in row.items() if value is not None})
    good = submit(queue)

    lease = claim(queue)
    clock.pass_seconds(121)

    assert lease.job_id == good.job_id
    assert [job.job_id for job in queue.rescue()] == [good.job_id]


def test_a_hostile_row_without_a_lease_is_not_claimed_and_stays_as_it_is(
    queue: JobQueue, dynamo: "DynamoDBClient", table_name: str
) -> None:
    job = submit(queue, priority="critical")
    key = {"PK": {"S": f"JOB#{job.job_id}"}, "SK": {"S": "LEASE"}}
    dynamo.delete_item(TableName=table_name, Key=key)
    good = submit(queue)

    assert claim(queue).job_id == good.job_id
    with pytest.raises(NotFound):
        queue.retry(job.job_id)
    assert stored_job(queue, job.job_id) == job


# the size of a lease


def test_a_full_lease_costs_one_unit_whatever_its_texts_hold(queue: JobQueue, wire: Wire) -> None:
    submit(queue)
    worker_id = "ü" * 50  # 100 bytes
    lease = queue.claim(worker_id)
    assert lease is not None
    for step in (10_000_000, 20_000_000):
        place = Pointer(attempt=999, global_step=step, manifest_sha256="f" * 64)
        lease = queue.record_checkpoint(lease, place, place)
    queue.cancel(lease.job_id)

    full = queue.renew(lease, "→" * 500)

    assert None not in (full.checkpoint, full.best, full.previous, full.previous_best, full.expires_at)
    assert (full.worker_id, full.cancel_requested, full.progress) == (worker_id, True, "→" * 66)
    assert wire.replies[-1]["ConsumedCapacity"]["CapacityUnits"] == 1

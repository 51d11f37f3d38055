"""Every transition of a job, by what is stored afterwards."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from receipt_dynamo import (
    AttemptEnd,
    InvalidInput,
    Job,
    JobError,
    JobMetric,
    JobQueue,
    JobStatus,
    Lease,
    LeaseLost,
    Machine,
    NotFound,
    StateConflict,
    Storage,
)
from tests.support.jobs import NOON, claim, claimed, pointer, submit, summary
from tests.support.stores import Clock

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = pytest.mark.engine

HANG = JobError(cause="hang", message="no step for an hour")
LEASE_AND_GRACE = 120.0  # seconds after the last renewal from which a job may be rescued


def stored_job(queue: JobQueue, lease: Lease) -> Job:
    return queue.client.get_job(lease.job_id, consistent=True)


def has_queue_keys(queue: JobQueue, job_id: str) -> bool:
    return job_id in [job.job_id for job in queue.client.iter_queue()]


def rows_of(dynamo: "DynamoDBClient", table: str) -> dict[tuple[str, str], object]:
    """Everything that is stored, by key."""
    return {(row["PK"]["S"], row["SK"]["S"]): row for row in dynamo.scan(TableName=table)["Items"]}


# submit


def test_a_submitted_job_is_pending_with_all_that_was_given_and_a_free_lease(queue: JobQueue) -> None:
    job = submit(
        queue,
        "receipts",
        queue="gpu",
        priority="high",
        description="d",
        tags={"a": "b"},
        storage=Storage(bucket="b", prefix="p/"),
    )
    assert queue.client.get_job(job.job_id) == job
    assert (job.status, job.attempt, job.job_config) == (JobStatus.PENDING, 0, {"lr": 6e-5})
    assert queue.client.get_lease(job.job_id) == Lease(job_id=job.job_id, attempt=0)
    assert [job.job_id for job in queue.client.iter_queue("gpu")] == [job.job_id]


def test_submitting_twice_with_one_key_is_one_job(queue: JobQueue) -> None:
    first = submit(queue, "first", unique_key="k")
    assert submit(queue, "second", unique_key="k") == first
    assert submit(queue, "third", unique_key="other").job_id != first.job_id
    assert len(queue.client.list_jobs()) == 2


def test_a_key_that_was_run_already_gives_the_finished_job(queue: JobQueue) -> None:
    job = submit(queue, unique_key="k")
    queue.complete(lease := claim(queue), results={}, summary=summary(lease))
    again = submit(queue, unique_key="k")
    assert (again.job_id, again.status) == (job.job_id, JobStatus.SUCCEEDED)
    assert queue.claim("w") is None


# claim


def test_jobs_are_claimed_by_priority_then_age(queue: JobQueue) -> None:
    for name in ("medium", "low", "critical", "high"):
        submit(queue, f"{name} 1", priority=name)
    for name in ("low", "high", "critical", "medium"):
        submit(queue, f"{name} 2", priority=name)
    claimed_names = [stored_job(queue, claim(queue)).name for _ in range(8)]
    assert claimed_names == [f"{name} {n}" for name in ("critical", "high", "medium", "low") for n in (1, 2)]
    assert queue.claim("w") is None


def test_a_claim_moves_the_job_and_opens_an_attempt(queue: JobQueue) -> None:
    job, machine = submit(queue), Machine(instance_type="g5.xlarge", spot=True, price_per_hour=0.5)
    lease = queue.claim("worker-7", machine=machine)
    assert lease is not None
    assert queue.client.get_lease(job.job_id) == lease
    assert (lease.attempt, lease.worker_id, lease.renewals) == (1, "worker-7", 0)
    running = stored_job(queue, lease)
    assert (running.status, running.attempt, has_queue_keys(queue, job.job_id)) == (JobStatus.RUNNING, 1, False)
    assert [found.job_id for found in queue.client.list_jobs_by_status("running")] == [job.job_id]
    (attempt,) = queue.client.list_attempts(job.job_id)
    assert (attempt.worker_id, attempt.machine, attempt.resume_step) == ("worker-7", machine, 0)
    assert attempt.started_at == running.started_at
    assert lease.expires_at == attempt.started_at + timedelta(seconds=90)


def test_a_claim_stays_in_its_queue(queue: JobQueue) -> None:
    submit(queue, queue="gpu")
    assert queue.claim("w") is None
    assert claim(queue, queue_name="gpu").attempt == 1


def test_a_refused_job_is_left_to_others_and_the_next_one_taken(queue: JobQueue) -> None:
    newer, known = submit(queue, "newer"), submit(queue, "known")
    lease = queue.claim("old worker", accepts=lambda job: job.name == "known")
    assert lease is not None
    assert lease.job_id == known.job_id
    assert queue.claim("old worker", accepts=lambda job: job.name == "known") is None
    assert claim(queue, "new worker").job_id == newer.job_id


def test_one_job_can_be_claimed_by_its_id_while_it_is_free(queue: JobQueue) -> None:
    submit(queue, "older")
    job = submit(queue)
    lease = queue.claim_job(job.job_id, "w")
    assert lease is not None
    assert lease.job_id == job.job_id
    assert queue.claim_job(job.job_id, "w2") is None


def test_a_worker_id_too_long_for_the_lease_is_refused(queue: JobQueue) -> None:
    submit(queue)
    with pytest.raises(InvalidInput, match="100 bytes"):
        queue.claim("w" * 101)


def test_a_later_attempt_starts_from_the_pointer_and_keeps_the_pointers_and_renewals(queue: JobQueue) -> None:
    lease = claimed(queue)
    queue.renew(lease, "half way")
    lease = queue.record_checkpoint(lease, pointer(10), pointer(10))
    lease = queue.record_checkpoint(lease, pointer(20), None)
    queue.release(lease, "spot")
    second = claim(queue, "w2")
    assert (second.checkpoint, second.previous, second.best) == (pointer(20), pointer(10), pointer(10))
    assert queue.client.get_lease(lease.job_id) == second
    assert (second.attempt, second.renewals, second.progress) == (2, 1, "")
    assert [attempt.resume_step for attempt in queue.client.list_attempts(lease.job_id)] == [0, 20]
    assert second.lease_token != lease.lease_token


def test_the_first_start_of_a_job_is_kept_over_attempts(queue: JobQueue) -> None:
    lease = claimed(queue)
    started = stored_job(queue, lease).started_at
    queue.release(lease, "spot")
    assert stored_job(queue, claim(queue)).started_at == started


# while held


def test_a_renewal_extends_the_lease_and_tells_the_progress(queue: JobQueue, clock: Clock) -> None:
    lease = claimed(queue)
    clock.pass_seconds(60)
    renewed = queue.renew(lease, "step 7")
    assert queue.client.get_lease(lease.job_id) == renewed
    assert (renewed.renewals, renewed.progress, renewed.cancel_requested) == (1, "step 7", False)
    assert renewed.expires_at is not None and lease.expires_at is not None
    assert renewed.expires_at - lease.expires_at >= timedelta(seconds=60)


def test_a_long_progress_text_is_cut_between_characters(queue: JobQueue) -> None:
    assert queue.renew(claimed(queue), "ü" * 500).progress == "ü" * 100


def test_the_pointer_moves_only_forward(queue: JobQueue) -> None:
    lease = claimed(queue)
    lease = queue.record_checkpoint(lease, pointer(10), pointer(10))
    assert (lease.checkpoint, lease.previous, lease.best) == (pointer(10), None, pointer(10))
    lease = queue.record_checkpoint(lease, pointer(20), None)
    assert (lease.checkpoint, lease.previous, lease.best) == (pointer(20), pointer(10), pointer(10))
    twin = pointer(20).model_copy(update={"manifest_sha256": "0" * 64})
    for refused in (pointer(19), twin):
        with pytest.raises(StateConflict, match="not behind"):
            queue.record_checkpoint(lease, refused, refused)
    assert queue.client.get_lease(lease.job_id) == lease


def test_recording_the_stored_pointer_again_changes_nothing(queue: JobQueue) -> None:
    lease = claimed(queue)
    queue.record_checkpoint(lease, pointer(10), None)
    lease = queue.record_checkpoint(lease, pointer(20), pointer(20))
    assert queue.record_checkpoint(lease, pointer(20), pointer(20)) == lease


def test_a_later_attempt_may_write_the_checkpoint_of_its_first_step_again(queue: JobQueue) -> None:
    first = queue.record_checkpoint(claimed(queue), pointer(10), None)
    queue.release(first, "spot")
    second = queue.record_checkpoint(claim(queue), pointer(10, attempt=2), None)
    assert (second.checkpoint, second.previous) == (pointer(10, attempt=2), pointer(10))
    with pytest.raises(StateConflict):
        queue.record_checkpoint(second, pointer(9, attempt=2), None)


# complete


def test_a_completed_job_has_its_results_its_summary_and_its_attempt_told(queue: JobQueue) -> None:
    lease = claimed(queue)
    end = AttemptEnd(last_step=40, lost_steps=0, checkpoints=2)
    assert queue.complete(lease, results={"f1": 0.5}, summary=summary(lease), end=end) is JobStatus.SUCCEEDED
    job = stored_job(queue, lease)
    assert (job.status, job.results) == (JobStatus.SUCCEEDED, {"f1": 0.5})
    assert job.ended_at is not None
    assert [found.job_id for found in queue.client.list_jobs_by_status("succeeded")] == [job.job_id]
    assert queue.client.list_jobs_by_status("running") == []
    (attempt,) = queue.client.list_attempts(lease.job_id)
    assert (attempt.outcome, attempt.last_step, attempt.lost_steps, attempt.checkpoints) == ("succeeded", 40, 0, 2)
    assert attempt.ended_at == job.ended_at
    assert queue.client.list_job_logs(lease.job_id) == [summary(lease)]
    released = queue.client.get_lease(lease.job_id)
    assert (released.lease_token, released.worker_id, released.expires_at) == (None, None, None)


def test_a_summary_whose_microsecond_is_taken_moves_to_the_next(queue: JobQueue) -> None:
    lease = claimed(queue)
    taken = summary(lease).model_copy(update={"event": "log", "seq": 1})
    queue.client.add_job_log(lease, taken)
    queue.complete(lease, results={}, summary=summary(lease))
    logs = queue.client.list_job_logs(lease.job_id)
    assert logs == [taken, summary(lease, NOON + timedelta(microseconds=1))]


def test_completing_twice_by_the_holder_is_one_completion(queue: JobQueue) -> None:
    lease = claimed(queue)
    assert queue.complete(lease, results={"f1": 1}, summary=summary(lease)) is JobStatus.SUCCEEDED
    assert queue.complete(lease, results={"f1": 0}, summary=summary(lease)) is JobStatus.SUCCEEDED
    assert stored_job(queue, lease).results == {"f1": 1}
    assert len(queue.client.list_job_logs(lease.job_id)) == 1


# fail


def test_a_failed_attempt_returns_to_the_queue_after_a_wait(queue: JobQueue, clock: Clock) -> None:
    lease = claimed(queue)
    assert queue.fail(lease, HANG, summary=summary(lease), end=AttemptEnd(last_step=3)) is JobStatus.PENDING
    job = stored_job(queue, lease)
    assert (job.error, job.budgets.errors, job.ended_at) == (HANG, 1, None)
    assert job.not_before is not None
    assert timedelta(0) < job.not_before - NOON < timedelta(seconds=31)
    assert queue.claim("w") is None
    assert queue.claim_job(lease.job_id, "w") is None
    clock.pass_seconds(31)
    assert claim(queue).attempt == 2
    first = queue.client.get_attempt(lease.job_id, 1)
    assert (first.outcome, first.last_step) == ("failed: hang", 3)
    assert [log.event for log in queue.client.list_job_logs(lease.job_id)] == ["run_summary"]


def test_a_job_in_its_wait_does_not_hold_up_the_next_one(queue: JobQueue) -> None:
    urgent = submit(queue, priority="critical")
    queue.fail(claim(queue), HANG)
    other = submit(queue)
    assert claim(queue).job_id == other.job_id
    assert has_queue_keys(queue, urgent.job_id)


def fail_until_the_end(queue: JobQueue, clock: Clock, error: JobError, *, steps: bool) -> tuple[Job, int]:
    """The job and the number of attempts it was given."""
    job = submit(queue)
    for attempt in range(1, 30):
        lease = claim(queue)
        if steps:
            lease = queue.record_checkpoint(lease, pointer(attempt, attempt), None)
        if queue.fail(lease, error) is JobStatus.FAILED:
            return queue.client.get_job(job.job_id, consistent=True), attempt
        clock.pass_seconds(1801)
    raise AssertionError("never gave up")


@pytest.mark.parametrize(
    ("cause", "steps", "attempts"),
    [("hang", True, 5), ("hang", False, 3), ("out_of_memory", True, 2), ("bad_data", True, 1)],
)
def test_a_job_fails_when_its_errors_are_used_up(
    queue: JobQueue, clock: Clock, cause: str, steps: bool, attempts: int
) -> None:
    error = JobError(cause=cause, message="m", page_ids=("p1",), log_tail="tail")
    job, tried = fail_until_the_end(queue, clock, error, steps=steps)
    assert (tried, job.status, job.error) == (attempts, JobStatus.FAILED, error)
    assert job.ended_at is not None
    assert not has_queue_keys(queue, job.job_id)
    assert job.budgets.interruptions == 0


# release


def test_a_released_job_is_interrupted_and_claimable_at_once(queue: JobQueue) -> None:
    lease = claimed(queue)
    assert queue.release(lease, "spot notice", end=AttemptEnd(last_step=5)) is JobStatus.INTERRUPTED
    job = stored_job(queue, lease)
    assert (job.status, job.budgets.interruptions, job.budgets.errors) == (JobStatus.INTERRUPTED, 1, 0)
    assert has_queue_keys(queue, job.job_id)
    assert queue.client.get_attempt(lease.job_id, 1).outcome == "interrupted: spot notice"
    assert claim(queue).attempt == 2


@pytest.mark.parametrize(("steps", "attempts"), [(True, 21), (False, 5)])
def test_a_job_fails_with_a_reason_when_its_interruptions_are_used_up(
    queue: JobQueue, steps: bool, attempts: int
) -> None:
    submit(queue)
    for attempt in range(1, attempts + 1):
        lease = claim(queue)
        if steps:
            lease = queue.record_checkpoint(lease, pointer(attempt, attempt), None)
        status = queue.release(lease, "spot")
        assert status is (JobStatus.FAILED if attempt == attempts else JobStatus.INTERRUPTED)
    job = stored_job(queue, lease)
    assert job.error is not None
    assert f"given up after {attempts} interruptions" in job.error.message
    assert not has_queue_keys(queue, job.job_id)


# cancel


@pytest.mark.parametrize("released_first", [False, True], ids=["pending", "interrupted"])
def test_a_job_that_nobody_holds_is_cancelled_at_once(queue: JobQueue, released_first: bool) -> None:
    job = submit(queue)
    if released_first:
        queue.release(claim(queue), "spot")
    assert queue.cancel(job.job_id) is JobStatus.CANCELLED
    stored = queue.client.get_job(job.job_id, consistent=True)
    assert (stored.status, has_queue_keys(queue, job.job_id)) == (JobStatus.CANCELLED, False)
    assert stored.ended_at is not None
    assert queue.claim("w") is None
    assert queue.claim_job(job.job_id, "w") is None
    assert queue.cancel(job.job_id) is JobStatus.CANCELLED


@pytest.mark.parametrize("end", ["complete", "fail", "release", "acknowledge"])
def test_a_running_job_that_is_cancelled_ends_as_cancelled_however_its_holder_ends_it(
    queue: JobQueue, end: str
) -> None:
    lease = claimed(queue)
    assert queue.cancel(lease.job_id) is JobStatus.RUNNING
    assert queue.cancel(lease.job_id) is JobStatus.RUNNING
    assert queue.renew(lease).cancel_requested
    ways = {
        "complete": lambda: queue.complete(lease, results={"f1": 1}, summary=summary(lease)),
        "fail": lambda: queue.fail(lease, HANG, summary=summary(lease)),
        "release": lambda: queue.release(lease, "spot"),
        "acknowledge": lambda: queue.acknowledge_cancel(lease, end=AttemptEnd(last_step=4)),
    }
    assert ways[end]() is JobStatus.CANCELLED
    job = stored_job(queue, lease)
    assert (job.status, job.results, job.error) == (JobStatus.CANCELLED, None, None)
    assert (job.budgets.errors, job.budgets.interruptions) == (0, 0)
    assert queue.client.get_attempt(lease.job_id, 1).outcome == "cancelled"
    assert queue.client.get_lease(lease.job_id).lease_token is None
    assert queue.claim("w") is None


@pytest.mark.parametrize("status", [JobStatus.SUCCEEDED, JobStatus.FAILED])
def test_a_job_that_has_ended_cannot_be_cancelled(queue: JobQueue, status: JobStatus) -> None:
    lease = claimed(queue)
    if status is JobStatus.SUCCEEDED:
        queue.complete(lease, results={}, summary=summary(lease))
    else:
        queue.fail(lease, JobError(cause="bad_data", message=""))
    with pytest.raises(StateConflict, match=status.value):
        queue.cancel(lease.job_id)
    assert stored_job(queue, lease).status is status


# rescue


def test_a_job_is_rescued_only_after_its_lease_ran_out_by_30_seconds(queue: JobQueue, clock: Clock) -> None:
    lease = claimed(queue)
    clock.pass_seconds(LEASE_AND_GRACE - 0.1)
    assert queue.rescue() == []
    assert queue.renew(lease).renewals == 1
    clock.pass_seconds(LEASE_AND_GRACE - 0.1)
    assert queue.rescue() == []
    clock.pass_seconds(0.2)
    (job,) = queue.rescue()
    assert (job.job_id, job.status, job.budgets.interruptions) == (lease.job_id, JobStatus.INTERRUPTED, 1)
    assert queue.client.get_attempt(lease.job_id, 1).outcome == "lease expired"
    assert queue.rescue() == []
    assert claim(queue).attempt == 2


def test_a_holder_that_renews_between_the_rescuers_read_and_write_keeps_its_job(queue: JobQueue, clock: Clock) -> None:
    lease = claimed(queue)
    clock.pass_seconds(LEASE_AND_GRACE + 1)

    def renew_first() -> datetime:
        queue.renew(lease)
        return clock()

    late_rescuer = JobQueue(queue.client, now=renew_first)
    assert late_rescuer.rescue() == []
    assert stored_job(queue, lease).status is JobStatus.RUNNING
    assert queue.renew(lease).attempt == 1


def test_a_cancel_between_the_rescuers_read_and_write_is_not_lost(queue: JobQueue, clock: Clock) -> None:
    lease = claimed(queue)
    clock.pass_seconds(LEASE_AND_GRACE + 1)

    def cancel_first() -> datetime:
        queue.cancel(lease.job_id)
        return clock()

    assert JobQueue(queue.client, now=cancel_first).rescue() == []
    (job,) = queue.rescue()
    assert job.status is JobStatus.CANCELLED


def test_a_rescued_job_that_was_to_be_cancelled_ends_as_cancelled(queue: JobQueue, clock: Clock) -> None:
    lease = claimed(queue)
    queue.cancel(lease.job_id)
    clock.pass_seconds(LEASE_AND_GRACE + 1)
    (job,) = queue.rescue()
    assert (job.status, job.budgets.interruptions) == (JobStatus.CANCELLED, 0)
    assert queue.claim("w") is None


def test_a_job_whose_workers_keep_dying_fails_in_the_end(queue: JobQueue, clock: Clock) -> None:
    submit(queue)
    for _ in range(5):
        claim(queue)
        clock.pass_seconds(LEASE_AND_GRACE + 1)
        (job,) = queue.rescue()
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert "5 interruptions in a row" in job.error.message


def test_errors_and_interruptions_of_one_job_are_counted_apart(queue: JobQueue, clock: Clock) -> None:
    lease = claimed(queue)
    queue.release(lease, "spot")
    queue.fail(claim(queue), HANG)
    clock.pass_seconds(31)
    claim(queue)
    clock.pass_seconds(LEASE_AND_GRACE + 1)
    (job,) = queue.rescue()
    assert (job.budgets.errors, job.budgets.interruptions) == (1, 2)
    assert (job.budgets.errors_in_a_row, job.budgets.interruptions_in_a_row) == (1, 2)


# the fence


ENDS = ["complete", "fail", "release", "cancel", "rescue", "taken over"]


@pytest.mark.parametrize("end", ENDS)
def test_after_an_end_every_write_of_the_old_holder_is_refused_and_stores_nothing(
    queue: JobQueue, clock: Clock, dynamo: "DynamoDBClient", table_name: str, end: str
) -> None:
    lease = queue.record_checkpoint(claimed(queue), pointer(10), None)
    end_lease(queue, clock, lease, end)
    before = rows_of(dynamo, table_name)
    metric = JobMetric(
        job_id=lease.job_id, timestamp=NOON, metric_name="f", metric_value=1, global_step=1, attempt=1, seq=1
    )
    late_writes = [
        lambda: queue.renew(lease, "still here"),
        lambda: queue.record_checkpoint(lease, pointer(20), pointer(20)),
        lambda: queue.client.add_job_metric(lease, metric),
        lambda: queue.client.add_job_log(lease, summary(lease)),
    ]
    if end in ("rescue", "taken over"):  # its own end was not acknowledged, so it has to learn of the other
        late_writes += [
            lambda: queue.complete(lease, results={}, summary=summary(lease)),
            lambda: queue.fail(lease, HANG, summary=summary(lease)),
            lambda: queue.release(lease, "spot"),
            lambda: queue.acknowledge_cancel(lease),
        ]
    for write in late_writes:
        with pytest.raises(LeaseLost):
            write()
    assert rows_of(dynamo, table_name) == before


def end_lease(queue: JobQueue, clock: Clock, lease: Lease, end: str) -> None:
    if end == "complete":
        queue.complete(lease, results={}, summary=summary(lease, NOON + timedelta(seconds=1)))
    elif end == "fail":
        queue.fail(lease, HANG)
    elif end == "release":
        queue.release(lease, "spot")
    elif end == "cancel":
        queue.cancel(lease.job_id)
        queue.acknowledge_cancel(lease)
    else:
        clock.pass_seconds(LEASE_AND_GRACE + 1)
        assert len(queue.rescue()) == 1
    if end == "taken over":
        assert claim(queue, "w2").attempt == 2


@pytest.mark.parametrize("end", ["complete", "fail", "release"])
def test_an_end_that_was_acknowledged_is_repeated_without_effect(queue: JobQueue, clock: Clock, end: str) -> None:
    lease = claimed(queue)
    end_lease(queue, clock, lease, end)
    before = stored_job(queue, lease)
    assert queue.release(lease, "again") is before.status
    assert queue.complete(lease, results={"f1": 1}, summary=summary(lease)) is before.status
    assert stored_job(queue, lease) == before


def test_metrics_that_a_later_attempt_ran_again_are_hidden_but_kept(queue: JobQueue) -> None:
    def evaluate(lease: Lease, step: int) -> None:
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

    first = claimed(queue)
    evaluate(first, 10)
    first = queue.record_checkpoint(first, pointer(10), None)
    evaluate(first, 20)
    queue.release(first, "spot")
    second = claim(queue)
    evaluate(second, 20)

    def shown(metrics: list[JobMetric]) -> list[tuple[int | None, int | None]]:
        return [(metric.attempt, metric.global_step) for metric in metrics]

    assert shown(queue.client.list_job_metrics(first.job_id)) == [(1, 10), (2, 20)]
    assert shown(queue.client.list_all_job_metrics(first.job_id)) == [(1, 10), (1, 20), (2, 20)]


# delete


@pytest.mark.parametrize("status", ["pending", "running", "interrupted"])
def test_only_a_job_in_a_final_state_is_deleted(queue: JobQueue, status: str) -> None:
    job = submit(queue)
    if status != "pending":
        lease = claim(queue)
        if status == "interrupted":
            queue.release(lease, "spot")
    with pytest.raises(StateConflict, match="cancel it first"):
        queue.delete(job.job_id)
    assert queue.client.get_job(job.job_id, consistent=True).status == status
    assert queue.client.get_lease(job.job_id) is not None


def test_deleting_a_job_removes_all_its_rows_and_nothing_else(
    queue: JobQueue, dynamo: "DynamoDBClient", table_name: str
) -> None:
    other = submit(queue, "other", queue="elsewhere")
    kept = rows_of(dynamo, table_name)
    lease = claimed(queue)
    queue.complete(lease, results={}, summary=summary(lease))
    assert queue.delete(lease.job_id) == 4  # Job, Lease, Attempt, JobLog
    assert rows_of(dynamo, table_name) == kept
    with pytest.raises(NotFound):
        queue.delete(lease.job_id)
    assert queue.client.get_job(other.job_id) == other

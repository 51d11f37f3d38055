"""Transitions under lost replies, conflicts, crowds and broken-off deletions; and how many requests each costs."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from pynamodb.expressions.update import Action

from receipt_dynamo import (
    DynamoClient,
    JobError,
    JobQueue,
    JobStatus,
    Lease,
    LeaseLost,
    NotFound,
    Pointer,
    StateConflict,
    StoreError,
    Timing,
    WriteTimeout,
)
from receipt_dynamo.items import JobItem, LeaseItem, job_key, lease_key, pointer_map
from receipt_dynamo.writes import update
from tests.support.jobs import claimed, evaluation, summary
from tests.support.stores import Clock
from tests.support.wire import Patience, Wire, twice

pytestmark = pytest.mark.engine

HANG = JobError(cause="hang", message="")
FIRST, SECOND = (Pointer(attempt=1, global_step=step, manifest_sha256=f"{step:064d}") for step in (10, 20))


def complete(queue: JobQueue, lease: Lease) -> JobStatus:
    return queue.complete(lease, results={"f1": 0.5}, summary=summary(lease))


# lost replies


@twice
def test_a_submit_whose_reply_is_lost_is_one_job(queue: JobQueue, wire: Wire, patience: Patience, times: int) -> None:
    wire.lose_reply("TransactWriteItems", times=times)
    job = queue.submit(name="a-job", config={}, created_by="me")
    assert queue.client.list_jobs() == [job]
    assert len(patience.waits) == times - 1


@twice
def test_a_claim_whose_reply_is_lost_is_one_attempt_and_the_lease_is_ours(
    queue: JobQueue, wire: Wire, patience: Patience, times: int
) -> None:
    queue.submit(name="a-job", config={}, created_by="me")
    wire.lose_reply("TransactWriteItems", times=times)
    lease = queue.claim("w")
    assert lease is not None
    assert queue.client.get_lease(lease.job_id) == lease
    assert len(queue.client.list_attempts(lease.job_id)) == 1


def test_a_claim_applied_behind_a_conflict_is_still_ours(queue: JobQueue, wire: Wire, patience: Patience) -> None:
    queue.submit(name="a-job", config={}, created_by="me")
    wire.lose_reply("TransactWriteItems")
    wire.refuse("TransactWriteItems", "TransactionCanceledException", reasons=("None", "TransactionConflict", "None"))
    lease = queue.claim("w")
    assert lease is not None
    assert queue.client.get_lease(lease.job_id) == lease
    assert (lease.attempt, len(queue.client.list_attempts(lease.job_id))) == (1, 1)


@twice
def test_a_renewal_whose_reply_is_lost_still_holds(queue: JobQueue, wire: Wire, patience: Patience, times: int) -> None:
    lease = claimed(queue)
    wire.lose_reply("UpdateItem", times=times)
    renewed = queue.renew(lease, "on")
    assert renewed == queue.client.get_lease(lease.job_id)
    assert (renewed.lease_token, renewed.progress) == (lease.lease_token, "on")


@twice
def test_a_pointer_whose_reply_is_lost_has_moved_once(
    queue: JobQueue, wire: Wire, patience: Patience, times: int
) -> None:
    lease = queue.record_checkpoint(claimed(queue), FIRST, FIRST)
    wire.lose_reply("UpdateItem", times=times)
    moved = queue.record_checkpoint(lease, SECOND, None)
    assert (moved.checkpoint, moved.previous, moved.best) == (SECOND, FIRST, FIRST)
    assert moved == queue.client.get_lease(lease.job_id)


ENDS: dict[JobStatus, Callable[[JobQueue, Lease], JobStatus]] = {
    JobStatus.SUCCEEDED: complete,
    JobStatus.PENDING: lambda queue, lease: queue.fail(lease, HANG, summary=summary(lease)),
    JobStatus.INTERRUPTED: lambda queue, lease: queue.release(lease, "spot"),
    JobStatus.CANCELLED: lambda queue, lease: queue.acknowledge_cancel(lease),
}
each_end = pytest.mark.parametrize("status", ENDS)


def end_of(queue: JobQueue, lease: Lease) -> tuple[JobStatus, int, int, int]:
    job = queue.client.get_job(lease.job_id, consistent=True)
    logs = queue.client.list_job_logs(lease.job_id)
    return job.status, job.budgets.errors, job.budgets.interruptions, len(logs)


def expected_end(status: JobStatus) -> tuple[JobStatus, int, int, int]:
    has_summary = status in (JobStatus.SUCCEEDED, JobStatus.PENDING)
    return status, int(status is JobStatus.PENDING), int(status is JobStatus.INTERRUPTED), int(has_summary)


@each_end
@twice
def test_an_end_whose_reply_is_lost_happened_once(
    queue: JobQueue, wire: Wire, patience: Patience, times: int, status: JobStatus
) -> None:
    lease = claimed(queue)
    wire.lose_reply("TransactWriteItems", times=times)
    assert ENDS[status](queue, lease) is status
    assert end_of(queue, lease) == expected_end(status)


@each_end
def test_an_end_applied_behind_a_conflict_is_known_by_its_signature(
    queue: JobQueue, wire: Wire, patience: Patience, status: JobStatus
) -> None:
    lease = claimed(queue)
    wire.lose_reply("TransactWriteItems")
    wire.refuse("TransactWriteItems", "TransactionCanceledException", reasons=("None", "TransactionConflict", "None"))
    assert ENDS[status](queue, lease) is status
    assert end_of(queue, lease) == expected_end(status)


# conflicts


def every_step(queue: JobQueue, disturb: Callable[[], None]) -> tuple[JobStatus, int]:
    """One job through every write of its life, with `disturb` before each; its status and visible evaluations."""
    disturb()
    job = queue.submit(name="a-job", config={}, created_by="me")
    disturb()
    lease = queue.claim("w")
    assert lease is not None
    disturb()
    queue.renew(lease, "on")
    disturb()
    queue.client.add_job_metric(lease, evaluation(lease))
    disturb()
    lease = queue.record_checkpoint(lease, FIRST, FIRST)
    disturb()
    queue.release(lease, "spot")
    second = queue.claim("w")
    assert second is not None
    assert second.checkpoint == FIRST
    disturb()
    status = complete(queue, second)
    return status, len(queue.client.list_job_metrics(job.job_id))


def test_no_conflict_loses_a_write(queue: JobQueue, wire: Wire, patience: Patience) -> None:
    def conflict() -> None:
        wire.refuse("UpdateItem", "TransactionConflictException", times=2)
        reasons = ("None", "TransactionConflict")
        wire.refuse("TransactWriteItems", "TransactionCanceledException", reasons=reasons, times=2)

    assert every_step(queue, conflict) == (JobStatus.SUCCEEDED, 1)
    assert len(patience.waits) >= 12


def test_a_write_gives_up_when_the_lease_is_over(queue: JobQueue, wire: Wire, patience: Patience) -> None:
    lease = claimed(queue)
    wire.refuse("UpdateItem", "TransactionConflictException", times=10_000)
    with pytest.raises(WriteTimeout):
        queue.renew(lease)
    assert abs(sum(patience.waits) - Timing().lease_seconds) < 1


def test_a_write_under_a_lease_claimed_long_ago_still_has_some_patience(
    queue: JobQueue, wire: Wire, patience: Patience, clock: Clock
) -> None:
    lease = claimed(queue)
    clock.pass_seconds(60)
    queue.renew(lease)
    clock.pass_seconds(60)
    wire.refuse("TransactWriteItems", "TransactionCanceledException", reasons=("TransactionConflict",), times=20)
    assert complete(queue, lease) is JobStatus.SUCCEEDED


# between the read of a lease and the claim


MOVED: dict[str, list[Action]] = {
    "held": [LeaseItem.lease_token.set("another's")],
    "cancelled": [LeaseItem.cancel_requested.set(True)],
    "a later attempt": [LeaseItem.attempt.set(5)],
    "another pointer": [LeaseItem.checkpoint.set(pointer_map(FIRST))],
}


def between_lease_and_claim(clock: Clock, do: Callable[[], object]) -> Callable[[], datetime]:
    """A clock that is read for what is due, and then, once the lease is read, for the claim: that is when it moves."""
    readings = iter([lambda: None, do])

    def read() -> datetime:
        next(readings)()
        return clock()

    return read


@pytest.mark.parametrize("moved", MOVED)
def test_a_lease_that_moved_since_it_was_read_is_not_claimed(
    queue: JobQueue, client: DynamoClient, clock: Clock, moved: str
) -> None:
    job = queue.submit(name="a-job", config={}, created_by="me")

    def move() -> None:
        client.writer.execute(update(lease_key(job.job_id), MOVED[moved], LeaseItem.pk.exists()))

    assert JobQueue(client, now=between_lease_and_claim(clock, move)).claim("w") is None
    assert client.get_job(job.job_id, consistent=True) == job
    assert client.list_attempts(job.job_id) == []


@pytest.mark.parametrize("status", [JobStatus.RUNNING, JobStatus.CANCELLED, JobStatus.SUCCEEDED])
def test_a_job_that_moved_since_its_lease_was_read_is_not_claimed(
    queue: JobQueue, client: DynamoClient, clock: Clock, status: JobStatus
) -> None:
    job = queue.submit(name="a-job", config={}, created_by="me")

    def move() -> None:
        client.writer.execute(update(job_key(job.job_id), [JobItem.status.set(status)], JobItem.pk.exists()))

    assert JobQueue(client, now=between_lease_and_claim(clock, move)).claim("w") is None
    assert client.get_job(job.job_id, consistent=True).status is status
    assert client.get_lease(job.job_id) == Lease(job_id=job.job_id, attempt=0)


def test_an_end_does_not_overwrite_a_job_that_another_attempt_runs(queue: JobQueue, client: DynamoClient) -> None:
    lease = claimed(queue)
    client.writer.execute(update(job_key(lease.job_id), [JobItem.attempt.set(2)], JobItem.pk.exists()))
    with pytest.raises(LeaseLost):
        complete(queue, lease)
    job = client.get_job(lease.job_id, consistent=True)
    assert (job.status, job.results) == (JobStatus.RUNNING, None)
    assert client.get_lease(lease.job_id) == lease


@pytest.mark.parametrize("status", [JobStatus.INTERRUPTED, JobStatus.SUCCEEDED])
def test_a_cancel_decides_again_when_the_job_moved_since_it_was_read(
    queue: JobQueue, client: DynamoClient, clock: Clock, status: JobStatus
) -> None:
    lease = claimed(queue)

    def end_first() -> datetime:
        ENDS[status](queue, lease)
        return clock()

    canceller = JobQueue(client, now=end_first)
    if status is JobStatus.INTERRUPTED:
        assert canceller.cancel(lease.job_id) is JobStatus.CANCELLED
    else:
        with pytest.raises(StateConflict):
            canceller.cancel(lease.job_id)
    assert client.get_lease(lease.job_id).cancel_requested is (status is JobStatus.INTERRUPTED)


# crowds


def test_sixteen_workers_never_claim_one_job_twice(queue: JobQueue) -> None:
    for number in range(40):
        queue.submit(name=f"job-{number}", config={}, created_by="me")

    def work(number: int) -> list[Lease]:
        leases = []
        while (lease := queue.claim(f"worker-{number}")) is not None:
            leases.append(lease)
        return leases

    with ThreadPoolExecutor(16) as pool:
        leases = [lease for taken in pool.map(work, range(16)) for lease in taken]
    assert len({lease.job_id for lease in leases}) == len(leases) == 40
    for lease in leases:
        assert queue.client.get_lease(lease.job_id).lease_token == lease.lease_token
        assert [each.worker_id for each in queue.client.list_attempts(lease.job_id)] == [lease.worker_id]


def test_many_submits_of_one_key_at_once_are_one_job(queue: JobQueue) -> None:
    def submit(number: int) -> str:
        return queue.submit(name=f"job-{number}", config={}, created_by="me", unique_key="k").job_id

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(submit, range(24)))
    assert len(ids) == len(queue.client.list_jobs()) == 1


def test_many_rescuers_and_the_holder_agree_on_one_end(queue: JobQueue, clock: Clock) -> None:
    lease = claimed(queue)
    clock.pass_seconds(200)

    def end(number: int) -> str:
        if number:
            return "rescued" if queue.rescue() else "nothing"
        try:
            return complete(queue, lease)
        except LeaseLost:
            return "lost"

    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(end, range(8)))
    status = queue.client.get_job(lease.job_id, consistent=True).status
    assert (ends[0], ends.count("rescued"), status) in [
        ("succeeded", 0, JobStatus.SUCCEEDED),
        ("lost", 1, JobStatus.INTERRUPTED),
    ]


def test_a_cancel_that_races_with_a_claim_is_never_lost(queue: JobQueue) -> None:
    ids = [queue.submit(name="a-job", config={}, created_by="me").job_id for _ in range(16)]
    with ThreadPoolExecutor(8) as pool:
        claims = [pool.submit(queue.claim, "w") for _ in ids]
        replies = dict(zip(ids, pool.map(queue.cancel, ids), strict=True))
        leases = [lease for claim in claims if (lease := claim.result()) is not None]
    for lease in leases:
        assert replies[lease.job_id] is JobStatus.RUNNING
        assert complete(queue, lease) is JobStatus.CANCELLED
    assert len(queue.client.list_jobs_by_status("cancelled")) == 16


# deletion that breaks off


@pytest.mark.parametrize(
    ("operation", "deleted"), [("DeleteItem", 0), ("DeleteItem", 1), ("DeleteItem", 2), ("TransactWriteItems", 0)]
)
def test_a_deletion_that_breaks_off_leaves_the_job_and_can_be_repeated(
    queue: JobQueue, wire: Wire, operation: str, deleted: int
) -> None:
    lease = claimed(queue)
    queue.client.add_job_metric(lease, evaluation(lease))
    complete(queue, lease)  # the rows are a metric, a log and an attempt, then Lease and Job
    wire.let_pass(operation, times=deleted)
    wire.refuse(operation, "AccessDenied")
    with pytest.raises(StoreError):
        queue.delete(lease.job_id)
    assert queue.client.get_job(lease.job_id, consistent=True).status is JobStatus.SUCCEEDED
    assert queue.client.get_lease(lease.job_id).attempt == 1
    queue.delete(lease.job_id)
    assert list(queue.client.iter_job_rows(lease.job_id)) == []
    with pytest.raises(NotFound):
        queue.client.get_job(lease.job_id, consistent=True)


# what each transition costs


def test_each_transition_costs_the_documented_requests(queue: JobQueue, wire: Wire) -> None:
    queue.submit(name="a-job", config={}, created_by="me")
    assert wire.counted() == {"TransactWriteItems": 1}
    lease = queue.claim("w")
    assert lease is not None
    assert wire.counted() == {"Query": 1, "GetItem": 1, "TransactWriteItems": 1}
    queue.renew(lease, "on")
    assert wire.counted() == {"UpdateItem": 1}
    queue.client.add_job_metric(lease, evaluation(lease))
    assert wire.counted() == {"TransactWriteItems": 1}
    assert len(wire.bodies[-1]["TransactItems"]) == 2
    queue.record_checkpoint(lease, FIRST, FIRST)
    assert wire.counted() == {"UpdateItem": 1}
    complete(queue, lease)
    assert wire.counted() == {"TransactWriteItems": 1}
    logs = queue.client.list_job_logs(lease.job_id)
    assert [log.event for log in logs] == ["run_summary"]


def test_a_renewal_of_a_full_lease_costs_one_write_unit(queue: JobQueue, wire: Wire) -> None:
    queue.submit(name="a-job", config={}, created_by="me")
    lease = queue.claim("w" * 100)
    assert lease is not None
    for step in (10_000_000, 20_000_000):
        pointer = Pointer(attempt=1, global_step=step, manifest_sha256="f" * 64)
        lease = queue.record_checkpoint(lease, pointer, pointer)
    queue.cancel(lease.job_id)
    full = queue.renew(lease, "p" * 200)
    assert None not in (full.checkpoint, full.best, full.previous, full.expires_at)
    assert wire.replies[-1]["ConsumedCapacity"]["CapacityUnits"] == 1


def test_a_rescue_that_finds_nothing_only_reads(queue: JobQueue, wire: Wire, clock: Clock) -> None:
    claimed(queue)
    clock.pass_seconds(60)
    wire.counted()
    assert queue.rescue() == []
    assert wire.counted() == {"Query": 1, "GetItem": 1}

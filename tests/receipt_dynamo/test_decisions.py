"""What is removed is decided first, under a condition, so that nobody retries or resumes it meanwhile."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from receipt_dynamo import (
    Dataset,
    DynamoClient,
    ForgottenPage,
    JobError,
    JobQueue,
    JobStatus,
    Lease,
    NotFound,
    StateConflict,
    StoreError,
)
from receipt_dynamo.transitions import retry_writes
from receipt_dynamo.writes import ConditionFailed
from tests.support.jobs import claim, claimed, evaluation, pointer, submit
from tests.support.stores import Clock

pytestmark = pytest.mark.engine

BAD = JobError(cause="bad_data", message="page 7 has no words")
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Killed(BaseException):
    pass


def failed(queue: JobQueue) -> Lease:
    """A job that failed with checkpoints at 10 and 20, of which 10 was the best."""
    lease = claimed(queue)
    queue.client.add_job_metric(lease, evaluation(lease))
    lease = queue.record_checkpoint(lease, pointer(10), pointer(10))
    lease = queue.record_checkpoint(lease, pointer(20), None)
    assert queue.fail(lease, BAD) is JobStatus.FAILED
    return lease


def at_request(client: DynamoClient, number: int, does: Callable[[], object]) -> None:
    """Do this before the request of that number, once."""
    numbers = itertools.count()

    def before_send(**_: object) -> None:
        if next(numbers) == number:
            does()

    client.raw.meta.events.register_first("before-send.dynamodb", before_send)


def kill() -> None:
    raise Killed


@pytest.fixture
def other(table_name: str, dynamo_endpoint: str, clock: Clock) -> JobQueue:
    """Another person's queue of the same table."""
    return JobQueue(DynamoClient(table_name, endpoint_url=dynamo_endpoint), now=clock)


def test_a_job_that_is_being_deleted_is_neither_retried_nor_claimed(queue: JobQueue) -> None:
    job_id = failed(queue).job_id
    before, lease = queue.client.get_job(job_id), queue.client.get_lease(job_id)

    queue.decide_to_delete(job_id)

    with pytest.raises(StateConflict, match=f"is being deleted: `layoutlm-cli job delete {job_id[:8]}` finishes that"):
        queue.retry(job_id)
    with pytest.raises(ConditionFailed):  # nor by a version that knows nothing of deletions
        queue.client.writer.execute(*retry_writes(before, lease, queue.now()))
    assert queue.claim_job(job_id, "w") is None
    assert queue.client.get_job(job_id).status is JobStatus.FAILED


def test_a_retried_job_is_not_deleted(queue: JobQueue, other: JobQueue) -> None:
    job_id = failed(queue).job_id
    at_request(queue.client, 2, lambda: other.retry(job_id))  # after both reads

    with pytest.raises(StateConflict, match="is pending: cancel it first"):
        queue.decide_to_delete(job_id)

    assert claim(other).checkpoint == pointer(20)


@pytest.mark.parametrize("number", range(12))
def test_a_deletion_that_was_killed_is_finished_by_the_next_one(queue: JobQueue, other: JobQueue, number: int) -> None:
    job_id = failed(queue).job_id
    at_request(queue.client, number, kill)
    try:
        queue.delete(job_id)
    except Killed:
        assert other.client.get_job(job_id).status is JobStatus.FAILED
        other.delete(job_id)
    assert list(other.client.iter_job_rows(job_id)) == []


@pytest.mark.parametrize("number", range(12))
def test_two_deletions_at_once_end_alike(queue: JobQueue, other: JobQueue, number: int) -> None:
    job_id = failed(queue).job_id
    at_request(queue.client, number, lambda: other.delete(job_id))
    try:
        queue.delete(job_id)
    except NotFound as error:
        assert f"no job {job_id}" in str(error)
    assert list(other.client.iter_job_rows(job_id)) == []


@pytest.mark.parametrize("number", range(12))
def test_a_retry_against_a_deletion_wins_before_it_or_is_told(queue: JobQueue, other: JobQueue, number: int) -> None:
    job_id = failed(queue).job_id
    told: list[object] = []

    def retry() -> None:
        try:
            told.append(other.retry(job_id).status)
        except StoreError as error:
            told.append(error)

    at_request(queue.client, number, retry)
    try:
        queue.delete(job_id)
    except StateConflict:
        assert told == [JobStatus.PENDING] and claim(other).checkpoint == pointer(20)
    else:
        assert list(other.client.iter_job_rows(job_id)) == []
        assert not told or isinstance(told[0], StateConflict | NotFound)


def names_20(checkpoint: Any) -> bool:
    return checkpoint == pointer(20)


def test_a_pruned_job_that_is_retried_starts_over_and_keeps_the_pointer_to_its_best(queue: JobQueue) -> None:
    job = queue.client.get_job(failed(queue).job_id)

    assert queue.decide_to_prune(job, names_20)
    assert queue.decide_to_prune(job, names_20)  # repeated, as after a kill

    queue.retry(job.job_id)
    lease = claim(queue)
    assert (lease.checkpoint, lease.best, lease.previous) == (None, pointer(10), pointer(10))
    assert queue.client.get_attempt(job.job_id, 2).resume_step == 0


@pytest.mark.parametrize("number", [0, 1])
def test_a_job_that_is_retried_before_it_is_pruned_keeps_its_checkpoint(
    queue: JobQueue, other: JobQueue, number: int
) -> None:
    job = queue.client.get_job(failed(queue).job_id)
    at_request(queue.client, number, lambda: other.retry(job.job_id))

    assert not queue.decide_to_prune(job, names_20)

    assert claim(other).checkpoint == pointer(20)


def test_a_job_that_failed_again_since_it_was_listed_is_not_pruned(queue: JobQueue, clock: Clock) -> None:
    job = queue.client.get_job(failed(queue).job_id)
    queue.retry(job.job_id)
    queue.fail(claim(queue), BAD)

    assert not queue.decide_to_prune(job, names_20)
    assert queue.client.get_lease(job.job_id).checkpoint == pointer(20)


def test_a_job_that_never_ended_is_not_pruned(queue: JobQueue) -> None:
    job = submit(queue)
    assert not queue.decide_to_prune(job, names_20)


def test_a_page_that_is_excluded_while_a_snapshot_is_made_is_noticed(client: DynamoClient) -> None:
    dataset = Dataset(name="mine", created_at=NOON, fingerprint="f", source="files")
    page = ForgottenPage(page_id="p", forgotten_at=NOON, forgotten_by="me")
    before = client.count_exclusions()
    client.add_forgotten(page)

    with pytest.raises(StateConflict, match="pages were excluded while snapshot 'mine' was being made"):
        client.add_dataset(dataset, before)

    assert client.list_datasets() == []
    client.add_dataset(dataset, client.count_exclusions())
    assert [each.page_id for each in client.list_forgotten()] == ["p"]
    assert [each.name for each in client.list_datasets()] == ["mine"]

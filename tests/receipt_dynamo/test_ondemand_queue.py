"""A job that loses one spot machine after the other goes to the queue of on-demand machines."""

from datetime import timedelta

import pytest

from receipt_dynamo import DynamoClient, Job, JobQueue, JobStatus, Lease, StateConflict, Timing
from tests.support.stores import Clock

AFTER = 3
A_MOMENT = timedelta(seconds=1)  # the clock ticks


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(client: DynamoClient, clock: Clock) -> JobQueue:
    return JobQueue(client, now=clock, timing=Timing(ondemand_after=AFTER))


def submit(queue: JobQueue) -> Job:
    return queue.submit(name="a", config={}, created_by="me", queue="spot")


def claimed(queue: JobQueue, name: str = "spot") -> Lease:
    lease = queue.claim("a-worker", name)
    assert lease is not None
    return lease


def test_the_last_of_so_many_interruptions_within_an_hour_moves_the_job(queue: JobQueue, clock: Clock) -> None:
    job = submit(queue)
    for _ in range(AFTER):
        assert queue.client.get_job(job.job_id).queue == "spot"
        queue.release(claimed(queue), "spot notice")
        clock.pass_seconds(600)
    moved = queue.client.get_job(job.job_id)
    assert (moved.queue, moved.status) == ("spot.ondemand", JobStatus.INTERRUPTED)
    assert list(queue.client.iter_queue("spot")) == []
    assert [each.job_id for each in queue.client.iter_queue("spot.ondemand")] == [job.job_id]
    assert moved.moved_at is not None and abs(clock() - moved.moved_at - timedelta(seconds=600)) < A_MOMENT
    assert claimed(queue, "spot.ondemand").attempt == AFTER + 1


def test_interruptions_further_apart_than_the_window_move_nothing(queue: JobQueue, clock: Clock) -> None:
    job = submit(queue)
    for _ in range(4):
        queue.release(claimed(queue), "spot notice")
        clock.pass_seconds(1801)  # at most two within an hour
    stored = queue.client.get_job(job.job_id)
    assert stored.queue == "spot"
    assert len(stored.interrupted_at) < AFTER


def test_a_machine_that_died_without_a_word_counts_as_well(queue: JobQueue, clock: Clock) -> None:
    job = submit(queue)
    for _ in range(AFTER):
        claimed(queue)
        clock.pass_seconds(121)
        assert len(queue.rescue()) == 1
    assert queue.client.get_job(job.job_id).queue == "spot.ondemand"


def test_a_job_that_is_interrupted_there_too_stays(queue: JobQueue, clock: Clock) -> None:
    job = submit(queue)
    for name in ("spot",) * AFTER + ("spot.ondemand",):
        queue.release(claimed(queue, name), "spot notice")
    assert queue.client.get_job(job.job_id).queue == "spot.ondemand"


def test_where_nothing_is_said_jobs_keep_their_queue(client: DynamoClient, clock: Clock) -> None:
    queue = JobQueue(client, now=clock)
    job = submit(queue)
    for _ in range(4):
        queue.release(claimed(queue), "spot notice")
    stored = client.get_job(job.job_id)
    assert (stored.queue, stored.interrupted_at) == ("spot", ())


def test_a_job_that_waits_is_moved_and_one_that_was_claimed_since_it_was_read_is_not(queue: JobQueue) -> None:
    job, other = (queue.submit(name=name, config={}, created_by="me") for name in ("one", "two"))
    lease = queue.claim_job(other.job_id, "worker-1")
    assert lease is not None

    moved = queue.move_to_ondemand(job)

    assert moved is not None and (moved.queue, moved.status) == ("default.ondemand", JobStatus.PENDING)
    assert moved.moved_at is not None and queue.now() - moved.moved_at < A_MOMENT
    assert queue.move_to_ondemand(job) == moved  # as after a lost reply
    assert queue.move_to_ondemand(other) is None
    assert queue.client.get_job(other.job_id).queue == "default"
    assert queue.claim("worker-2") is None
    taken = queue.claim("worker-3", "default.ondemand")
    assert taken is not None and taken.job_id == job.job_id
    with pytest.raises(StateConflict, match="only a job that waits"):
        queue.move_to_ondemand(queue.client.get_job(job.job_id))


def test_a_moved_job_goes_back_unless_it_was_claimed_since_it_was_read(queue: JobQueue) -> None:
    moved = queue.move_to_ondemand(submit(queue))
    assert moved is not None

    returned = queue.return_to_spot(moved)

    assert returned is not None and (returned.queue, returned.moved_at) == ("spot", None)
    assert queue.return_to_spot(moved) == returned  # as after a lost reply
    assert list(queue.client.iter_queue("spot.ondemand")) == []
    assert claimed(queue).job_id == moved.job_id
    assert queue.return_to_spot(moved) is None

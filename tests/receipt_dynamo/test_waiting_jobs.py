"""Jobs that are not due are hardly read; after a lost race claims scatter; limits reach the queries."""

import random
from typing import Any

import pytest

from receipt_dynamo import DynamoClient, Job, JobError, JobQueue, JobStatus
from receipt_dynamo.items import JobItem, job_key, queue_sk
from receipt_dynamo.writes import update
from receipt_layoutlm.jobs.find import find_job
from receipt_layoutlm.run.comparability import STAMP, Stamp
from tests.support.jobs import claim, submit, summary
from tests.support.stores import Clock
from tests.support.wire import Wire

pytestmark = pytest.mark.engine

HANG = JobError(cause="hang", message="no step for an hour")


def in_backoff(queue: JobQueue, **more: Any) -> Job:
    """Failed once, and due within 30 s."""
    job = submit(queue, **more)
    lease = queue.claim_job(job.job_id, "w")
    assert lease is not None
    assert queue.fail(lease, HANG) is JobStatus.PENDING
    return queue.client.get_job(job.job_id, consistent=True)


def as_before(queue: JobQueue, job: Job) -> None:
    """The key that versions before gave to a job in backoff."""
    key = queue_sk(job.priority, job.created_at, job.job_id)
    queue.client.writer.execute(update(job_key(job.job_id), [JobItem.gsi3_sk.set(key)]))


def units(wire: Wire) -> float:
    return sum(float(reply["ConsumedCapacity"]["CapacityUnits"]) for reply in wire.replies)


@pytest.mark.parametrize("known", [False, True], ids=["first look", "later looks"])
def test_a_look_at_many_jobs_that_are_not_due_reads_a_page_at_most(queue: JobQueue, wire: Wire, known: bool) -> None:
    for _ in range(60):
        in_backoff(queue, description="x" * 1000)
    if known:
        assert queue.claim("w") is None
    wire.counted(), wire.replies.clear()

    assert queue.claim("w") is None

    assert wire.counted() == {"Query": 6}
    assert units(wire) < (4 if known else 9)


def test_jobs_that_are_due_are_claimed_by_priority_and_age_whether_they_waited_or_not(
    queue: JobQueue, clock: Clock
) -> None:
    old = in_backoff(queue)
    urgent = in_backoff(queue, priority="high")
    before = in_backoff(queue, priority="low")
    as_before(queue, before)
    plain, low = submit(queue), submit(queue, priority="low")
    clock.pass_seconds(31)

    order = [claim(queue).job_id for _ in range(5)]

    assert order == [each.job_id for each in (urgent, old, plain, before, low)]


def test_jobs_that_waited_take_part_in_the_order_of_a_long_queue(queue: JobQueue, clock: Clock) -> None:
    waited, urgent = in_backoff(queue), in_backoff(queue, priority="high")
    for _ in range(30):
        submit(queue)
    first = queue.claim("w")
    assert first is not None and first.job_id not in (waited.job_id, urgent.job_id)
    clock.pass_seconds(31)

    assert [claim(queue).job_id for _ in range(2)] == [urgent.job_id, waited.job_id]


def test_a_job_that_waits_is_claimable_by_id_and_counted_only_when_due(queue: JobQueue, clock: Clock) -> None:
    job = in_backoff(queue)
    assert queue.claim_job(job.job_id, "w") is None
    assert list(queue.due_jobs()) == []
    clock.pass_seconds(31)
    assert [each.job_id for each in queue.due_jobs()] == [job.job_id]
    assert queue.claim_job(job.job_id, "w") is not None
    assert list(queue.client.iter_queue()) == []


def test_after_a_lost_race_a_claim_goes_on_at_random_among_those_of_the_same_priority(
    client: DynamoClient, clock: Clock
) -> None:
    def taken(seed: int) -> int:
        name = f"queue-{seed}"
        queue = JobQueue(client, now=clock, rng=random.Random(seed))
        jobs = [submit(queue, queue=name, priority=priority).job_id for priority in ["high"] * 8 + ["medium"] * 8]
        other = JobQueue(client, now=clock)
        claims = iter([lambda: other.claim_job(jobs[0], "other")])

        def race(params: dict[str, Any], **_: object) -> None:
            next(claims, lambda: None)()

        client.raw.meta.events.register("before-parameter-build.dynamodb.TransactWriteItems", race, unique_id=name)
        lease = queue.claim("w", name)
        client.raw.meta.events.unregister("before-parameter-build.dynamodb.TransactWriteItems", unique_id=name)
        assert lease is not None
        return jobs.index(lease.job_id)

    places = [taken(seed) for seed in range(8)]

    assert all(1 <= place < 8 for place in places)  # never the lower priority
    assert len(set(places)) > 2


@pytest.fixture
def ended(queue: JobQueue) -> list[str]:
    """Twenty jobs that succeeded, and one that failed before them."""
    lease = claim(queue) if submit(queue) else None
    assert lease is not None
    queue.fail(lease, JobError(cause="bad_data", message=""))
    ids = []
    for number in range(20):
        submit(queue, description="x" * 3000)
        lease = claim(queue)
        results = {
            "metric_value": number / 100,
            STAMP: dict.fromkeys(Stamp.model_fields, "same"),
            "per_label": "y" * 1000,
        }
        queue.complete(lease, results=results, summary=summary(lease))
        ids.append(lease.job_id)
    return ids


def test_a_limit_reaches_the_query(client: DynamoClient, ended: list[str], wire: Wire) -> None:
    assert [job.job_id for job in client.list_jobs_by_status("succeeded", 2)] == ended[:-3:-1]
    assert len(client.list_jobs_by_name("a-job", 3)) == 3
    assert len(client.list_job_logs(ended[0], 1)) == 1
    assert [body["Limit"] for body in wire.bodies] == [2, 3, 1]
    assert wire.counted() == {"Query": 3}


def test_the_last_job_is_one_item_of_each_status(client: DynamoClient, ended: list[str], wire: Wire) -> None:
    assert find_job(client, "@last").job_id == ended[-1]
    assert wire.counted() == {"Query": len(JobStatus)}
    assert units(wire) <= 0.5 * len(JobStatus) + 0.5


def test_the_best_job_is_found_by_keys_and_scores(client: DynamoClient, ended: list[str], wire: Wire) -> None:
    assert find_job(client, "@best").job_id == ended[-1]
    (query, one) = wire.bodies
    names = query["ExpressionAttributeNames"]
    # with the keys of the index, by which the reply is checked
    assert [names[each] for each in query["ProjectionExpression"].split(", ")] == ["GSI1PK", "GSI1SK", "PK", "results"]
    assert one["Key"]["PK"] == {"S": f"JOB#{ended[-1]}"}


def test_a_limit_that_is_longer_than_a_reply_is_followed(client: DynamoClient, ended: list[str]) -> None:
    assert len(client.list_jobs_by_status("succeeded", 5000)) == 20

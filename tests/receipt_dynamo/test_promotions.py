"""Models in use: versions of a stage, one conditional write each; what was in use is kept."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from receipt_dynamo import DynamoClient, Job, JobLog, JobQueue, Machine, Promotion, StateConflict, Storage, utcnow
from receipt_dynamo.transitions import delete_decision_writes
from receipt_dynamo.writes import ConditionFailed
from tests.support.stores import Store

pytestmark = pytest.mark.engine


def succeeded(queue: JobQueue, name: str) -> Job:
    job = queue.submit(name=name, config={"config_version": 1}, created_by="tests", storage=Storage(bucket="b"))
    lease = queue.claim_job(job.job_id, "worker-1", machine=Machine())
    assert lease is not None
    summary = JobLog(
        job_id=job.job_id, timestamp=utcnow(), level="info", event="run_summary", message="", attempt=1, seq=9
    )
    queue.complete(lease, results={"metric_value": 0.5}, summary=summary)
    return queue.client.get_job(job.job_id)


def version(job: Job, number: int, stage: str = "production", by: str = "ada") -> Promotion:
    return Promotion(
        stage=stage,
        version=number,
        action="promote",
        job_id=job.job_id,
        job_name=job.name,
        model_uri=f"s3://b/runs/{job.job_id}/attempt-001/best/",
        manifest_sha256="a" * 64,
        promoted_at=utcnow(),
        promoted_by=by,
        reason="better",
        evidence={"f1": {"in_use": 0.5, "candidate": 0.75}},
    )


def test_the_newest_version_is_in_use_and_the_others_are_its_history(store: Store) -> None:
    one, two = (succeeded(store.queue, name) for name in ("one", "two"))
    versions = [version(one, 1), version(two, 2)]
    assert all(store.queue.promote(each) for each in versions)
    assert store.queue.promote(version(one, 1, stage="trial"))

    client = store.queue.client
    assert client.list_promotions("production", limit=1) == [versions[1]]
    assert client.list_promotions("production") == versions[::-1]
    assert [each.job_name for each in client.list_promotions("trial")] == ["one"]
    assert client.list_promotions("nothing") == []


def test_a_number_is_given_once_and_a_repeated_write_is_the_same_version(store: Store) -> None:
    one, two = (succeeded(store.queue, name) for name in ("one", "two"))
    first = version(one, 1)

    assert store.queue.promote(first)
    assert not store.queue.promote(version(two, 1))
    assert store.queue.promote(first)  # as after a lost reply
    assert store.queue.client.list_promotions("production") == [first]


def test_of_people_who_promote_at_once_all_stand_in_the_history_and_one_model_is_in_use(
    store: Store, table_name: str, dynamo_endpoint: str
) -> None:
    jobs = [succeeded(store.queue, f"job-{number}") for number in range(6)]
    start = threading.Barrier(len(jobs))

    def promote(job: Job) -> None:
        queue = JobQueue(DynamoClient(table_name, endpoint_url=dynamo_endpoint))
        start.wait()
        while True:
            stored = queue.client.list_promotions("production", limit=1)
            if queue.promote(version(job, stored[0].version + 1 if stored else 1, by=job.name)):
                return

    with ThreadPoolExecutor(len(jobs)) as pool:
        list(pool.map(promote, jobs))

    history = store.queue.client.list_promotions("production")
    assert [each.version for each in history] == [6, 5, 4, 3, 2, 1]
    assert {each.promoted_by for each in history} == {job.name for job in jobs}


@pytest.mark.parametrize("state", ["pending", "running", "cancelled"])
def test_only_a_job_that_has_succeeded_is_promoted(store: Store, state: str) -> None:
    job = store.queue.submit(name="job", config={"config_version": 1}, created_by="tests", storage=Storage(bucket="b"))
    if state == "running":
        assert store.queue.claim_job(job.job_id, "worker-1", machine=Machine())
    if state == "cancelled":
        store.queue.cancel(job.job_id)

    with pytest.raises(StateConflict, match=f"is {state}: only a job that has succeeded is promoted"):
        store.queue.promote(version(job, 1))
    assert store.queue.client.list_promotions("production") == []


def test_a_model_that_was_in_use_is_not_deleted_and_one_that_is_being_deleted_is_not_promoted(store: Store) -> None:
    one, two = (succeeded(store.queue, name) for name in ("one", "two"))
    assert store.queue.promote(version(one, 1))
    with pytest.raises(StateConflict, match="was promoted"):
        store.queue.delete(one.job_id)
    store.queue.decide_to_delete(two.job_id)

    with pytest.raises(StateConflict, match="being deleted"):
        store.queue.promote(version(two, 2))
    assert store.queue.client.get_job(one.job_id).name == "one"
    assert [each.job_name for each in store.queue.client.list_promotions("production")] == ["one"]


def test_a_promotion_between_the_reads_and_the_decision_of_a_deletion_keeps_the_job(store: Store) -> None:
    """The decision itself asks, not only the reads before it."""
    job = succeeded(store.queue, "one")
    lease = store.queue.client.get_lease(job.job_id)
    assert store.queue.promote(version(job, 1))

    with pytest.raises(ConditionFailed):
        store.queue.client.writer.execute(*delete_decision_writes(job, lease, store.queue.now()))

"""The checks of `chaos` name each broken invariant, and a small run of it ends without one."""

from pathlib import Path

import pytest

from receipt_dynamo import DynamoClient, JobQueue, JobStatus, Lease, Pointer, client, queue
from receipt_layoutlm.jobs.chaos import run_chaos
from receipt_layoutlm.jobs.chaos_checks import violations
from receipt_layoutlm.jobs.chaos_worker import Break, broken
from tests.support.jobs import claim, claimed, evaluation, summary
from tests.support.stores import Clock

pytestmark = pytest.mark.engine

STEPS = 3


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(table_name: str, dynamo_endpoint: str, clock: Clock) -> JobQueue:
    return JobQueue(DynamoClient(table_name, endpoint_url=dynamo_endpoint), now=clock)


def work(store: JobQueue, lease: Lease, *steps: int) -> None:
    for step in steps:
        row = evaluation(lease, at=store.now(), step=step, seq=step)
        store.client.add_job_metric(lease, row)


def ended(store: JobQueue, *steps: int) -> Lease:
    lease = claimed(store)
    work(store, lease, *steps)
    store.complete(lease, results={}, summary=summary(lease, at=store.now()))
    return lease


def found(store: JobQueue, *leases: Lease, cancelled: tuple[str, ...] = ()) -> list[str]:
    claims = [(lease.job_id, lease.attempt, str(lease.lease_token)) for lease in leases]
    return list(violations(store.client, "default", {lease.job_id for lease in leases}, claims, cancelled, STEPS))


def test_a_job_that_keeps_the_rules_violates_none(store: JobQueue, clock: Clock) -> None:
    first = claimed(store)
    work(store, first, 1, 2)
    pointer = Pointer(attempt=1, global_step=1, manifest_sha256="0" * 64)
    store.record_checkpoint(first, pointer, None)
    clock.pass_seconds(200)
    store.rescue()
    second = claim(store)
    work(store, second, 2, 3)
    store.complete(second, results={}, summary=summary(second, at=store.now()))

    assert found(store, first, second) == []


def test_two_claims_of_one_attempt_are_found(store: JobQueue) -> None:
    lease = ended(store, 1, 2, 3)
    (text,) = found(store, lease, lease.model_copy(update={"lease_token": "another"}))
    assert "attempt 1 was given to 2 claims (invariant 1)" in text


def test_a_missing_evaluation_is_found(store: JobQueue) -> None:
    (text,) = found(store, ended(store, 1, 3))
    assert "the shown evaluations are of the steps [1, 3], not 1 to 3 (invariant 5)" in text


def test_a_cancel_that_did_not_end_the_job_is_found(store: JobQueue) -> None:
    lease = ended(store, 1, 2, 3)
    (text,) = found(store, lease, cancelled=(lease.job_id,))
    assert "its cancel was acknowledged, and it is succeeded (invariant 7)" in text


def test_a_job_that_does_not_end_is_found(store: JobQueue) -> None:
    (text,) = found(store, claimed(store))
    assert "it is running: every accepted job reaches a final state" in text


@pytest.mark.parametrize(("seconds", "is_late"), [(1, False), (3, True)])
def test_a_row_of_a_worker_that_had_lost_its_lease_is_found(
    store: JobQueue, clock: Clock, seconds: int, is_late: bool
) -> None:
    """Dated later than two processes' times of the server may differ."""
    zombie = claimed(store)
    clock.pass_seconds(200)
    store.rescue()
    second = claim(store)
    clock.pass_seconds(seconds)
    with broken("fence"):
        work(store, zombie, 1)
    work(store, second, 1, 2, 3)
    store.complete(second, results={}, summary=summary(second, at=store.now()))

    texts = found(store, zombie, second)

    assert is_late == any("a row of attempt 1 was stored after attempt 2 began (invariant 4)" in text for text in texts)


@pytest.mark.parametrize("rule", ["fence", "claim", "pointer", "cancel"])
def test_a_rule_is_broken_inside_the_block_alone(rule: Break) -> None:
    before = client.fence, queue.claim_writes, queue.end_writes
    with broken(rule):
        after = client.fence, queue.claim_writes, queue.end_writes
    assert (after != before) == (rule != "pointer")  # which the worker itself breaks
    assert (client.fence, queue.claim_writes, queue.end_writes) == before


def test_small_jobs_survive_a_kill(
    table_name: str, dynamo_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", dynamo_endpoint)
    killed: list[int] = []

    report = run_chaos(JobQueue(DynamoClient(table_name)), None, 3, 1, 1, None, tmp_path, lambda: killed.append(1))

    assert report.violations == []
    assert (report.kills, len(killed), sum(report.statuses.values())) == (1, 1, 3)
    assert set(report.statuses) <= {JobStatus.SUCCEEDED, JobStatus.CANCELLED}
    assert report.claims >= 3

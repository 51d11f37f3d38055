"""Each condition of a transition by itself: one attribute differs from what was read, and nothing is written.

Job and Lease move together, so one of them alone never differs by a transition of this system. The original system, a
person with the console or a restored backup may still have written one of them.
"""

from collections.abc import Callable
from typing import Any

import pytest
from pynamodb.expressions.update import Action

from receipt_dynamo import DynamoClient, JobError, JobQueue, JobStatus, Lease, StateConflict
from receipt_dynamo.items import (
    AttemptItem,
    JobItem,
    LeaseItem,
    RawItem,
    attempt_key,
    job_key,
    lease_key,
    pointer_map,
)
from receipt_dynamo.writes import ConditionFailed, Write, update
from tests.support.jobs import claimed, pointer, submit, summary
from tests.support.stores import Clock
from tests.support.wire import Patience

pytestmark = pytest.mark.engine

BAD = JobError(cause="bad_data", message="page 7 has no words")
FAILED, CANCELLED = (JobItem.status.set(status.value) for status in (JobStatus.FAILED, JobStatus.CANCELLED))
LATER_JOB, LATER_LEASE = JobItem.attempt.set(7), LeaseItem.attempt.set(7)
TOKEN, NO_TOKEN = LeaseItem.lease_token.set("another"), LeaseItem.lease_token.remove()
CANCEL = LeaseItem.cancel_requested.set(True)
# two attempts may write the same bytes
SAME_BYTES = LeaseItem.checkpoint.set(pointer_map(pointer(10).model_copy(update={"attempt": 9})))

State = Callable[[JobQueue], Lease]
Call = Callable[[JobQueue, Lease], Any]


def free(queue: JobQueue) -> Lease:
    """Interrupted with a checkpoint, and claimable."""
    lease = held(queue)
    queue.release(lease, "spot")
    return lease


def held(queue: JobQueue) -> Lease:
    return queue.record_checkpoint(claimed(queue), pointer(10), pointer(10))


def failed(queue: JobQueue) -> Lease:
    lease = held(queue)
    queue.fail(lease, BAD)
    return lease


def expired(queue: JobQueue) -> Lease:
    lease = held(queue)
    assert isinstance(queue.now, Clock)
    queue.now.pass_seconds(200)
    return lease


CALLS: dict[str, tuple[State, Call]] = {
    "claim": (free, lambda queue, _: queue.claim("w")),
    "complete": (held, lambda queue, lease: queue.complete(lease, results={}, summary=summary(lease))),
    "fail": (held, lambda queue, lease: queue.fail(lease, BAD)),
    "release": (held, lambda queue, lease: queue.release(lease, "spot")),
    "acknowledge": (held, lambda queue, lease: queue.acknowledge_cancel(lease)),
    "rescue": (expired, lambda queue, _: queue.rescue()),
    "retry": (failed, lambda queue, lease: queue.retry(lease.job_id)),
    "cancel": (held, lambda queue, lease: queue.cancel(lease.job_id)),
    "cancel free": (free, lambda queue, lease: queue.cancel(lease.job_id)),
    "fall back": (held, lambda queue, lease: queue.fall_back(lease)),
}
DIFFERENCES: dict[str, tuple[Action, ...]] = {
    "claim": (FAILED, LATER_JOB, LATER_LEASE, TOKEN, CANCEL, SAME_BYTES),
    "complete": (CANCELLED, LATER_JOB, LATER_LEASE, TOKEN),
    "fail": (CANCELLED, LATER_JOB, LATER_LEASE, TOKEN),
    "release": (CANCELLED, LATER_JOB, LATER_LEASE, TOKEN),
    "acknowledge": (FAILED, LATER_JOB, LATER_LEASE, TOKEN),
    "rescue": (CANCELLED, LATER_JOB, LATER_LEASE, TOKEN, CANCEL, SAME_BYTES, LeaseItem.renewals.set(9)),
    "retry": (CANCELLED, LATER_JOB, LATER_LEASE, TOKEN, CANCEL),
    "cancel": (FAILED, LATER_LEASE, NO_TOKEN),
    "cancel free": (FAILED, LATER_JOB, LATER_LEASE, TOKEN),
    "fall back": (LATER_LEASE, TOKEN, SAME_BYTES),
}
CASES = [(name, action) for name, actions in DIFFERENCES.items() for action in actions]


def words(case: tuple[str, Action]) -> str:
    return f"{case[0]}, {case[1]}"


def rows(client: DynamoClient, job_id: str) -> list[RawItem]:
    request: RawItem = {
        "TableName": client.table_name,
        "KeyConditionExpression": "PK = :p",
        "ExpressionAttributeValues": {":p": {"S": f"JOB#{job_id}"}},
    }
    return list(client.raw.query(**request)["Items"])


@pytest.fixture
def other(table_name: str, dynamo_endpoint: str) -> DynamoClient:
    """Another program, which writes one attribute."""
    return DynamoClient(table_name, endpoint_url=dynamo_endpoint)


class Refused(BaseException):
    """Ends a call at its first refused transition, before it reads again."""


@pytest.mark.parametrize("case", CASES, ids=words)
def test_a_transition_is_refused_when_one_attribute_differs(
    queue: JobQueue, client: DynamoClient, other: DynamoClient, case: tuple[str, Action]
) -> None:
    name, action = case
    state, call = CALLS[name]
    lease = state(queue)
    before: list[list[RawItem]] = []
    execute = client.writer.execute

    def differ(*writes: Write, **more: Any) -> RawItem | None:
        if len(writes) == 1:
            return execute(*writes, **more)
        is_of_job = any(action is each for each in (FAILED, CANCELLED, LATER_JOB))
        other.writer.execute(update(job_key(lease.job_id) if is_of_job else lease_key(lease.job_id), [action]))
        before.append(rows(other, lease.job_id))
        try:
            return execute(*writes, **more)
        except ConditionFailed:
            raise Refused from None

    client.writer.execute = differ  # type: ignore[method-assign]
    with pytest.raises(Refused):
        call(queue, lease)
    assert [rows(other, lease.job_id)] == before


def test_an_attempt_that_is_stored_already_is_not_overwritten(queue: JobQueue, client: DynamoClient) -> None:
    job = submit(queue)
    client.writer.execute(update(attempt_key(job.job_id, 1), [AttemptItem.worker_id.set("an-earlier-one")]))
    before = rows(client, job.job_id)

    assert queue.claim("w") is None

    assert rows(client, job.job_id) == before


def test_a_cancel_of_a_job_whose_rows_contradict_each_other_gives_up(
    queue: JobQueue, client: DynamoClient, patience: Patience
) -> None:
    lease = claimed(queue)
    client.writer.execute(update(lease_key(lease.job_id), [NO_TOKEN]))

    with pytest.raises(StateConflict, match="running, but its lease is not held"):
        queue.cancel(lease.job_id)

    assert sum(patience.waits) >= 20 and len(patience.waits) < 500

"""The one function behind every write: what it retries, for how long, and what it raises.

Every answer here is given before the request leaves, so that no table is needed.
"""

import pytest

from receipt_dynamo import DynamoClient, StoreError, TableNotFound, WriteTimeout
from receipt_dynamo.items import JobItem, LeaseItem, job_key
from receipt_dynamo.writes import ConditionFailed, Write, check, delete, put, update
from tests.support.wire import Patience, Wire

ID = "07c8c4eb-34cc-4beb-bdc2-0d1a0d77c6ab"
NOWHERE = "http://127.0.0.1:9"
ONE = (update(job_key(ID), [JobItem.status.set("running")], JobItem.status == "pending"),)
TWO = (*ONE, check(job_key(ID), JobItem.pk.exists()))


@pytest.fixture
def client() -> DynamoClient:
    return DynamoClient("a-table", endpoint_url=NOWHERE)


PASSING = [
    ("UpdateItem", ONE, "TransactionConflictException", ()),
    ("UpdateItem", ONE, "ThrottlingException", ()),
    ("TransactWriteItems", TWO, "TransactionInProgressException", ()),
    ("TransactWriteItems", TWO, "TransactionCanceledException", ("TransactionConflict", "None")),
    ("TransactWriteItems", TWO, "TransactionCanceledException", ("None", "ThrottlingError")),
    # the condition may have failed or not: an answer with a conflict in it is incomplete
    ("TransactWriteItems", TWO, "TransactionCanceledException", ("ConditionalCheckFailed", "TransactionConflict")),
]


@pytest.mark.parametrize(("operation", "writes", "code", "reasons"), PASSING)
def test_what_passes_is_retried_with_jitter_until_patience_ends(
    client: DynamoClient, wire: Wire, operation: str, writes: tuple[Write, ...], code: str, reasons: tuple[str, ...]
) -> None:
    patience = Patience(client)
    wire.refuse(operation, code, reasons=reasons, times=1000)
    with pytest.raises(WriteTimeout, match="gave up after 10 s"):
        client.writer.execute(*writes, patience_seconds=10)
    assert all(0.05 <= wait <= 1 for wait in patience.waits)
    assert len(set(patience.waits)) > 5
    assert sum(patience.waits[:-1]) < 10 <= sum(patience.waits)


def tokens(wire: Wire) -> list[str]:
    return [body["ClientRequestToken"] for body in wire.bodies]


def test_a_cancelled_transaction_is_sent_anew_and_an_unanswered_one_with_its_own_token(
    client: DynamoClient, wire: Wire
) -> None:
    Patience(client)
    wire.refuse("TransactWriteItems", "TransactionCanceledException", reasons=("TransactionConflict", "None"))
    wire.refuse("TransactWriteItems", "TransactionInProgressException")
    wire.lose_reply("TransactWriteItems", times=2)  # botocore's own second try as well
    wire.refuse("TransactWriteItems", "ValidationException")
    with pytest.raises(StoreError):
        client.writer.execute(*TWO)
    first, *others = tokens(wire)
    assert len(others) == 4
    assert set(others) == {others[0]} != {first}


@pytest.mark.parametrize(
    ("reasons", "failed"),
    [(("ConditionalCheckFailed", "None"), (True, False)), (("None", "ConditionalCheckFailed"), (False, True))],
)
def test_a_failed_condition_says_which_action_it_was_and_is_not_retried(
    client: DynamoClient, wire: Wire, reasons: tuple[str, str], failed: tuple[bool, bool]
) -> None:
    patience = Patience(client)
    wire.refuse("TransactWriteItems", "TransactionCanceledException", reasons=reasons)
    with pytest.raises(ConditionFailed) as lost:
        client.writer.execute(*TWO)
    assert (lost.value.failed, lost.value.losers, patience.waits) == (failed, (None, None), [])


@pytest.mark.parametrize(("writes", "operation"), [(ONE, "UpdateItem"), (TWO, "TransactWriteItems")])
@pytest.mark.parametrize(
    ("code", "kind"),
    [("ResourceNotFoundException", TableNotFound), ("ValidationException", StoreError), ("AccessDenied", StoreError)],
)
def test_what_no_retry_mends_is_raised_at_once_and_names_the_table(
    client: DynamoClient, wire: Wire, writes: tuple[Write, ...], operation: str, code: str, kind: type[StoreError]
) -> None:
    wire.refuse(operation, code)
    with pytest.raises(kind, match="a-table"):
        client.writer.execute(*writes)
    assert wire.sent == [operation]


def test_a_cancellation_for_another_reason_is_raised_at_once(client: DynamoClient, wire: Wire) -> None:
    wire.refuse("TransactWriteItems", "TransactionCanceledException", reasons=("None", "ValidationError"))
    with pytest.raises(StoreError):
        client.writer.execute(*TWO)
    assert wire.sent == ["TransactWriteItems"]


def test_missing_credentials_are_named_at_once_on_reads_and_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    client = DynamoClient("a-table", endpoint_url=NOWHERE)
    patience = Patience(client)
    with pytest.raises(StoreError, match="credentials"):
        client.writer.execute(*ONE)
    with pytest.raises(StoreError, match="credentials"):
        client.get_job(ID)
    with pytest.raises(StoreError, match="credentials"):
        client.list_jobs_by_status("pending")
    assert patience.waits == []


def test_every_request_carries_its_condition_and_asks_for_the_losing_item(client: DynamoClient, wire: Wire) -> None:
    wire.refuse("UpdateItem", "ValidationException")
    with pytest.raises(StoreError):
        client.writer.execute(*ONE)
    (body,) = wire.bodies
    assert body["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"
    assert body["TableName"] == "a-table"
    assert sorted(value["S"] for value in body["ExpressionAttributeValues"].values()) == ["pending", "running"]
    assert sorted(body["ExpressionAttributeNames"].values()) == ["status"]


def test_each_kind_of_write_builds_its_own_parameters() -> None:
    item = LeaseItem(pk="JOB#x", sk="LEASE", attempt=0, renewals=0, cancel_requested=False)
    free = LeaseItem.pk.does_not_exist()
    assert put(item, free).parameters["Item"]["PK"] == {"S": "JOB#x"}
    assert put(item, free).parameters["ConditionExpression"] == "attribute_not_exists (#0)"
    assert "ConditionExpression" not in put(item).parameters
    assert delete(job_key(ID)).parameters == {"Key": job_key(ID)}
    changed = update(job_key(ID), [JobItem.gsi3_pk.remove()], JobItem.pk.exists()).parameters
    assert changed["UpdateExpression"] == "REMOVE #0"
    assert "ExpressionAttributeValues" not in changed

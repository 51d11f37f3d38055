"""Every write of the run store goes through `Writer.execute`: conditions, conflict retries, losing items.

AWS answers two writers that touch one item at once with a transaction conflict, which says nothing about the
condition; botocore retries neither spelling of it, so this does, with jitter, until the deadline.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.exceptions import ConnectionError as NoConnection
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action, Update

from receipt_dynamo.errors import StoreError, StoreUnavailable, TableNotFound, WriteTimeout
from receipt_dynamo.items import RawItem, TableItem
from receipt_dynamo.retries import CONFLICT, Pauses

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DEFAULT_PATIENCE_SECONDS = 20.0

PASSING = frozenset(
    {
        "TransactionConflict",
        "TransactionConflictException",
        "TransactionInProgressException",
        "ThrottlingError",
        "ThrottlingException",
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "InternalServerError",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "500",
        "503",
    }
)
"""Codes of refusals that pass by themselves."""

# The request perhaps arrived: its reply, or the way there, was lost.
NO_REPLY = (NoConnection, CredentialRetrievalError, HTTPClientError, IncompleteReadError)


@dataclass(frozen=True)
class Write:
    """One action: botocore's parameters without the table's name."""

    kind: Literal["Put", "Update", "ConditionCheck", "Delete"]
    parameters: RawItem


class ConditionFailed(Exception):
    """A condition did not hold: `failed[i]` of action i, which met the item `losers[i]` (None: no item)."""

    def __init__(self, failed: Sequence[bool], losers: Sequence[RawItem | None]) -> None:
        super().__init__(f"condition failed on actions {[i for i, bad in enumerate(failed) if bad]}")
        self.failed = tuple(failed)
        self.losers = tuple(losers)


def put(item: TableItem, condition: Condition | None = None) -> Write:
    return Write("Put", {"Item": item.serialize(), **_expressions(condition)})


def update(key: RawItem, actions: Sequence[Action], condition: Condition) -> Write:
    return Write("Update", {"Key": key, **_expressions(condition, actions)})


def check(key: RawItem, condition: Condition) -> Write:
    return Write("ConditionCheck", {"Key": key, **_expressions(condition)})


def delete(key: RawItem, condition: Condition | None = None) -> Write:
    return Write("Delete", {"Key": key, **_expressions(condition)})


def _expressions(condition: Condition | None, actions: Sequence[Action] = ()) -> RawItem:
    names: dict[str, str] = {}
    values: dict[str, Any] = {}
    found: RawItem = {}
    if actions:
        found["UpdateExpression"] = Update(*actions).serialize(names, values)
    if condition is not None:
        found["ConditionExpression"] = condition.serialize(names, values)
    if names:
        found["ExpressionAttributeNames"] = {placeholder: name for name, placeholder in names.items()}
    if values:
        found["ExpressionAttributeValues"] = values
    return found


class Writer:
    """Sends writes to one table. `monotonic` and `sleep` are injected by tests."""

    def __init__(
        self,
        client: "DynamoDBClient",
        table_name: str,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._table = table_name
        self._monotonic = monotonic
        self._sleep = sleep

    def execute(self, *writes: Write, patience_seconds: float = DEFAULT_PATIENCE_SECONDS) -> RawItem | None:
        """One request; all writes pass or none does. Returns the new item of a single update.

        Raises ConditionFailed, WriteTimeout after `patience_seconds` of conflicts, or TableNotFound.
        """
        deadline = self._monotonic() + patience_seconds
        pauses = Pauses(CONFLICT, lambda: self._monotonic() >= deadline, self._sleep)
        token = str(uuid.uuid4())
        while True:
            try:
                return self._send(writes, token)
            except ClientError as error:
                trouble: Exception = error
                if self._is_cancelled(error):
                    token = str(uuid.uuid4())  # nothing of it was applied: a new request
            except NO_REPLY as error:
                trouble = error  # perhaps applied: the same token makes a repeated transaction harmless
            except BotoCoreError as error:
                raise store_error(error, self._table) from error
            if not pauses.pause():
                raise WriteTimeout(f"gave up after {patience_seconds:.0f} s: {trouble}") from trouble

    def _send(self, writes: Sequence[Write], token: str) -> RawItem | None:
        if len(writes) == 1:
            return self._single(writes[0])
        self._transaction(writes, token)
        return None

    def _single(self, write: Write) -> RawItem | None:
        request = {
            "TableName": self._table,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            **write.parameters,
        }
        if write.kind == "Put":
            self._client.put_item(**request)
        elif write.kind == "Delete":
            self._client.delete_item(**request)
        else:
            return dict(self._client.update_item(ReturnValues="ALL_NEW", **request)["Attributes"])
        return None

    def _transaction(self, writes: Sequence[Write], token: str) -> None:
        shared = {"TableName": self._table, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        actions: list[Any] = [{write.kind: {**shared, **write.parameters}} for write in writes]
        self._client.transact_write_items(TransactItems=actions, ClientRequestToken=token)

    def _is_cancelled(self, error: ClientError) -> bool:
        """Whether nothing was applied, of an error that passes; raises for every other error."""
        code = error.response["Error"]["Code"]
        response: dict[str, Any] = dict(error.response)
        if code == "ConditionalCheckFailedException":
            raise ConditionFailed([True], [response.get("Item") or None]) from None
        if code in PASSING:
            return False
        reasons = response.get("CancellationReasons") or []
        codes = [reason.get("Code") for reason in reasons]
        if any(reason in PASSING for reason in codes):
            return True  # what else is in the answer may be incomplete: it is asked again
        if "ConditionalCheckFailed" in codes:
            failed = [reason == "ConditionalCheckFailed" for reason in codes]
            raise ConditionFailed(failed, [reason.get("Item") or None for reason in reasons]) from None
        raise store_error(error, self._table) from error


def store_error(error: ClientError | BotoCoreError, table_name: str) -> StoreError:
    """An error of the product for one of botocore's; its text says what to do."""
    if isinstance(error, BotoCoreError):
        kind = StoreUnavailable if isinstance(error, NO_REPLY) else StoreError
        return kind(f"table {table_name!r} cannot be reached: {error}")
    if error.response["Error"]["Code"] in PASSING:
        return StoreUnavailable(f"{error.operation_name} on table {table_name!r}: {error}")
    if error.response["Error"]["Code"] == "ResourceNotFoundException":
        return TableNotFound(
            f"table {table_name!r} (or an index of it) does not exist here: check "
            "--dynamo-table and --region, or create it from infra/storage.yaml"
        )
    return StoreError(f"{error.operation_name} on table {table_name!r}: {error}")

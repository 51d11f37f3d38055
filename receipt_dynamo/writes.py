"""Conditional writes and transactions, all sent by `Writer.execute`.

Two writers that touch one item at once get a transaction conflict, which says nothing about the condition. botocore
retries neither spelling of it, so `execute` does, until its deadline.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import BotoCoreError, ClientError
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action, Update

from receipt_dynamo.connection import check_row
from receipt_dynamo.errors import TRANSIENT_CODES, WriteTimeout, is_transient, store_error
from receipt_dynamo.items import RawItem, TableItem
from receipt_dynamo.retries import CONFLICT, Pauses

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DEFAULT_PATIENCE_SECONDS = 20.0


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


def update(key: RawItem, actions: Sequence[Action], condition: Condition | None = None) -> Write:
    return Write("Update", {"Key": key, **_expressions(condition, actions)})


def check(key: RawItem, condition: Condition) -> Write:
    return Write("ConditionCheck", {"Key": key, **_expressions(condition)})


def delete(key: RawItem, condition: Condition | None = None) -> Write:
    return Write("Delete", {"Key": key, **_expressions(condition)})


def _expressions(condition: Condition | None, actions: Sequence[Action] = ()) -> RawItem:
    names: dict[str, str] = {}
    values: dict[str, Any] = {}
    parameters: RawItem = {}
    if actions:
        parameters["UpdateExpression"] = Update(*actions).serialize(names, values)
    if condition is not None:
        parameters["ConditionExpression"] = condition.serialize(names, values)
    if names:
        parameters["ExpressionAttributeNames"] = {placeholder: name for name, placeholder in names.items()}
    if values:
        parameters["ExpressionAttributeValues"] = values
    return parameters


class Writer:
    """Sends writes to one table. Tests inject `monotonic` and `sleep`."""

    def __init__(
        self,
        client: "DynamoDBClient",
        table_name: str,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._client, self._table = client, table_name
        self._monotonic, self._sleep = monotonic, sleep

    def execute(self, *writes: Write, patience_seconds: float = DEFAULT_PATIENCE_SECONDS) -> RawItem | None:
        """One request: all writes are applied or none is. Returns the new item of a single update.

        Raises ConditionFailed, WriteTimeout after `patience_seconds` of conflicts, or TableNotFound.
        """
        pauses = self.pauses(patience_seconds)
        token = str(uuid.uuid4())  # makes a repeated transaction harmless that was applied without a reply
        while True:
            try:
                return self._send(writes, token)
            except (ClientError, BotoCoreError) as error:
                if any(reason.get("Code") in TRANSIENT_CODES for reason in _cancellation_reasons(error)):
                    # nothing was applied, and the other reasons may be incomplete: a new request
                    token = str(uuid.uuid4())
                elif not is_transient(error):
                    raise self._refusal(error) from error
                if not pauses.pause():
                    raise WriteTimeout(f"gave up after {patience_seconds:.0f} s: {error}") from error

    def pauses(self, patience_seconds: float = DEFAULT_PATIENCE_SECONDS) -> Pauses:
        """Between tries of a write, or of a transition whose job moves meanwhile."""
        return Pauses.within(patience_seconds, CONFLICT, self._monotonic, self._sleep)

    def _send(self, writes: Sequence[Write], token: str) -> RawItem | None:
        shared = {"TableName": self._table, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        if len(writes) > 1:
            actions: list[Any] = [{write.kind: {**shared, **write.parameters}} for write in writes]
            self._client.transact_write_items(TransactItems=actions, ClientRequestToken=token)
            return None
        (write,) = writes
        request: RawItem = {**shared, **write.parameters}
        if write.kind == "Put":
            self._client.put_item(**request)
        elif write.kind == "Delete":
            self._client.delete_item(**request)
        else:
            changed: RawItem = dict(self._client.update_item(ReturnValues="ALL_NEW", **request)["Attributes"])
            check_row(changed, write.parameters["Key"])
            return changed
        return None

    def _refusal(self, error: ClientError | BotoCoreError) -> Exception:
        if isinstance(error, ClientError) and error.response["Error"]["Code"] == "ConditionalCheckFailedException":
            response: dict[str, Any] = dict(error.response)
            return ConditionFailed([True], [response.get("Item") or None])
        reasons = _cancellation_reasons(error)
        failed = [reason.get("Code") == "ConditionalCheckFailed" for reason in reasons]
        if any(failed):
            return ConditionFailed(failed, [reason.get("Item") or None for reason in reasons])
        return store_error(error, self._table)


def _cancellation_reasons(error: ClientError | BotoCoreError) -> list[dict[str, Any]]:
    """Of a cancelled transaction, one per action."""
    response: dict[str, Any] = dict(error.response) if isinstance(error, ClientError) else {}
    return response.get("CancellationReasons") or []

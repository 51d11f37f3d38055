"""Reads, all sent by `Reader`: it waits while the table throttles, and checks each row against the request."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from receipt_dynamo.connection import check_row
from receipt_dynamo.errors import is_overloaded, store_error
from receipt_dynamo.items import RawItem
from receipt_dynamo.retries import THROTTLING, Pauses

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

READ_PATIENCE_SECONDS: Final = 10.0  # a person waits for it; a worker holds a lease meanwhile


class Reader:
    """Sends reads of one table, and repeats those that failed in a way that `passes`. Tests inject the clock."""

    def __init__(
        self,
        client: "DynamoDBClient",
        table_name: str,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        patience_seconds: float = READ_PATIENCE_SECONDS,
        passes: Callable[[ClientError | BotoCoreError], bool] = is_overloaded,
    ) -> None:
        self._client, self._table, self._passes = client, table_name, passes
        self._monotonic, self._sleep, self._patience_seconds = monotonic, sleep, patience_seconds

    def get(self, key: RawItem, *, consistent: bool) -> RawItem | None:
        """One item by its key, as stored, or None."""
        request = {"TableName": self._table, "Key": key, "ConsistentRead": consistent}
        raw: RawItem | None = self.ask("get_item", request).get("Item")
        if raw is not None:
            check_row(raw, key)
        return raw

    def get_many(self, keys: Sequence[RawItem], **request: object) -> RawItem:
        """The reply to one batch of keys, which may leave some unprocessed."""
        batch = {"RequestItems": {self._table: {"Keys": keys}}, **request}
        reply = self.ask("batch_get_item", batch)
        asked = {(key["PK"]["S"], key["SK"]["S"]): key for key in keys}
        for raw in reply["Responses"].get(self._table, []):
            check_row(raw, asked.get((raw["PK"]["S"], raw["SK"]["S"]), keys[0]))
        return reply

    def pages(self, request: RawItem) -> Iterator[RawItem]:
        """The replies to a query, which has its partition as `#p = :p` and a prefix, if any, as `:s` of `#s`."""
        request = {"TableName": self._table, **request}
        names, values = request["ExpressionAttributeNames"], request["ExpressionAttributeValues"]
        partition, prefix = {names["#p"]: values[":p"]}, values.get(":s", {"S": ""})["S"]
        while True:
            reply = self.ask("query", request)
            for raw in reply.get("Items", ()):
                check_row(raw, partition)
                if prefix and not raw.get(names["#s"], values[":s"])["S"].startswith(prefix):
                    check_row(raw, {names["#s"]: values[":s"]})
            yield reply
            if "LastEvaluatedKey" not in reply:
                return
            request = {**request, "ExclusiveStartKey": reply["LastEvaluatedKey"]}

    def pauses(self) -> Pauses:
        """Between tries of one request, or of what a reply left undone."""
        return Pauses.within(self._patience_seconds, THROTTLING, self._monotonic, self._sleep)

    def ask(self, operation: str, request: RawItem) -> RawItem:
        """One read, repeated while its failure passes. Raises a StoreError."""
        pauses = self.pauses()
        send: Callable[..., Any] = getattr(self._client, operation)
        while True:
            try:
                return dict(send(**request))
            except (ClientError, BotoCoreError) as error:
                if not self._passes(error) or not pauses.pause():
                    raise store_error(error, self._table) from error

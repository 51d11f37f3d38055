"""Many items at once: pages of a query, batches of reads and of writes. What is refused for now is asked again.

A batch has no conditions and is no transaction: it is for receipts, which nobody holds under a lease.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from receipt_dynamo.errors import StoreError
from receipt_dynamo.items import RawItem
from receipt_dynamo.retries import THROTTLING, Pauses
from receipt_dynamo.writes import NO_REPLY, PASSING, store_error

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

WRITES_PER_BATCH: Final = 25
READS_PER_BATCH: Final = 100
PATIENCE_SECONDS: Final = 60.0  # without any progress; a new on-demand table takes a minute or two to widen


@dataclass
class Units:
    """Capacity units that were consumed, as the table counts them. Threads may add at once."""

    read: float = 0.0
    write: float = 0.0
    requests: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, reply: RawItem, kind: str) -> None:
        consumed = reply.get("ConsumedCapacity") or []
        units = sum(each["CapacityUnits"] for each in (consumed if isinstance(consumed, list) else [consumed]))
        with self._lock:
            self.requests += 1
            if kind == "read":
                self.read += units
            else:
                self.write += units


class Bulk:
    """Requests for many items of one table. `monotonic` and `sleep` are injected by tests."""

    def __init__(
        self,
        client: "DynamoDBClient",
        table_name: str,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._client, self._table = client, table_name
        self._monotonic, self._sleep, self._patience = monotonic, sleep, patience_seconds
        self.units = Units()

    def query(self, request: RawItem) -> Iterator[RawItem]:
        """Every item that a query finds, page after page."""
        for reply in self._pages(request):
            yield from reply["Items"]

    def count(self, request: RawItem) -> int:
        """How many items a query finds; they themselves stay where they are."""
        return sum(reply["Count"] for reply in self._pages({**request, "Select": "COUNT"}))

    def _pages(self, request: RawItem) -> Iterator[RawItem]:
        request = {"TableName": self._table, "ReturnConsumedCapacity": "TOTAL", **request}
        while True:
            reply = self._ask(self._client.query, request)
            self.units.add(reply, "read")
            yield reply
            if "LastEvaluatedKey" not in reply:
                return
            request = {**request, "ExclusiveStartKey": reply["LastEvaluatedKey"]}

    def get(self, keys: Iterable[RawItem]) -> list[RawItem]:
        """The items of these keys that exist, in no order. Raises StoreError when some stay unread."""
        found: list[RawItem] = []
        for batch in _cut(list(keys), READS_PER_BATCH):
            pauses = self._pauses()
            while batch:
                request = {self._table: {"Keys": batch}}
                reply = self._ask(
                    self._client.batch_get_item, {"RequestItems": request, "ReturnConsumedCapacity": "TOTAL"}
                )
                self.units.add(reply, "read")
                found += reply["Responses"].get(self._table, [])
                left = reply.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
                if len(left) < len(batch):
                    pauses = self._pauses()
                if left and not pauses.pause():
                    raise StoreError(f"{len(left)} items of table {self._table!r} could not be read: it throttles")
                batch = left
        return found

    def write(self, puts: Sequence[RawItem] = (), deletes: Sequence[RawItem] = ()) -> list[RawItem]:
        """Put items and delete keys; returns those that the table would not take until the patience ran out."""
        actions: list[RawItem] = [{"PutRequest": {"Item": item}} for item in puts]
        actions += [{"DeleteRequest": {"Key": key}} for key in deletes]
        unwritten: list[RawItem] = []
        for batch in _cut(actions, WRITES_PER_BATCH):
            unwritten += [_target(action) for action in self._write_batch(batch)]
        return unwritten

    def _write_batch(self, batch: Sequence[RawItem]) -> Sequence[RawItem]:
        pauses = self._pauses()
        while batch:
            left = self._unprocessed(batch)
            if len(left) < len(batch):
                pauses = self._pauses()
            if left and not pauses.pause():
                return left
            batch = left
        return []

    def _unprocessed(self, batch: Sequence[RawItem]) -> Sequence[RawItem]:
        """What the table did not take of a batch; all of it when it refused the request for now."""
        try:
            request: RawItem = {"RequestItems": {self._table: batch}, "ReturnConsumedCapacity": "TOTAL"}
            reply: RawItem = dict(self._client.batch_write_item(**request))
        except (ClientError, BotoCoreError) as error:
            if not _passes(error):
                raise store_error(error, self._table) from error
            return batch
        self.units.add(reply, "write")
        left: list[RawItem] = reply.get("UnprocessedItems", {}).get(self._table, [])
        return left

    def _ask(self, operation: Callable[..., Any], request: RawItem) -> RawItem:
        """A read, asked again while the refusal is one that passes."""
        pauses = self._pauses()
        while True:
            try:
                return dict(operation(**request))
            except (ClientError, BotoCoreError) as error:
                if not _passes(error) or not pauses.pause():
                    raise store_error(error, self._table) from error

    def _pauses(self) -> Pauses:
        """Until the patience runs out; begun anew after each progress."""
        deadline = self._monotonic() + self._patience
        return Pauses(THROTTLING, lambda: self._monotonic() >= deadline, self._sleep)


def _passes(error: ClientError | BotoCoreError) -> bool:
    if isinstance(error, ClientError):
        return error.response["Error"]["Code"] in PASSING
    return isinstance(error, NO_REPLY)


def _target(action: RawItem) -> RawItem:
    """The key that an action of a batch is about."""
    item: RawItem = action["PutRequest"]["Item"] if "PutRequest" in action else action["DeleteRequest"]["Key"]
    return {name: item[name] for name in ("PK", "SK")}


def _cut(values: Sequence[RawItem], size: int) -> Iterator[Sequence[RawItem]]:
    return (values[start : start + size] for start in range(0, len(values), size))

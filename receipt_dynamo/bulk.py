"""Queries and batches over many items, with retries.

A batch has no conditions and is no transaction: it serves receipts, which are not under a lease.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from receipt_dynamo.errors import StoreError, is_transient, store_error
from receipt_dynamo.items import RawItem
from receipt_dynamo.reads import Reader

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

WRITES_PER_BATCH: Final = 25
READS_PER_BATCH: Final = 100
PATIENCE_SECONDS: Final = 60.0  # without any progress; a new on-demand table takes a minute or two to widen


@dataclass
class Units:
    """Consumed capacity units, as the table counts them. Thread-safe."""

    read: float = 0.0
    write: float = 0.0
    requests: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, reply: RawItem, kind: str) -> None:
        consumed = reply.get("ConsumedCapacity") or []
        tables = consumed if isinstance(consumed, list) else [consumed]
        units = sum(table["CapacityUnits"] for table in tables)
        with self._lock:
            self.requests += 1
            if kind == "read":
                self.read += units
            else:
                self.write += units


class Bulk:
    """Requests for many items of one table. Tests inject `monotonic` and `sleep`."""

    def __init__(
        self,
        client: "DynamoDBClient",
        table_name: str,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._client, self._table = client, table_name
        self._reader = Reader(client, table_name, monotonic, sleep, patience_seconds, passes=is_transient)
        self.units = Units()

    def query(self, request: RawItem) -> Iterator[RawItem]:
        """Every item of a query, page after page."""
        for reply in self._pages(request):
            yield from reply["Items"]

    def count(self, request: RawItem) -> int:
        """The number of items of a query; the items themselves are not transferred."""
        return sum(reply["Count"] for reply in self._pages({**request, "Select": "COUNT"}))

    def _pages(self, request: RawItem) -> Iterator[RawItem]:
        for reply in self._reader.pages({"ReturnConsumedCapacity": "TOTAL", **request}):
            self.units.add(reply, "read")
            yield reply

    def get(self, keys: Iterable[RawItem]) -> list[RawItem]:
        """The existing items of these keys, in no order. Raises StoreError when some stay unread."""
        items: list[RawItem] = []
        for batch in _cut(list(keys), READS_PER_BATCH):
            pauses = self._reader.pauses()
            while batch:
                reply = self._reader.get_many(batch, ReturnConsumedCapacity="TOTAL")
                self.units.add(reply, "read")
                items += reply["Responses"].get(self._table, [])
                left = reply.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
                if len(left) < len(batch):
                    pauses = self._reader.pauses()
                if left and not pauses.pause():
                    raise StoreError(f"{len(left)} items of table {self._table!r} could not be read: it throttles")
                batch = left
        return items

    def write(self, puts: Sequence[RawItem] = (), deletes: Sequence[RawItem] = ()) -> list[RawItem]:
        """Put items and delete keys; returns the keys that the table refused until the patience ran out."""
        actions: list[RawItem] = [{"PutRequest": {"Item": item}} for item in puts]
        actions += [{"DeleteRequest": {"Key": key}} for key in deletes]
        unwritten: list[RawItem] = []
        for batch in _cut(actions, WRITES_PER_BATCH):
            for action in self._write_batch(batch):
                target = action["PutRequest"]["Item"] if "PutRequest" in action else action["DeleteRequest"]["Key"]
                unwritten.append({name: target[name] for name in ("PK", "SK")})
        return unwritten

    def _write_batch(self, batch: Sequence[RawItem]) -> Sequence[RawItem]:
        """Write one batch; returns what is left of it."""
        pauses = self._reader.pauses()
        while batch:
            left = batch  # all of it, when the request itself is refused
            try:
                request: RawItem = {"RequestItems": {self._table: batch}, "ReturnConsumedCapacity": "TOTAL"}
                reply: RawItem = dict(self._client.batch_write_item(**request))
                self.units.add(reply, "write")
                left = reply.get("UnprocessedItems", {}).get(self._table, [])
            except (ClientError, BotoCoreError) as error:
                if not is_transient(error):
                    raise store_error(error, self._table) from error
            if len(left) < len(batch):
                pauses = self._reader.pauses()
            if left and not pauses.pause():
                return left
            batch = left
        return []


def _cut(values: Sequence[RawItem], size: int) -> Iterator[Sequence[RawItem]]:
    return (values[start : start + size] for start in range(0, len(values), size))

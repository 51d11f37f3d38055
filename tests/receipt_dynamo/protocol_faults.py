"""Faults between the run store and a real engine, request by request: refused, lost, stale, crossed, killed.

Works through botocore's events as `wire` does, but sends by itself over one kept connection, so that thousands of
schedules run in the time of the requests alone. Nothing waits: a waiting writer moves the injected clock.
"""

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import botocore
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError
from botocore.session import get_session

from receipt_dynamo import DynamoClient, Lease
from receipt_dynamo.reads import Reader
from receipt_dynamo.writes import Writer
from tests.support.stores import Clock

READS = ("GetItem", "Query")
NEVER = datetime.min.replace(tzinfo=UTC)
WAIT_SECONDS = 10.0  # of the injected clock, for each wait of a writer
# any signature will do for a local engine, and making one takes a fifth of a request
_SIGNED = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0"

RawRow = dict[str, Any]


class Killed(BaseException):
    """The process is gone: nothing in it catches this, and nothing of it runs on."""


class Broken(BaseException):
    """A rule of the protocol was broken by a write; botocore must not take it for a lost connection."""


@dataclass(frozen=True)
class Fault:
    """What happens to the read or write number `at` of an operation, and to those of its sort that follow."""

    where: Literal["read", "write"]
    at: int
    kinds: tuple[str, ...]


@dataclass
class Operation:
    """One call into the run store: who makes it, under which lease, and what its requests meet."""

    name: str
    actor: str
    lease: Lease | None = None
    fault: Fault | None = None
    given: object = None  # what the call was given, for the rules to compare
    needs: tuple[int, ...] = ()  # seq of the events that have to be stored before a pointer
    count: dict[str, int] = field(default_factory=lambda: {"read": 0, "write": 0})
    began: datetime = NEVER
    is_crossed: bool = False  # others wrote meanwhile, or an index was stale: what it read may be old

    def kind_of_next(self, where: str) -> str:
        number = self.count[where]
        self.count[where] += 1
        if self.fault is None or self.fault.where != where:
            return "send"
        index = number - self.fault.at
        if self.fault.kinds == ("outage",) and index >= 0:
            return "unsent"
        return self.fault.kinds[index] if 0 <= index < len(self.fault.kinds) else "send"


@dataclass(frozen=True)
class Witness:
    """What a schedule does when a request passes by."""

    wrote: Callable[[Operation, set[str]], None]
    cross: Callable[[Operation, str], None]
    stale_rows: Callable[[str, str, int], list[RawRow]]
    replied: Callable[[Operation], None]


class Engine:
    """One kept connection to the engine."""

    def __init__(self, endpoint: str) -> None:
        place = urlsplit(endpoint)
        self._socket = socket.create_connection((place.hostname, place.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self._socket.makefile("rb")
        self._host = place.netloc

    def send(self, operation: str, body: bytes) -> tuple[int, bytes]:
        head = (
            f"POST / HTTP/1.1\r\nHost: {self._host}\r\nX-Amz-Target: DynamoDB_20120810.{operation}\r\n"
            f"Content-Type: application/x-amz-json-1.0\r\nX-Amz-Date: 20260101T000000Z\r\n"
            f"Authorization: {_SIGNED}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + body)
        status = int(self._stream.readline().split()[1])
        length = 0
        while (line := self._stream.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return status, self._stream.read(length)

    def rows(self, table: str, partition: str) -> list[RawRow]:
        """Everything that is stored under one partition key, consistently."""
        request = {
            "TableName": table,
            "KeyConditionExpression": "PK = :p",
            "ExpressionAttributeValues": {":p": {"S": partition}},
            "ConsistentRead": True,
        }
        status, reply = self.send("Query", json.dumps(request).encode())
        assert status == 200, reply
        rows: list[RawRow] = json.loads(reply)["Items"]
        return rows

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


@dataclass
class Line:
    """The way from one client to the engine. `stack` holds the operations under way, the innermost last."""

    client: DynamoClient
    engine: Engine
    stack: list[Operation] = field(default_factory=list)
    sent: int = 0

    def __post_init__(self) -> None:
        old = self.client.raw.meta
        config = old.config.merge(Config(parameter_validation=False))  # a tenth of the time of a request
        self.client.raw = get_session().create_client(
            "dynamodb", region_name=old.region_name, endpoint_url=old.endpoint_url, config=config
        )
        events = self.client.raw.meta.events
        events.register_first("choose-signer.dynamodb", lambda **_: botocore.UNSIGNED)
        events.register_first("before-send.dynamodb", self._before_send)
        events.register_first("needs-retry.dynamodb", retry_at_once)

    def open(self, table: str, witness: Witness, clock: Clock) -> None:
        """Begin a schedule: another witness, a clock of its own, nothing under way."""
        self.witness, self.stack, self.sent = witness, [], 0
        self.client.table_name = table
        wait = clock.pass_seconds
        self.client.writer, self.client.reader = (
            kind(self.client.raw, table, monotonic=clock.monotonic, sleep=lambda _seconds: wait(WAIT_SECONDS))
            for kind in (Writer, Reader)
        )

    def _before_send(self, request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse:
        name = event_name.rpartition(".")[2]
        where = "read" if name in READS else "write"
        operation = self.stack[-1]
        kind = operation.kind_of_next(where)
        body = request.body if isinstance(request.body, bytes) else str(request.body).encode()
        if kind.startswith("meanwhile "):
            operation.is_crossed = True
            self.witness.cross(operation, kind.removeprefix("meanwhile "))
        elif kind.startswith("stale") and b'"IndexName"' in body:
            operation.is_crossed = True
            return self._stale(request, json.loads(body), int(kind.removeprefix("stale ")))
        elif (refusal := REFUSALS.get(kind)) is not None:
            return response(request, *refusal(name, body))
        elif kind == "unsent":
            raise ConnectTimeoutError(endpoint_url=request.url)
        elif kind == "kill before":
            raise Killed
        return self._deliver(request, operation, name, body, kind)

    def _deliver(
        self, request: AWSPreparedRequest, operation: Operation, name: str, body: bytes, kind: str
    ) -> AWSResponse:
        status, reply = self.engine.send(name, body)
        self.sent += 1
        if status == 200 and name not in READS:
            self.witness.wrote(operation, _job_ids(json.loads(body)))
        if kind == "lost":
            raise ReadTimeoutError(endpoint_url=request.url)
        if kind == "kill after":
            raise Killed
        self.witness.replied(operation)
        return response(request, status, reply)

    def _stale(self, request: AWSPreparedRequest, query: dict[str, Any], lag: int) -> AWSResponse:
        partition = query["ExpressionAttributeValues"][":p"]["S"]
        rows = self.witness.stale_rows(query["IndexName"], partition, lag)
        if not query.get("ScanIndexForward", True):
            rows.reverse()
        return response(request, 200, json.dumps({"Items": rows, "Count": len(rows)}).encode())


def retry_at_once(
    attempts: int, response: tuple[object, dict[str, Any]] | None, caught_exception: Exception | None, **_: object
) -> int | None:
    """botocore's own second attempt, without its random wait."""
    parsed = {} if response is None else response[1]
    code, status = parsed.get("Error", {}).get("Code", ""), parsed.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    is_passing = status >= 500 or code in ("ThrottlingException", "TransactionInProgressException")
    return 0 if attempts == 1 and (caught_exception is not None or is_passing) else None


def _job_ids(body: dict[str, Any]) -> set[str]:
    actions = [next(iter(action.values())) for action in body.get("TransactItems", [])] or [body]
    keys = [action.get("Key") or action["Item"] for action in actions]
    return {key["PK"]["S"].partition("#")[2] for key in keys}


Refusal = Callable[[str, bytes], tuple[int, bytes]]


def _error(status: int, code: str) -> Refusal:
    document = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": code}).encode()
    return lambda _name, _body: (status, document)


def _conflict(beside: str) -> Refusal:
    """AWS spells it in two ways; `beside` is the reason of the transaction's other actions."""

    def refuse(name: str, body: bytes) -> tuple[int, bytes]:
        if name != "TransactWriteItems":
            return _error(400, "TransactionConflictException")(name, body)
        others = len(json.loads(body)["TransactItems"]) - 1
        reasons = [{"Code": beside}] * others + [{"Code": "TransactionConflict"}]
        code = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException"
        return 400, json.dumps({"__type": code, "message": "cancelled", "CancellationReasons": reasons}).encode()

    return refuse


REFUSALS: dict[str, Refusal] = {
    "throttle": _error(400, "ThrottlingException"),
    "500": _error(500, "InternalServerError"),
    "503": _error(503, "ServiceUnavailable"),
    "in progress": _error(400, "TransactionInProgressException"),
    "conflict": _conflict("None"),
    "conflict and a failed condition": _conflict("ConditionalCheckFailed"),
}


@dataclass(frozen=True)
class _Body:
    data: bytes

    def stream(self) -> Iterator[bytes]:
        yield self.data


def response(request: AWSPreparedRequest, status: int, body: bytes) -> AWSResponse:
    return AWSResponse(request.url, status, {"x-amzn-requestid": "ANSWERED"}, _Body(body))

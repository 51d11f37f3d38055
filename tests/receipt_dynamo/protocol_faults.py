"""Faults between the run store and what answers it, request by request: refused, lost, stale, crossed, killed.

Requests to the engine pass through botocore and its events, and are sent over one kept connection. Those to the memory
leave botocore's client where it would begin to make bytes of them. Nothing waits: a waiting writer moves the injected
clock.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import botocore
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectTimeoutError, HTTPClientError, ReadTimeoutError
from botocore.session import get_session

from receipt_dynamo import DynamoClient, Lease
from receipt_dynamo.reads import Reader
from receipt_dynamo.writes import Writer
from tests.receipt_dynamo.protocol_store import Memory, RawRow, Reply, Store
from tests.support.stores import Clock

READS = ("GetItem", "Query")
NEVER = datetime.min.replace(tzinfo=UTC)
WAIT_SECONDS = 10.0  # of the injected clock, for each wait of a writer


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


@dataclass
class Line:
    """The way from one client to the store. `stack` holds the operations under way, the innermost last."""

    client: DynamoClient
    store: Store
    stack: list[Operation] = field(default_factory=list)
    sent: int = 0

    def __post_init__(self) -> None:
        old = self.client.raw.meta
        config = old.config.merge(Config(parameter_validation=False))  # a tenth of the time of a request
        self.client.raw = get_session().create_client(
            "dynamodb", region_name=old.region_name, endpoint_url=old.endpoint_url, config=config
        )
        if isinstance(self.store, Memory):
            self.client.raw._make_api_call = self._make_api_call  # type: ignore[attr-defined]
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
        body = request.body if isinstance(request.body, bytes) else str(request.body).encode()
        status, reply = self._pass(event_name.rpartition(".")[2], json.loads(body))
        return response(request, status, json.dumps(reply).encode())

    def _make_api_call(self, name: str, request: RawRow) -> RawRow:
        """In place of botocore's: no bytes are made, and a request is tried as often."""
        for attempt in (1, 2):
            try:
                status, reply = self._pass(name, request)
            except HTTPClientError:
                if attempt == 2:
                    raise
                continue
            if status == 200:
                return {**reply, "ResponseMetadata": {"HTTPStatusCode": status}}
            code = reply["__type"].rpartition("#")[2]
            if attempt == 2 or not is_passing(status, code):
                break
        error = {"Code": code, "Message": reply.get("message") or reply["Message"]}
        raise ClientError({**reply, "Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}, name)  # type: ignore[typeddict-item]

    def _pass(self, name: str, request: RawRow) -> Reply:
        """What the next request meets: the store, or a fault on the way."""
        where = "read" if name in READS else "write"
        operation = self.stack[-1]
        kind = operation.kind_of_next(where)
        if kind.startswith("meanwhile "):
            operation.is_crossed = True
            self.witness.cross(operation, kind.removeprefix("meanwhile "))
        elif kind.startswith("stale") and "IndexName" in request:
            operation.is_crossed = True
            return 200, self._stale(request, int(kind.removeprefix("stale ")))
        elif (refusal := REFUSALS.get(kind)) is not None:
            return refusal(name, request)
        elif kind == "unsent":
            raise ConnectTimeoutError(endpoint_url="the store")
        elif kind == "kill before":
            raise Killed
        return self._deliver(operation, name, request, kind)

    def _deliver(self, operation: Operation, name: str, request: RawRow, kind: str) -> Reply:
        status, reply = self.store.call(name, request)
        self.sent += 1
        if status == 200 and name not in READS:
            self.witness.wrote(operation, _job_ids(request))
        if kind == "lost":
            raise ReadTimeoutError(endpoint_url="the store")
        if kind == "kill after":
            raise Killed
        self.witness.replied(operation)
        return status, reply

    def _stale(self, query: RawRow, lag: int) -> RawRow:
        partition = query["ExpressionAttributeValues"][":p"]["S"]
        rows = self.witness.stale_rows(query["IndexName"], partition, lag)
        if not query.get("ScanIndexForward", True):
            rows.reverse()
        return {"Items": rows, "Count": len(rows)}


def is_passing(status: int, code: str) -> bool:
    return status >= 500 or code in ("ThrottlingException", "TransactionInProgressException")


def retry_at_once(
    attempts: int, response: tuple[object, dict[str, Any]] | None, caught_exception: Exception | None, **_: object
) -> int | None:
    """botocore's own second attempt, without its random wait."""
    parsed = {} if response is None else response[1]
    code, status = parsed.get("Error", {}).get("Code", ""), parsed.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return 0 if attempts == 1 and (caught_exception is not None or is_passing(status, code)) else None


def _job_ids(request: RawRow) -> set[str]:
    """The jobs whose rows a request writes. An alert changes none of a job's rows: it checks them and adds its own."""
    actions = [next(iter(action.values())) for action in request.get("TransactItems", [])] or [request]
    keys = [action.get("Key") or action["Item"] for action in actions]
    if any(key["SK"]["S"].startswith("ALERT#") for key in keys):
        return set()
    return {key["PK"]["S"].removeprefix("JOB#") for key in keys if key["PK"]["S"].startswith("JOB#")}


Refusal = Callable[[str, RawRow], Reply]


def _error(status: int, code: str) -> Refusal:
    document = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": code}
    return lambda _name, _request: (status, document)


def _conflict(beside: str) -> Refusal:
    """AWS spells it in two ways; `beside` is the reason of the transaction's other actions."""

    def refuse(name: str, request: RawRow) -> Reply:
        if name != "TransactWriteItems":
            return _error(400, "TransactionConflictException")(name, request)
        others = len(request["TransactItems"]) - 1
        reasons = [{"Code": beside}] * others + [{"Code": "TransactionConflict"}]
        code = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException"
        return 400, {"__type": code, "message": "cancelled", "CancellationReasons": reasons}

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

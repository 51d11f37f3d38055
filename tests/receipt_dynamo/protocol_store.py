"""What answers the model's requests: the engine, or a DynamoDB in memory for the requests of the run store alone.

`Twin` sends each request to the engine too and requires the same reply, which is how this store is proven.
"""

import json
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import urlsplit

RawRow = dict[str, Any]
Names = tuple[tuple[str, str], ...]  # placeholder and attribute
Reply = tuple[int, RawRow]  # HTTP status and document
Key = tuple[str, str]
# any signature will do for a local engine, and making one takes a fifth of a request
_SIGNED = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0"
_ERROR = "com.amazonaws.dynamodb.v20120810#"
_CONDITION_FAILED = "The conditional request failed"
# of an expression: a path, a value, an operator, a word
_TOKEN = re.compile(r"#\w+(?:\.#\w+)*|:\w+|<=|>=|[=<>(),+]|\w+")
_WORDS = {"AND": "and", "OR": "or", "NOT": "not", "IN": "in", "=": "=="}
_FUNCTIONS = {"attribute_exists": "_is_there", "attribute_not_exists": "not _is_there", "if_not_exists": "_first"}
_SET = re.compile(r"(#\w+) = (if_not_exists \([^)]*\)|[^,]+)")


class _Missing:
    """The value of an attribute that an item lacks: every comparison with it fails."""

    def __eq__(self, _other: object) -> bool:
        return False

    __lt__ = __le__ = __gt__ = __ge__ = __eq__  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


_MISSING = _Missing()


class Store(Protocol):
    """What answers requests: the engine, this module's table, or both."""

    def call(self, operation: str, request: RawRow) -> Reply: ...

    def rows(self, table: str, partition: str) -> list[RawRow]:
        """Everything that is stored under one partition key, consistently."""


def _value(raw: RawRow | None) -> Any:
    """Comparable: numbers as numbers, texts as texts, the rest as stored."""
    if raw is None:
        return _MISSING
    ((sort, inner),) = raw.items()
    return inner if sort == "S" else (float(inner) if "." in inner else int(inner)) if sort == "N" else raw


def _at(item: RawRow, *path: str) -> Any:
    raw: RawRow | None = item
    for depth, name in enumerate(path):
        raw = (raw if depth == 0 else raw.get("M", {})).get(name)
        if raw is None:
            return _MISSING
    return _value(raw)


def _is_there(value: object) -> bool:
    return value is not _MISSING


def _first(value: Any, otherwise: Any) -> Any:
    return otherwise if value is _MISSING else value


def _as_python(expression: str, names: dict[str, str]) -> Iterator[str]:
    for token in _TOKEN.findall(expression):
        if token.startswith("#"):
            yield f"_at(item, {', '.join(repr(names[each]) for each in token.split('.'))})"
        elif token.startswith(":"):
            yield f"_value(values[{token!r}])"
        else:
            name = f"_at(item, {token!r})" if token.isidentifier() else token
            yield _WORDS.get(token) or _FUNCTIONS.get(token) or name


@lru_cache(None)
def _compiled(expression: str, names: Names) -> Callable[[RawRow, RawRow], Any]:
    """Of an item and the request's values. DynamoDB's operators bind as Python's do."""
    source = f"lambda item, values: {' '.join(_as_python(expression, dict(names)))}"
    return eval(source)  # type: ignore[no-any-return]  # an expression that PynamoDB made


@lru_cache(None)
def _changes(expression: str, names: Names) -> tuple[list[tuple[str, Callable[[RawRow, RawRow], Any]]], list[str]]:
    """Of an update: what each attribute is set to, as _as_stored takes it, and the attributes that are removed."""
    sets, _, removed = expression.removeprefix("SET ").partition("REMOVE ")
    named = dict(names)
    to_set = [(named[target], _source(source, names)) for target, source in _SET.findall(sets)]
    return to_set, [named[each.strip()] for each in removed.split(",") if each]


def _source(text: str, names: Names) -> Callable[[RawRow, RawRow], Any]:
    text = text.strip()
    if text.startswith(":"):
        return lambda _item, values: values[text]
    compute = _compiled(text, names)
    return lambda item, values: _as_stored(compute(item, values))


def _as_stored(value: str | int) -> RawRow:
    return {"S": value} if isinstance(value, str) else {"N": str(value)}


class Engine:
    """One kept connection to the engine."""

    def __init__(self, endpoint: str) -> None:
        place = urlsplit(endpoint)
        self._socket = socket.create_connection((place.hostname, place.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self._socket.makefile("rb")
        self._host = place.netloc

    def call(self, operation: str, request: RawRow) -> Reply:
        body = json.dumps(request).encode()
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
        return status, json.loads(self._stream.read(length) or b"{}")

    def rows(self, table: str, partition: str) -> list[RawRow]:
        request = {
            "TableName": table,
            "KeyConditionExpression": "PK = :p",
            "ExpressionAttributeValues": {":p": {"S": partition}},
            "ConsistentRead": True,
        }
        status, reply = self.call("Query", request)
        assert status == 200, reply
        rows: list[RawRow] = reply["Items"]
        return rows

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


@dataclass
class Memory:
    """The tables, each as items by their key. Items are replaced, never changed."""

    tables: dict[str, dict[Key, RawRow]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)  # ClientRequestTokens

    def call(self, operation: str, request: RawRow) -> Reply:
        if operation == "TransactWriteItems":
            return self._transact(request)
        table = self.tables.setdefault(request["TableName"], {})
        if operation == "GetItem":
            item = table.get(_key(request["Key"]))
            return 200, {} if item is None else {"Item": dict(item)}
        if operation == "Query":
            return 200, _query(table, request)
        loser = _loser(table, request)
        if loser is not None:
            shown = {"Item": loser} if loser else {}
            return 400, {
                "__type": f"{_ERROR}ConditionalCheckFailedException",
                "message": _CONDITION_FAILED,
                **shown,
            }
        _apply(table, {"PutItem": "Put", "UpdateItem": "Update"}[operation], request)
        return 200, {"Attributes": dict(table[_key(request["Key"])])} if "ReturnValues" in request else {}

    def clear(self) -> None:
        self.tables.clear()
        self.done.clear()

    def rows(self, table: str, partition: str) -> list[RawRow]:
        items = self.tables.get(table, {})
        return [items[key] for key in sorted(key for key in items if key[0] == partition)]

    def _transact(self, request: RawRow) -> Reply:
        if request["ClientRequestToken"] in self.done:
            return 200, {}
        actions = [next(iter(action.items())) for action in request["TransactItems"]]
        table = self.tables.setdefault(actions[0][1]["TableName"], {})
        losers = [_loser(table, action) for _, action in actions]
        if any(loser is not None for loser in losers):
            reasons = [{"Code": "None"} if loser is None else _reason(loser) for loser in losers]
            codes = ", ".join(reason["Code"] for reason in reasons)
            return 400, {
                "__type": f"{_ERROR}TransactionCanceledException",
                "Message": f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]",
                "CancellationReasons": reasons,
            }
        for kind, action in actions:
            _apply(table, kind, action)
        self.done.add(request["ClientRequestToken"])
        return 200, {}


def _key(raw: RawRow) -> Key:
    return raw["PK"]["S"], raw["SK"]["S"]


def _names(request: RawRow) -> Names:
    return tuple(request.get("ExpressionAttributeNames", {}).items())


def _loser(table: dict[Key, RawRow], action: RawRow) -> RawRow | None:
    """The item that a condition did not hold of (empty: no item), or None."""
    item = table.get(_key(action.get("Key") or action["Item"]), {})
    if "ConditionExpression" not in action:
        return None
    holds = _compiled(action["ConditionExpression"], _names(action))
    return None if holds(item, action.get("ExpressionAttributeValues", {})) else item


def _reason(loser: RawRow) -> RawRow:
    return {
        "Code": "ConditionalCheckFailed",
        "Message": _CONDITION_FAILED,
        **({"Item": loser} if loser else {}),
    }


def _apply(table: dict[Key, RawRow], kind: str, action: RawRow) -> None:
    if kind == "Put":
        table[_key(action["Item"])] = action["Item"]
    elif kind == "Update":
        old = table.get(_key(action["Key"]), action["Key"])
        to_set, removed = _changes(action["UpdateExpression"], _names(action))
        values = action.get("ExpressionAttributeValues", {})
        new = {**old, **{name: source(old, values) for name, source in to_set}}
        for name in removed:
            new.pop(name, None)
        table[_key(action["Key"])] = new


def _query(table: dict[Key, RawRow], request: RawRow) -> RawRow:
    """One page: the rows of a partition, those of a prefix, or those between two texts."""
    index, values = request.get("IndexName", ""), request["ExpressionAttributeValues"]
    partition, sort = f"{index}PK", f"{index}SK"
    condition = request["KeyConditionExpression"]
    least, most = values.get(":from", {"S": ""})["S"], values.get(":to", {"S": "\U0010ffff"})["S"]
    prefix = values.get(":s", {"S": ""})["S"]
    if condition.partition(" AND ")[2] not in ("", "begins_with(#s, :s)", "#s BETWEEN :from AND :to"):
        raise KeyError(condition)
    rows = [
        row
        for row in table.values()
        if row.get(partition) == values[":p"] and row[sort]["S"].startswith(prefix) and least <= row[sort]["S"] <= most
    ]
    rows.sort(key=lambda row: str(row[sort]["S"]), reverse=not request.get("ScanIndexForward", True))
    start, limit = request.get("ExclusiveStartKey"), request.get("Limit", len(rows) + 1)
    if start is not None:
        rows = rows[1 + [_key(row) for row in rows].index(_key(start)) :]
    page = [dict(row) for row in rows[:limit]]
    reply: RawRow = {"Items": page, "Count": len(page), "ScannedCount": len(page)}
    if len(rows) >= limit:  # as the engine and DynamoDB: they do not look whether another one follows
        reply["LastEvaluatedKey"] = {name: page[-1][name] for name in dict.fromkeys(("PK", "SK", partition, sort))}
    return reply


@dataclass
class Twin:
    """The engine, whose replies count, and a memory that has to give the same."""

    engine: Store
    memory: Memory = field(default_factory=Memory)
    compared: int = 0

    def call(self, operation: str, request: RawRow) -> Reply:
        reply, again = self.engine.call(operation, request), self.memory.call(operation, request)
        assert again == reply, f"{operation} {request}: the engine answers {reply}, the memory {again}"
        self.compared += 1
        return reply

    def rows(self, table: str, partition: str) -> list[RawRow]:
        rows = self.engine.rows(table, partition)
        assert rows == self.memory.rows(table, partition)
        return rows

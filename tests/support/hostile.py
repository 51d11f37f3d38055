"""What no program of ours writes: values for a row's attributes and bytes for an object, and the check of a command.

Drawn from a seed, so that a failure names what to run again.
"""

import json
import random
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Final

from click.testing import Result

from receipt_layoutlm.redact import printable

Value = dict[str, Any]

EXIT_CODES: Final = frozenset({0, 1, 2, 100, 101, 103, 130})
DEEP: Final = 100_000
LEVELS: Final = 1_500
"""Levels, more than Python's stack has; some readers take seconds for a line of 100,000."""
CONTROLS: Final = "\x1b[2J\x1b]0;title\x07\r\x08\x00\x7f\x9b31m\u202e\u2066\u200f\ufeff\u2028\u2029tab\tend\nnew: line"
TIMES: Final = (
    "9999-12-31T23:59:59.999999+00:00",
    "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59",
    "0001-01-01T00:00:00",
    "1900-01-01T00:00:00.000000+00:00",
    "2026-02-30T00:00:00",
    "20260501",
    "\u0662\u0660\u0662\u0666-05-01",
)
NUMBERS: Final = ("9" * 400, "-1", "0", "1e400", "-1e308", "1e-400", "NaN", "Infinity", "1.5", "99999999999999999999")
TEXTS: Final = (
    "",
    " ",
    CONTROLS,
    "x" * 50_000,
    "{",
    "null",
    "true",
    "[]",
    "{}",
    '"text"',
    "\ud7ff\U0010ffff",
    "%s%n{}",
)
DOCUMENTS: Final = (
    "[" * DEEP + "]" * DEEP,
    '{"a":' * 50_000 + "1" + "}" * 50_000,  # an item holds 400 KB
    *("[" * levels + "]" * levels for levels in (300, 900)),
    *('{"a":' * levels + "1" + "}" * levels for levels in (300, 900)),
    "[" * DEEP,
    f'{{"epochs": {"9" * 400}, "lr": 1e999, "dataset": [1], "given": 7, "warnings": "x", "task": {{}}}}',
    f'{{"metric_value": {"9" * 400}, "per_label": {{"A": {{"f1": 1e999}}}}, "global_step": {"9" * 400}}}',
    '{"metric_value": NaN, "test": [], "confusion": "x", "comparability": {"sha256": 1}, "stop_reason": []}',
    '{"metric_value": true, "per_label": [[]], "hardware": 1, "health": 7, "remedy": [1], "best_global_step": "x"}',
    json.dumps({CONTROLS: CONTROLS, "metric_name": CONTROLS, "health": [CONTROLS], "stop_reason": CONTROLS}),
    '{"errors": -1e308, "max_errors": 1e308}',
    '{"bucket": "../..", "prefix": "\\u001b[2J"}',
    '{"cause": {}, "message": 1}',
    '{"tables": {"uri": "s3://x/\\u0000", "names": 7}}',
)


def _whole(text: str) -> str:
    return text if text.lstrip("-").isdigit() else "7"


def values() -> list[Value]:
    """Values of every type of DynamoDB. Some do not fit into a table that checks numbers."""
    texts = [*TIMES, *NUMBERS, *TEXTS, *DOCUMENTS]
    deep: Value = {"S": "end"}
    for _ in range(30):  # DynamoDB allows 32 levels
        deep = {"L": [deep]}
    return [
        *({"S": text} for text in texts),
        *({"N": number} for number in NUMBERS if number not in ("NaN", "Infinity")),
        {"B": b""},
        {"B": b"\xff\xfe\x00\x1b[2J"},
        {"BOOL": True},
        {"NULL": True},
        {"SS": ["a", CONTROLS]},
        {"NS": ["1", "9" * 30]},
        {"BS": [b"\xff"]},
        {"L": []},
        {"L": [{"S": CONTROLS}, {"N": "1"}, {"NULL": True}]},
        {"M": {}},
        {"M": {CONTROLS: {"S": CONTROLS}, "attempt": {"N": "1"}, "global_step": {"S": "x"}}},
        {
            "M": {
                "attempt": {"N": "9" * 38},
                "global_step": {"N": "9" * 38},
                "manifest_sha256": {"S": CONTROLS},
            }
        },
        {"M": {"metric_value": {"N": "9" * 38}, "per_label": {"M": {"A": {"M": {"f1": {"S": "x"}}}}}}},
        deep,
    ]


def mutations(row: Value, rng: random.Random, many: int | None) -> list[tuple[str, Value | None]]:
    """Attributes of a row with the value that replaces each, or None to remove it: all of them, or some at random."""
    names = sorted(set(row) - {"PK", "SK"})
    every: list[tuple[str, Value | None]] = [(name, value) for name in names for value in (None, *values())]
    return every if many is None else rng.sample(every, min(many, len(every)))


def complaint(result: Result) -> str | None:
    """What is wrong with the end of a command: a traceback, an exit code that means nothing, a control character."""
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return "".join(traceback.format_exception(result.exception)[-12:])
    if result.exit_code not in EXIT_CODES:
        return f"exit code {result.exit_code}"
    for name, shown in (("stdout", result.stdout), ("stderr", result.stderr)):
        if shown != printable(shown):
            odd = next(place for place, (a, b) in enumerate(zip(shown, printable(shown), strict=True)) if a != b)
            return f"{name} has a control character: {shown[max(0, odd - 60) : odd + 20]!r}"
        if "Traceback (most recent" in shown:
            return f"{name} has a traceback: {shown[-400:]}"
    return None


def damaged(content: bytes, rng: random.Random, more: Sequence[bytes] = ()) -> bytes:
    """Bytes of a file with one to four changes: cut, doubled, replaced, or with hostile tokens put in."""
    tokens = [
        *more,
        *more,
        *(text.encode("utf-8", "surrogatepass") for text in (*TIMES, *NUMBERS, *TEXTS[:3])),
        *(
            b"[" * LEVELS,
            b"[" * 900 + b"]" * 900,
            b'{"a":' * 900 + b"1" + b"}" * 900,
            b'{"a":' * LEVELS,
            b"\xff\xfe",
            b"\x00",
            b"null",
            b"true",
            b"-",
            b"\\ud800",
            b"\\u0000",
            b"\\u001b[2J",
        ),
        *(b"{", b"}", b"[", b"]", b'"', b":", b",", b"\n", b"\t", b"1e999", b"\xed\xa0\x80", b"9" * 400),
    ]
    changes: Sequence[Callable[[bytes], bytes]] = (
        lambda data: data[: rng.randrange(len(data) + 1)],
        lambda data: _put(data, rng.choice(tokens), rng),
        lambda data: _put(data, rng.choice(tokens), rng),
        lambda data: _instead_of_number(data, rng.choice(tokens), rng),
        lambda data: _put(data, bytes([rng.randrange(256)]), rng),
        lambda data: data * 2,
        lambda data: _without(data, rng),
    )
    for _ in range(rng.randint(1, 4)):
        content = rng.choice(changes)(content)
    return content


def _put(data: bytes, token: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + token + data[at + rng.choice((0, 0, 1, len(token))) :]


def _instead_of_number(data: bytes, token: bytes, rng: random.Random) -> bytes:
    places = [at for at, byte in enumerate(data) if 48 <= byte < 58]
    if not places:
        return data
    start = end = rng.choice(places)
    while end < len(data) and 48 <= data[end] < 58:
        end += 1
    return data[:start] + token + data[end:]


def _without(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start + rng.randint(1, 20) :]

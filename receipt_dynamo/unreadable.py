"""Rows that cannot be read: an error for one that was asked for; a list leaves them out, counts and names them.

What is read is hostile: other programs, older and newer versions write into the same table.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from pydantic import ValidationError

from receipt_dynamo.attributes import SHOWN
from receipt_dynamo.errors import UnreadableRow
from receipt_dynamo.items import RawItem

log = logging.getLogger(__name__)
R = TypeVar("R")

NAMED: Final = 3  # rows that one warning names; it counts all of them
REASON_CHARACTERS: Final = 120

# what parsing a document of any content may raise; a nesting too deep for json is a RecursionError
_FAULTS: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


def read(parse: Callable[[RawItem], R], raw: RawItem) -> R:
    """The record of a row. Raises UnreadableRow, which names the row and the reason."""
    try:
        return parse(raw)
    except _FAULTS as error:
        place = " / ".join(repr(raw.get(name, {}).get("S")) for name in ("PK", "SK"))
        raise UnreadableRow(f"row {place} cannot be read: {_reason(error, raw)}", place) from error


def readable(
    parse: Callable[[RawItem], R], rows: Iterable[RawItem], note: Callable[[str], object] = lambda place: None
) -> Iterator[R]:
    """The records of all rows that can be read; one warning at the end counts the others and names the first.

    `note` gets the place of each of the others.
    """
    skipped, named = 0, []
    try:
        for raw in rows:
            try:
                record = read(parse, raw)
            except UnreadableRow as error:
                skipped += 1
                note(error.place)
                named += [str(error)] if skipped <= NAMED else []
            else:
                yield record
    finally:
        if skipped:
            more = f"; and {skipped - NAMED} more" if skipped > NAMED else ""
            log.warning("%s skipped: %s%s", "1 row" if skipped == 1 else f"{skipped} rows", "; ".join(named), more)


_WRONG_TYPE = re.compile(r"Cannot deserialize '(.+)' attribute from type: (\w+)")
_NO_MEMBER = re.compile(r"(.*) is not a valid (?:JobStatus|ValidationStatus|Priority)")
_TYPES: Final = {"S": "a text", "N": "a number", "BOOL": "true or false", "M": "a map"}  # that PynamoDB expects


def _reason(error: Exception, raw: RawItem) -> str:
    """The attribute, its value and what is expected, as far as they are known."""
    text = next(iter(str(error).splitlines()), "")
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False)[0]
        name = ".".join(map(str, first["loc"])) or error.title
        text = f"{name} {repr(first['input'])[:SHOWN]}: {first['msg']}"
    elif match := _WRONG_TYPE.match(text):
        text = f"{match[1]} {str(raw.get(match[1]))[:SHOWN]} is not {_TYPES.get(match[2], match[2])}"
    elif match := _NO_MEMBER.fullmatch(text):
        name = next((name for name, stored in raw.items() if repr(stored.get("S")) == match[1]), "its status")
        text = f"{name} {match[1]} is none of its values" if match[1] != "None" else "it has no status"
    elif isinstance(error, KeyError):
        text = f"{error.args[0]} is missing"
    elif not isinstance(error, ValueError):
        text = "a value is missing or of another type"
    return text[:REASON_CHARACTERS]

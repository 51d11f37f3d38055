"""Rows that cannot be read: an error for one that was asked for; a list leaves them out, counts and names them.

What is read is hostile: other programs, older and newer versions write into the same table.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from pydantic import ValidationError

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
        raise UnreadableRow(f"row {place} cannot be read: {_reason(error)}", place) from error


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


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:REASON_CHARACTERS]

"""Limits of stored texts and documents: an item holds 400 KB, the key of an index 2,048 bytes."""

import json
from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from receipt_dynamo.entities import JobError
from receipt_dynamo.errors import InvalidInput

# bytes, as UTF-8; of a document, as JSON. Together with results and an error they stay below an item's 409,600
LONGEST: Final[Mapping[str, int]] = {
    "name": 1000,
    "queue": 200,
    "created_by": 2000,
    "unique_key": 1000,
    "description": 4000,
    "tags": 8000,
    "config": 200_000,
    "labels": 390_000,  # of a dataset, with their counts
}
OPTIONS: Final[Mapping[str, str]] = {  # of the command line
    "name": "--job-name",
    "queue": "--queue",
    "unique_key": "--unique-key",
    "description": "--description",
    "tags": "--tag",
}
MESSAGE_CHARACTERS: Final = 8000
LOG_TAIL_CHARACTERS: Final = 40_000
PAGE_IDS: Final = 100  # named in an error
# of an error, as JSON, in which a character takes up to 12 bytes
MESSAGE_BYTES: Final = 24_000
LOG_TAIL_BYTES: Final = 60_000
PAGE_IDS_BYTES: Final = 40_000


def check_lengths(**values: JsonValue) -> None:
    """Raise InvalidInput for the first value that is longer than its limit in LONGEST. None is not checked."""
    for name, value in values.items():
        if value is None:
            continue
        text = value if isinstance(value, str) else json.dumps(value)
        if (size := len(text.encode())) > LONGEST[name]:
            option = f" ({OPTIONS[name]})" if name in OPTIONS else ""
            raise InvalidInput(f"{name}{option} has {size:,} bytes: use at most {LONGEST[name]:,}")


def cut_error(error: JobError) -> JobError:
    """The error without what an item has no room for: a job must be able to fail, whatever its trainer says."""
    message, log_tail = cut_text(error.message), error.log_tail[-LOG_TAIL_CHARACTERS:]
    page_ids = tuple(cut_text(page_id, 200) for page_id in error.page_ids[:PAGE_IDS])
    while (size := len(json.dumps(message))) > MESSAGE_BYTES:
        message = cut_text(message, len(message) * MESSAGE_BYTES // size)
    while (size := len(json.dumps(log_tail))) > LOG_TAIL_BYTES:
        log_tail = log_tail[-(len(log_tail) * LOG_TAIL_BYTES // size) :]
    while len(json.dumps(page_ids)) > PAGE_IDS_BYTES:
        page_ids = page_ids[: len(page_ids) // 2]
    return error.model_copy(update={"message": message, "page_ids": page_ids, "log_tail": log_tail})


def cut_text(text: str, characters: int = MESSAGE_CHARACTERS) -> str:
    """The beginning of a text, with a mark where it was cut."""
    return text if len(text) <= characters else text[: characters - 2] + " …"

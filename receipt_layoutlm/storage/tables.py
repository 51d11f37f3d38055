"""Tables that are too large for an item of the run store: an object in the bucket, and its place in the row.

Scores of 20,000 labels are some megabytes, an item holds 400 KB. Headline, steps and stamps stay in the row, so that
lists, @best and rankings need no bucket.
"""

import gzip
import hashlib
import json
import logging
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from receipt_dynamo import Job, JsonObject
from receipt_layoutlm.data.source_text import unpacked
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import StorageError
from receipt_layoutlm.storage.keys import RunKeys

DOCUMENT_BYTES: Final = 100_000  # of a document in a row; lists read every row, and an item has other attributes too
PLACE: Final = "tables"  # in a row's document: {"uri": …, "names": […]}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableFolder:
    """The place of an attempt's tables in the bucket."""

    bucket: Bucket
    keys: RunKeys
    attempt: int

    def fit(self, document: JsonObject, name: str) -> JsonObject:
        """The document as it is, or without its largest values, which are stored in the bucket, and with their place.

        Idempotent: the object is named by its content. Raises StorageError.
        """
        sizes = {key: len(json.dumps({key: value})) for key, value in document.items()}
        kept, moved = dict(document), JsonObject()
        for key in sorted(sizes, key=lambda key: -sizes[key]):
            if sum(sizes[each] for each in kept) <= DOCUMENT_BYTES:
                break
            moved[key] = kept.pop(key)
        if not moved:
            return document
        data = gzip.compress(json.dumps(moved, sort_keys=True).encode(), mtime=0)
        digest = hashlib.sha256(data).hexdigest()
        key = f"{self.keys.attempt(self.attempt)}tables/{name}-{digest[:12]}.json.gz"
        self.bucket.put_new(data, key)
        return {**kept, PLACE: {"uri": self.keys.uri(key), "names": list[JsonValue](sorted(moved))}}


def with_tables(job: Job, open_bucket: Callable[[str], Bucket]) -> Job:
    """The job with its whole results. If the bucket cannot be read, as it is, with a warning that names the place."""
    place = (job.results or {}).get(PLACE)
    if not isinstance(place, dict) or job.storage is None or job.results is None:
        return job
    uri = str(place.get("uri"))
    try:
        root = RunKeys(job.storage, job.job_id)
        if not uri.startswith(root.uri(root.run)):
            raise StorageError("it is not a place of this job")
        data = open_bucket(job.storage.bucket).get_bytes(uri.removeprefix(root.uri("")))
        tables = json.loads(unpacked(data))
        kept = {name: value for name, value in job.results.items() if name != PLACE}
        return job.model_copy(update={"results": {**kept, **tables}})
    except (StorageError, OSError, EOFError, ValueError, TypeError, RecursionError, zlib.error) as error:
        log.warning("scores of each label of %s are at %s, which cannot be read: %s", job.job_id, uri, error)
        return job

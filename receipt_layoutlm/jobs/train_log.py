"""train.log of a job's attempts, as far as the worker has sent it to the bucket (every 15 s), piece by piece."""

import hashlib
import re
from collections.abc import Iterator
from typing import Final

from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys

NOTHING: Final = (0, hashlib.sha256().digest())
_PIECE: Final = re.compile(r"/train\.log(?:\.(\d+))?$")


class TrainLog:
    """Reads what was added since the last call."""

    def __init__(self, bucket: Bucket, keys: RunKeys) -> None:
        self._bucket, self._keys = bucket, keys
        self._read: dict[str, tuple[int, bytes]] = {}  # bytes of each piece, and their SHA-256

    def new_lines(self, attempts: int) -> Iterator[tuple[int, str]]:
        """Attempt and line, in the order in which they were printed. Raises StorageError."""
        for attempt in range(1, attempts + 1):
            sizes = dict(self._bucket.sizes(f"{self._keys.attempt(attempt)}logs/train.log"))
            numbered = [(int(match[1] or 1), key) for key in sizes if (match := _PIECE.search(key))]
            for _, key in sorted(numbered):
                if sizes[key] != self._read.get(key, NOTHING)[0] and (added := self._added(key)):
                    text = added.decode(errors="replace").removesuffix("\n")
                    yield from ((attempt, line.removesuffix("\r")) for line in text.split("\n"))

    def _added(self, key: str) -> bytes:
        """A piece grows, except that of a log which is too long: that one may begin anew."""
        data, (size, digest) = self._bucket.get_bytes(key), self._read.get(key, NOTHING)
        self._read[key] = len(data), hashlib.sha256(data).digest()
        return data[size:] if hashlib.sha256(data[:size]).digest() == digest else data

"""Growing text files of a run in the bucket: redacted, piece by piece, so that only what is new is sent.

A key's first piece is the key itself, the next ones have `.2`, `.3` and so on behind it. A file that grows faster than
it can be sent loses its middle, and one that is too long everything but its newest part; a line says so.
"""

import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from receipt_layoutlm.paths import private
from receipt_layoutlm.redact import forms_of
from receipt_layoutlm.storage.bucket import Bucket

LOG_BYTES: Final = 32 << 20  # of train.log on the disk; as much again stays of what came before
PIECE_BYTES: Final = 256 << 10  # a piece of this size is complete and is not sent again
READ_BYTES: Final = 1 << 20  # read, redacted and sent at a time
BEHIND_BYTES: Final = 4 << 20  # sent by one call; before that, the newest text goes first
LOG_KEPT_BYTES: Final = 64 << 20  # of train.log in the bucket, and then its newest part
EVENTS_KEPT_BYTES: Final = 1 << 30  # of events.jsonl: some two months
TAIL_BYTES: Final = 256 << 10  # searched for the last lines


class LogMirror:
    """One file and its copy. `send` and `finish` run on one thread at a time, `bound` on any."""

    def __init__(
        self,
        path: Path,
        bucket: Bucket,
        key: str,
        secrets: tuple[str, ...],
        redact: Callable[[bytes, tuple[str, ...]], bytes],
        kept_bytes: int,
    ) -> None:
        self._kept_bytes = kept_bytes
        self._path, self._bucket, self._key, self._secrets, self._redact = path, bucket, key, secrets, redact
        self._forms = tuple(form for secret in secrets for form in forms_of(secret))
        self._lock = threading.Lock()  # over the file and the position in it
        self._position = 0
        self._left_out = 0
        self._piece, self._number, self._total = b"", 1, 0
        self._is_sent = True

    def send(self) -> None:
        """Send the whole lines that were added. Raises StorageError; the next call sends them then."""
        with self._lock:
            self._skip_what_is_too_much()
        while text := self._next_lines():
            self._add(text)
        self._put()

    def finish(self) -> None:
        """Send the rest, when nobody writes to the file any more."""
        self.send()
        with self._lock:
            rest, self._position = self._read(READ_BYTES), self._size()
        if rest:
            self._add(self._redact(rest, self._secrets))
            self._put()

    def bound(self) -> None:
        """Start the file anew when it is too long, keeping its last part beside it. Its writers append."""
        with self._lock:
            if (size := self._size()) < LOG_BYTES:
                return
            with suppress(OSError):  # a full disk: then that part goes
                shutil.copyfile(self._path, earlier_part(self._path))
            os.truncate(self._path, 0)
            self._left_out += max(0, size - self._position)
            self._position = 0

    def _skip_what_is_too_much(self) -> None:
        is_full = self._total >= self._kept_bytes
        keep = PIECE_BYTES if is_full else BEHIND_BYTES
        skipped = self._size() - keep - self._position
        if skipped > 0:
            self._position += skipped
            begun, newline, _ = self._read(READ_BYTES).partition(b"\n")  # the middle of a line may be that of a secret
            torn = len(begun) + len(newline)
            self._position += torn
            self._left_out += skipped + torn
        if is_full and self._size() > self._position:
            self._left_out += len(self._piece)
            self._piece = b""

    def _next_lines(self) -> bytes:
        with self._lock:
            data = self._read(READ_BYTES)
            end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
            if end == 0 and len(data) == READ_BYTES:  # one long line: cut where no secret is torn
                end = self._cut_between_secrets(data)
            self._position += end
        return self._redact(data[:end], self._secrets)

    def _cut_between_secrets(self, data: bytes) -> int:
        """A place near the end at which no secret is torn, whether it stands there whole or goes on behind."""
        cut = len(data) - max(map(len, self._forms), default=0)
        while True:
            starts = [data.find(form, max(0, cut - len(form) + 1), cut + len(form) - 1) for form in self._forms]
            if not (torn := [start for start in starts if 0 <= start < cut]):
                return cut
            cut = min(torn)

    def _add(self, text: bytes) -> None:
        if self._left_out:
            text = b"... %d bytes left out ...\n%s" % (self._left_out, text)
            self._left_out = 0
        self._piece += text
        self._is_sent = False
        if len(self._piece) >= PIECE_BYTES and self._total < self._kept_bytes:
            self._put()
            self._total += len(self._piece)
            self._piece, self._number = b"", self._number + 1

    def _put(self) -> None:
        if not self._is_sent:
            name = self._key if self._number == 1 else f"{self._key}.{self._number}"
            self._bucket.put_bytes(self._piece, name)
            self._is_sent = True

    def _size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0

    def _read(self, amount: int) -> bytes:
        if not self._path.exists():
            return b""
        with open(self._path, "rb", opener=private) as file:
            file.seek(self._position)
            return file.read(amount)


def earlier_part(path: Path) -> Path:
    """The part of a log before the present one."""
    return path.with_name(path.name + ".1")


def end_of(path: Path) -> bytes:
    """The last bytes of a log, from the beginning of a line; of its earlier part too when the present one is short."""
    data, is_cut = b"", False
    for part in (path, earlier_part(path)):
        if len(data) < TAIL_BYTES and part.exists():
            with open(part, "rb", opener=private) as file:
                begin = max(0, part.stat().st_size - TAIL_BYTES)
                file.seek(begin)
                data, is_cut = file.read(TAIL_BYTES) + data, begin > 0
    return data.partition(b"\n")[2] if is_cut else data

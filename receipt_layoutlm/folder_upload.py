"""Send a flat folder so that its bytes travel once: what arrived is not sent again, manifest.json goes last."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from receipt_layoutlm.file_upload import FileUpload
from receipt_layoutlm.manifest import MANIFEST, DamagedFolder, Manifest, parse_manifest
from receipt_layoutlm.storage_errors import StorageError

if TYPE_CHECKING:
    from receipt_layoutlm.s3 import Bucket

log = logging.getLogger(__name__)


class FolderUpload:
    """A flat folder with a manifest, to a prefix that nothing else writes to. The state is kept in memory.

    `is_given_up` is asked before each file and part; then run() raises StorageUnavailable. `seconds` counts the time
    inside run(), so that bytes_sent / seconds is the rate of the line.
    """

    def __init__(
        self,
        bucket: "Bucket",
        folder: Path,
        prefix: str,
        is_given_up: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = 0.0
        self._bucket, self._key, self._monotonic = bucket, prefix + MANIFEST, monotonic
        self._data = _read_plain(folder / MANIFEST)
        self._data_sent = 0
        self.manifest = parse_manifest(self._data, str(folder))
        self.size = len(self._data) + sum(file.size for file in self.manifest.files.values())
        self._files = [
            FileUpload(bucket, _plain(folder / name), prefix + name, expected, is_given_up)
            for name, expected in self.manifest.files.items()
        ]

    @property
    def bytes_sent(self) -> int:
        """Payload that left this machine, repetitions included."""
        return self._data_sent + sum(file.bytes_sent for file in self._files)

    def run(self) -> Manifest:
        """Send what has not arrived. After StorageUnavailable call it again."""
        started = self._monotonic()
        try:
            for file in self._files:
                file.run()
            self._data_sent += len(self._data)
            self._bucket.put_new(self._data, self._key)
        finally:
            self.seconds += self._monotonic() - started
        return self.manifest

    def abandon(self) -> None:
        """Abort an open multipart upload; one that cannot be aborted now is removed by the bucket's lifecycle."""
        for file in self._files:
            try:
                file.abandon()
            except StorageError as error:
                log.warning("an open upload stays until the bucket's lifecycle removes it: %s", error)


def _plain(path: Path) -> Path:
    """A link could name any file of this machine, so it is not followed."""
    if path.is_symlink() or not path.is_file():
        raise DamagedFolder(f"{path} is missing or no plain file")
    return path


def _read_plain(path: Path) -> bytes:
    return _plain(path).read_bytes()

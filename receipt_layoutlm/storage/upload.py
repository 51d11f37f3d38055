"""One file to one key, once: in parts when it is large, and after a failure only what has not arrived.

Send a flat folder so that its bytes travel once: what arrived is not sent again, manifest.json goes last.
"""

import base64
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from receipt_layoutlm.run.manifest import MANIFEST, DamagedFolder, Manifest, ManifestFile, parse_manifest
from receipt_layoutlm.storage.errors import (
    MISSING,
    WRONG_CHECKSUM,
    StorageError,
    StorageUnavailable,
    error_code,
    explained,
)

if TYPE_CHECKING:
    from receipt_layoutlm.storage.bucket import Bucket


PARTS_AT_ONCE: Final = 4
_CHUNK: Final = 1 << 20  # bytes hashed at a time


class FileRange:
    """A stretch of a file as the body of a request. `sent` counts what the connection took, repetitions included."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        self.sent = 0
        self._start, self._size = start, size
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise DamagedFolder(f"{path} cannot be read: {error}") from error
        if os.fstat(self._file.fileno()).st_size < start + size:
            self._file.close()
            raise DamagedFolder(f"{path} is shorter than it was when it was hashed")
        self._file.seek(start)

    def __enter__(self) -> "FileRange":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int = -1) -> bytes:
        data = self._take(size)
        self.sent += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._size}[whence]
        self._file.seek(self._start + origin + offset)
        return self.tell()

    def tell(self) -> int:
        return self._file.tell() - self._start

    def chunks(self) -> Iterator[bytes]:
        """The whole stretch, for hashing: it is not counted as sent."""
        self.seek(0)
        while chunk := self._take(_CHUNK):
            yield chunk

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()

    def _take(self, size: int) -> bytes:
        rest = max(0, self._size - self.tell())
        return self._file.read(rest if size < 0 else min(size, rest))


class FileUpload:
    """One file to one key. run() may raise StorageUnavailable and is called again: it goes on where it stopped.

    Nothing is asked before the first try; after a failed one the bucket says what arrived, so that a lost reply sends
    nothing twice. The requests go through `Bucket.once`, because botocore's own retries do not ask.
    """

    def __init__(
        self,
        bucket: "Bucket",
        path: Path,
        key: str,
        expected: ManifestFile,
        is_given_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self._client = bucket.once
        self._bucket, self._path, self._key, self._expected = bucket.name, path, key, expected
        self._part_size = bucket.part_size
        self._is_given_up = is_given_up
        self._bodies: list[FileRange] = []
        self._digests: list[str] = []  # of the parts, hex
        self._etags: dict[int, str] = {}  # of the parts that arrived, by number
        self._upload_id: str | None = None
        self._was_tried = False
        self._is_done = False

    @property
    def bytes_sent(self) -> int:
        return sum(body.sent for body in list(self._bodies))

    def run(self) -> None:
        """Raises StorageUnavailable, StorageError, or DamagedFolder when the file is not what it should be."""
        if self._is_done:
            return
        self._check_given_up()
        with explained(self._bucket, self._key):
            if self._expected.size > self._part_size:
                self._put_in_parts()
            else:
                self._put_whole()
        self._is_done = True

    def abandon(self) -> None:
        """Free what the bucket keeps of an upload that will not be finished."""
        if self._upload_id is None or self._is_done:
            return
        with explained(self._bucket, self._key):
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=self._upload_id)
        self._upload_id = None

    def _put_whole(self) -> None:
        checksum = base64_of(self._expected.sha256)
        if self._was_tried and self._is_stored(checksum):
            return
        self._was_tried = True
        with self._body(0, self._expected.size, self._expected.sha256) as body:
            self._client.put_object(Bucket=self._bucket, Key=self._key, Body=body, ChecksumSHA256=checksum)  # type: ignore[arg-type]  # a file-like of our own

    def _put_in_parts(self) -> None:
        self._digests = self._digests or self._hash_parts()
        if self._upload_id is not None and not self._learn_what_arrived():
            if self._is_stored(self._composite()):
                return
            self._upload_id = None
        if self._upload_id is None:
            self._etags = {}
            begun = self._client.create_multipart_upload(Bucket=self._bucket, Key=self._key, ChecksumAlgorithm="SHA256")
            self._upload_id = begun["UploadId"]
        self._send_missing(self._upload_id)
        self._complete(self._upload_id)

    def _hash_parts(self) -> list[str]:
        """One reading gives the parts' checksums and compares the whole, of which S3 keeps no checksum."""
        whole, digests = hashlib.sha256(), []
        for start, size in self._stretches():
            part = hashlib.sha256()
            with FileRange(self._path, start, size) as stretch:
                for chunk in stretch.chunks():
                    part.update(chunk)
                    whole.update(chunk)
            digests.append(part.hexdigest())
        if whole.hexdigest() != self._expected.sha256:
            raise self._changed()
        return digests

    def _stretches(self) -> list[tuple[int, int]]:
        size = self._expected.size
        return [(start, min(self._part_size, size - start)) for start in range(0, size, self._part_size)]

    def _learn_what_arrived(self) -> bool:
        """Ask for the parts of the open upload; False when it is open no more: completed, or removed by age."""
        assert self._upload_id is not None
        pages = self._client.get_paginator("list_parts").paginate(
            Bucket=self._bucket, Key=self._key, UploadId=self._upload_id
        )
        sizes = {number: size for number, (_, size) in enumerate(self._stretches(), 1)}
        try:
            # S3 checked each part on arrival and the upload is ours, so number and size are enough
            parts = [part for page in pages for part in page.get("Parts", [])]
        except ClientError as error:
            if error_code(error) == "NoSuchUpload":
                return False
            raise
        self._etags = {part["PartNumber"]: part["ETag"] for part in parts if sizes[part["PartNumber"]] == part["Size"]}
        return True

    def _send_missing(self, upload_id: str) -> None:
        """Several parts at a time; after a failure no other is begun."""
        missing = [number for number in range(1, len(self._digests) + 1) if number not in self._etags]
        with ThreadPoolExecutor(PARTS_AT_ONCE, "upload") as pool:
            futures = [pool.submit(self._send_part, upload_id, number) for number in missing]
            done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
            for future in waiting:
                future.cancel()
        for future in done:
            future.result()

    def _check_given_up(self) -> None:
        if self._is_given_up():
            raise StorageUnavailable(f"s3://{self._bucket}/{self._key}: the upload was given up")

    def _send_part(self, upload_id: str, number: int) -> None:
        self._check_given_up()
        sha256 = self._digests[number - 1]
        with self._body(*self._stretches()[number - 1], sha256) as body:
            reply = self._client.upload_part(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=upload_id,
                PartNumber=number,
                Body=body,  # type: ignore[arg-type]  # a file-like of our own
                ChecksumSHA256=base64_of(sha256),
            )
        self._etags[number] = reply["ETag"]

    def _complete(self, upload_id: str) -> None:
        self._client.complete_multipart_upload(
            Bucket=self._bucket,
            Key=self._key,
            UploadId=upload_id,
            MultipartUpload={
                "Parts": [
                    {"PartNumber": number, "ETag": self._etags[number], "ChecksumSHA256": base64_of(sha256)}
                    for number, sha256 in enumerate(self._digests, 1)
                ]
            },
        )

    def _composite(self) -> str:
        """What S3 gives as the checksum of an object of parts: the hash of their hashes, and how many they are."""
        joined = b"".join(bytes.fromhex(sha256) for sha256 in self._digests)
        return f"{base64_of(hashlib.sha256(joined).hexdigest())}-{len(self._digests)}"

    def _is_stored(self, checksum: str) -> bool:
        try:
            head = self._client.head_object(Bucket=self._bucket, Key=self._key, ChecksumMode="ENABLED")
        except ClientError as error:
            if error_code(error) in MISSING:
                return False
            raise
        return head["ContentLength"] == self._expected.size and head.get("ChecksumSHA256") == checksum

    @contextmanager
    def _body(self, start: int, size: int, sha256: str) -> Iterator[FileRange]:
        """A stretch to send. A checksum that S3 refuses is read again, to tell a changed file from a broken line."""
        with FileRange(self._path, start, size) as body:
            self._bodies.append(body)
            try:
                yield body
            except ClientError as error:
                if error_code(error) in WRONG_CHECKSUM and body.sha256() != sha256:
                    raise self._changed() from error
                raise

    def _changed(self) -> DamagedFolder:
        return DamagedFolder(f"{self._path} is not what it was when it was hashed: nothing may write to it any more")


def base64_of(hexadecimal: str) -> str:
    """A hex digest as the header S3 wants."""
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


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

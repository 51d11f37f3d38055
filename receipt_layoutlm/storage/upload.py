"""Uploads files and flat folders by boto3's transfer; every part carries its SHA-256, manifest.json goes last."""

import base64
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from receipt_layoutlm.run.manifest import MANIFEST, DamagedFolder, Manifest, ManifestFile, parse_manifest
from receipt_layoutlm.storage.errors import MISSING, StorageUnavailable, error_code, explained

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PARTS_AT_ONCE: Final = 4


def never_given_up() -> bool:
    return False


class VerifiedReader:
    """The content of a file as a stream that fails, before its last bytes, unless size and SHA-256 are the expected.

    boto3 reads a stream that cannot seek once and in order, so the bytes that are hashed here are the bytes it sends.
    """

    def __init__(self, file: BinaryIO, path: Path, size: int, sha256: str | None) -> None:
        self._file, self._path, self._left, self._sha256 = file, path, size, sha256
        self._digest = hashlib.sha256()

    def read(self, amount: int | None = -1) -> bytes:
        asked = self._left if amount is None or amount < 0 else min(amount, self._left)
        data = self._file.read(asked)
        self._left -= len(data)
        if self._sha256 is not None:
            self._digest.update(data)
            if len(data) < asked:
                raise DamagedFolder(f"{self._path} is shorter than its manifest says: write the folder anew")
            if self._left == 0 and self._digest.hexdigest() != self._sha256:
                raise DamagedFolder(f"{self._path} is not what its manifest says: nothing may write to it any more")
        return data


@dataclass(frozen=True)
class UploadTarget:
    """The bucket that uploads go to, and the size above which a file travels in parts."""

    client: "S3Client"
    bucket: str
    part_size: int  # bytes

    def send(
        self,
        path: Path,
        key: str,
        size: int,
        sha256: str | None = None,
        is_given_up: Callable[[], bool] = never_given_up,
    ) -> None:
        """Upload the first `size` bytes of a file; raises DamagedFolder unless they have the given SHA-256.

        botocore repeats a refused part. An upload that fails all the same is aborted, so that no part stays behind.
        """
        transfer = TransferConfig(
            multipart_threshold=self.part_size + 1,
            multipart_chunksize=self.part_size,
            max_concurrency=PARTS_AT_ONCE,
            preferred_transfer_client="classic",
        )
        transfer.max_in_memory_upload_chunks = PARTS_AT_ONCE

        def check_given_up(_sent: int = 0) -> None:
            if is_given_up():
                raise StorageUnavailable(f"s3://{self.bucket}/{key}: the upload was given up")

        check_given_up()
        try:
            file = path.open("rb")
        except OSError as error:
            raise DamagedFolder(f"{path} cannot be read: {error}") from error
        with file, explained(self.bucket, key):
            self.client.upload_fileobj(
                VerifiedReader(file, path, size, sha256),  # type: ignore[arg-type]  # needs no more than read()
                self.bucket,
                key,
                ExtraArgs={"ChecksumAlgorithm": "SHA256"},
                Callback=check_given_up,
                Config=transfer,
            )

    def holds(self, path: Path, key: str, expected: ManifestFile) -> bool:
        """Whether an upload arrived whose reply was lost: by size and by the checksum that the bucket computed."""
        with explained(self.bucket, key):
            try:
                head = self.client.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
            except ClientError as error:
                if error_code(error) in MISSING:
                    return False
                raise
        return head["ContentLength"] == expected.size and head.get("ChecksumSHA256") == self._checksum(path, expected)

    def _checksum(self, path: Path, expected: ManifestFile) -> str:
        """S3's checksum of a file: of an object in parts, the hash of the parts' hashes and their number."""
        if expected.size <= self.part_size:
            return base64_of(bytes.fromhex(expected.sha256))
        with path.open("rb") as file:
            parts = [hashlib.sha256(part).digest() for part in iter(lambda: file.read(self.part_size), b"")]
        return f"{base64_of(hashlib.sha256(b''.join(parts)).digest())}-{len(parts)}"


class FolderUpload:
    """Upload of a flat folder with a manifest to a prefix that nothing else writes to.

    run() may raise StorageUnavailable and is called again: files that arrived are not sent again. `is_given_up` is
    asked while bytes are sent, and ends the upload in the same way. `seconds` counts the time inside run().
    """

    def __init__(
        self,
        target: UploadTarget,
        folder: Path,
        prefix: str,
        put_new: Callable[[bytes, str], None],
        is_given_up: Callable[[], bool] = never_given_up,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = 0.0
        self._target, self._folder, self._prefix, self._put_new = target, folder, prefix, put_new
        self._is_given_up, self._monotonic = is_given_up, monotonic
        self._data = plain_file(folder / MANIFEST).read_bytes()
        self.manifest = parse_manifest(self._data, str(folder))
        self.size = len(self._data) + sum(file.size for file in self.manifest.files.values())
        for name in self.manifest.files:
            plain_file(folder / name)
        self._tried: set[str] = set()
        self._arrived: set[str] = set()

    def run(self) -> Manifest:
        """Send what has not arrived. Raises StorageUnavailable, StorageError, or DamagedFolder for a changed file."""
        started = self._monotonic()
        try:
            for name, expected in self.manifest.files.items():
                if name not in self._arrived:
                    self._send(name, expected)
                    self._arrived.add(name)
            self._put_new(self._data, self._prefix + MANIFEST)
        finally:
            self.seconds += self._monotonic() - started
        return self.manifest

    def _send(self, name: str, expected: ManifestFile) -> None:
        path, key = self._folder / name, self._prefix + name
        if name in self._tried and self._target.holds(path, key, expected):
            return
        self._tried.add(name)
        self._target.send(path, key, expected.size, expected.sha256, self._is_given_up)


def plain_file(path: Path) -> Path:
    """The path itself. A link is refused: it could name any file of this machine."""
    if path.is_symlink() or not path.is_file():
        raise DamagedFolder(f"{path} is missing or no plain file")
    return path


def base64_of(digest: bytes) -> str:
    """A digest as S3's headers hold it."""
    return base64.b64encode(digest).decode()

"""Bucket: objects and folders; a folder's manifest is written last, and every file is verified after download."""

import contextlib
import hashlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError
from s3transfer.subscribers import BaseSubscriber

from receipt_dynamo.client import resolve_region
from receipt_dynamo.connection import per_process
from receipt_dynamo.gateway import refuse_gateways
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.run.manifest import (
    MANIFEST,
    DamagedFolder,
    Manifest,
    ManifestFile,
    is_whole,
    parse_manifest,
    sha256_of,
    verify,
)
from receipt_layoutlm.storage.errors import (
    MISSING,
    NotStored,
    StorageError,
    TooLarge,
    error_code,
    explained,
    keep_trying,
)
from receipt_layoutlm.storage.owner import Owner, name_owner
from receipt_layoutlm.storage.upload import FolderUpload, UploadTarget, base64_of, never_given_up

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import TagTypeDef
    from s3transfer.futures import TransferFuture

T = TypeVar("T")

PART_SIZE: Final = 32 << 20  # bytes; S3 takes 5 MiB to 5 GiB, and 10,000 parts
PATIENCE_SECONDS: Final = 60.0  # of put_folder and of large files; a worker repeats a FolderUpload by its own rules
MOST_BYTES: Final = 256 << 20  # of an object that is read at once, such as a split or the predictions of an evaluation
FILE_BYTES: Final = 16 << 30  # of a downloaded file: pages, which are read up to 4 GB, or weights
FOLDER_BYTES: Final = 64 << 30  # of a checkpoint with its optimizer
MANIFEST_BYTES: Final = 4 << 20  # some 30,000 files
_CHUNK: Final = 1 << 20  # bytes read at a time


class Bucket:
    """One bucket. Files above the part size are transferred in parts, several at a time.

    `owner` gives the account that owns the bucket, or None where it is not known. With it S3 refuses requests to a
    bucket of that name in another account, where somebody may have created it once this one was gone.
    """

    def __init__(
        self,
        name: str,
        region: str | None = None,
        endpoint_url: str | None = None,
        part_size: int = PART_SIZE,
        wait: Callable[[float], object] = time.sleep,
        owner: Owner = lambda: None,
    ) -> None:
        self.name, self._wait = name, wait
        config = Config(
            connect_timeout=3,
            read_timeout=60,
            retries={"total_max_attempts": 5, "mode": "standard"},
            # a body has its SHA-256 in a header or trailer of its own, so the signature does not read it again
            s3={"payload_signing_enabled": False},
        )

        def connect() -> "S3Client":
            # a session of its own: boto3's default one is a copy of the parent's in a forked process
            client = boto3.session.Session().client(
                "s3", region_name=resolve_region(region), endpoint_url=endpoint_url, config=config
            )
            client.meta.events.register("needs-retry.s3", _refuse_to_repeat)
            refuse_gateways(client)
            name_owner(client, owner)
            return client

        self.raw = per_process(connect)
        self._target = UploadTarget(self.raw, name, part_size)
        self._transfer = TransferConfig(multipart_threshold=2 * part_size, multipart_chunksize=part_size)

    # single objects

    def put_file(self, path: Path, key: str) -> None:
        """Upload one file as long as it is now; S3 checks it against its SHA-256. Replaces an existing object."""
        send = partial(self._target.send, path, key, size := path.stat().st_size)
        if size <= self._target.part_size:
            send()
        else:
            self._patiently(send)

    def put_bytes(self, data: bytes, key: str) -> None:
        """Store an object; S3 checks it against its SHA-256. Replaces an existing one."""
        checksum = base64_of(hashlib.sha256(data).digest())
        with explained(self.name, key):
            self.raw.put_object(Bucket=self.name, Key=key, Body=data, ChecksumSHA256=checksum)

    def put_new(self, data: bytes, key: str) -> None:
        """Create an object. An existing one of the same content is success, any other an error."""
        checksum = base64_of(hashlib.sha256(data).digest())
        with explained(self.name, key):
            try:
                self.raw.put_object(Bucket=self.name, Key=key, Body=data, IfNoneMatch="*", ChecksumSHA256=checksum)
            except ClientError as error:
                if error_code(error) not in ("PreconditionFailed", "412"):
                    raise
                if self.get_bytes(key) != data:
                    raise StorageError(f"s3://{self.name}/{key} exists with other content") from error

    def get_bytes(self, key: str, at_most: int = MOST_BYTES) -> bytes:
        """The content of an object of at most so many bytes; a larger one is refused before it is read."""
        with explained(self.name, key):
            reply = self.raw.get_object(Bucket=self.name, Key=key)
            with contextlib.closing(reply["Body"]) as body:
                if reply["ContentLength"] > at_most:
                    raise self._too_large(key, reply["ContentLength"], at_most)
                return body.read()

    def _too_large(self, key: str, size: int, at_most: int) -> TooLarge:
        return TooLarge(
            f"s3://{self.name}/{key} has {size} bytes, more than the {at_most} that are read: something else than this "
            "program wrote it"
        )

    def get_file(self, key: str, path: Path, at_most: int = FILE_BYTES) -> None:
        """Download one object under a temporary name, so that a partial download never looks complete.

        One of more than so many bytes is refused at its first ones. Raises TooLarge.
        """
        partial = path.with_name(path.name + ".partial")
        with explained(self.name, key):
            try:
                self._download(key, partial, at_most)
                partial.replace(path)
            except OSError as error:
                raise StorageError(
                    f"{path} cannot be written: {error}: free some disk space, or name another folder"
                ) from error

    def _download(self, key: str, path: Path, at_most: int) -> None:
        def check(size: int) -> None:
            if size > at_most:
                raise self._too_large(key, size, at_most)

        try:
            with create_transfer_manager(self.raw, self._transfer) as manager:
                manager.download(self.name, key, str(path), subscribers=[_SizeCheck(check)]).result()
        except ClientError as error:
            if error_code(error) in MISSING:  # its HEAD request does not tell a missing object from a missing bucket
                self.raw.list_objects_v2(Bucket=self.name, Prefix=key, MaxKeys=1)  # NoSuchBucket
            raise

    def exists(self, key: str) -> bool:
        try:
            with explained(self.name, key):
                self.raw.head_object(Bucket=self.name, Key=key)
        except NotStored:
            return False
        return True

    def holds(self, path: Path, key: str) -> bool:
        """Whether an object has a file's size and SHA-256, by the checksum that the bucket computed."""
        return self._target.holds(path, key, ManifestFile(size=path.stat().st_size, sha256=sha256_of(path)))

    def version_of(self, key: str) -> str:
        """Id of an object's current version; empty in a bucket without versions."""
        with explained(self.name, key):
            version = self.raw.head_object(Bucket=self.name, Key=key).get("VersionId", "")
        return "" if version == "null" else version

    def list_keys(self, prefix: str) -> Iterator[str]:
        return (key for key, _size in self.sizes(prefix))

    def delete_prefix(self, prefix: str) -> int:
        """Remove every object below a prefix, manifests first; returns their number."""
        keys = sorted(self.list_keys(prefix), key=lambda key: not key.endswith(MANIFEST))
        for key in keys:
            with explained(self.name, key):
                self.raw.delete_object(Bucket=self.name, Key=key)
        return len(keys)

    def tag(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of an object; lifecycle rules of the bucket select by them."""
        with explained(self.name, key):
            pairs: list[TagTypeDef] = [{"Key": name, "Value": value} for name, value in tags.items()]
            self.raw.put_object_tagging(Bucket=self.name, Key=key, Tagging={"TagSet": pairs})

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Key and size in bytes of every object below a prefix, without superseded versions."""
        with explained(self.name, prefix):
            for page in self.raw.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
                yield from ((entry["Key"], entry["Size"]) for entry in page.get("Contents", []))

    def old_sizes(self, prefix: str) -> Iterator[int]:
        """Size in bytes of every version below a prefix that is not the current one."""
        with explained(self.name, prefix):
            for page in self.raw.get_paginator("list_object_versions").paginate(Bucket=self.name, Prefix=prefix):
                yield from (entry["Size"] for entry in page.get("Versions", []) if not entry["IsLatest"])

    # folders

    def folder_upload(
        self, folder: Path, prefix: str, is_given_up: Callable[[], bool] = never_given_up
    ) -> FolderUpload:
        """An upload of a flat folder that has a manifest; the manifest goes last and is created once."""
        return FolderUpload(self._target, folder, prefix, self.put_new, is_given_up)

    def put_folder(self, folder: Path, prefix: str) -> Manifest:
        """Upload a flat folder that has a manifest; the manifest goes last and is created once."""
        return self._patiently(self.folder_upload(folder, prefix).run)

    def _patiently(self, action: Callable[[], T]) -> T:
        until = time.monotonic() + PATIENCE_SECONDS
        return keep_trying(action, lambda: time.monotonic() > until, self._wait, random.Random())

    def get_folder(
        self, prefix: str, folder: Path, manifest_sha256: str | None = None, at_most: int = FOLDER_BYTES
    ) -> Manifest:
        """Download a folder of at most so many bytes by its manifest, and verify each file; intact files are kept.

        Raises DamagedFolder when an object is missing, the manifest is not the expected one, or a file differs, and
        TooLarge.
        """
        try:
            data = self.get_bytes(prefix + MANIFEST, MANIFEST_BYTES)
            if manifest_sha256 is not None and hashlib.sha256(data).hexdigest() != manifest_sha256:
                raise DamagedFolder(f"s3://{self.name}/{prefix}{MANIFEST} is not the recorded manifest")
            manifest = parse_manifest(data, f"s3://{self.name}/{prefix}")
            if (size := sum(expected.size for expected in manifest.files.values())) > at_most:
                raise self._too_large(prefix, size, at_most)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / MANIFEST).write_bytes(data)
            for name, expected in manifest.files.items():
                if not is_whole(folder / name, expected):
                    self._get_expected(prefix + name, folder / name, expected)
        except NotStored as error:
            raise DamagedFolder(f"{error}: the folder is incomplete") from error
        return verify(folder)

    def _get_expected(self, key: str, path: Path, expected: ManifestFile) -> None:
        try:
            self.get_file(key, path, expected.size)
        except TooLarge as error:
            raise DamagedFolder(str(error)) from error

    def get_manifest(self, prefix: str) -> Manifest:
        """The manifest of a stored folder; raises NotStored, or DamagedFolder when it cannot be read."""
        return parse_manifest(self.get_bytes(prefix + MANIFEST, MANIFEST_BYTES), f"s3://{self.name}/{prefix}")

    def copy_folder(self, source: str, target: str, names: Iterable[str]) -> Manifest:
        """Copy some files of a folder within the bucket, with their own manifest, and verify the copies."""
        stored = self.get_manifest(source)
        copied = stored.model_copy(update={"files": {name: stored.files[name] for name in names}})
        for name, expected in copied.files.items():
            with explained(self.name, source + name):
                # without tags: by them superseded checkpoints expire, and setting others needs the right to tag
                untagged = {"TaggingDirective": "REPLACE"}
                self.raw.copy({"Bucket": self.name, "Key": source + name}, self.name, target + name, untagged)
            if self._sha256(target + name) != expected.sha256:
                raise StorageError(f"s3://{self.name}/{target}{name} is not what its manifest says")
        self.put_new(copied.model_dump_json(indent=1).encode(), target + MANIFEST)
        return copied

    def _sha256(self, key: str) -> str:
        """SHA-256 of an object, read from the bucket: not every store reports the checksum of a server-side copy."""
        digest = hashlib.sha256()
        with explained(self.name, key):
            for chunk in self.raw.get_object(Bucket=self.name, Key=key)["Body"].iter_chunks(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()


class _SizeCheck(BaseSubscriber):
    """Tells the size of an object at each part of its download, which an error ends."""

    def __init__(self, check: Callable[[int], None]) -> None:
        self._check = check

    def on_progress(self, future: "TransferFuture", bytes_transferred: int, **_: object) -> None:
        self._check(future.meta.size)


def _refuse_to_repeat(caught_exception: Exception | None, **_: object) -> None:
    """botocore repeats whatever breaks off a body; an upload that was given up, or whose file changed, must end."""
    cause = caught_exception.kwargs.get("error") if isinstance(caught_exception, HTTPClientError) else None
    if isinstance(cause, UserError):
        raise cause

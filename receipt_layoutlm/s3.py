"""Copy a folder to a prefix and back: every file with its SHA-256, manifest.json last, verified on the way down."""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from receipt_dynamo import Pointer, Storage
from receipt_dynamo.client import resolve_region
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.manifest import MANIFEST, DamagedFolder, Manifest, read_manifest, sha256_of, verify

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CHUNK = 1 << 20  # bytes read at a time


class StorageError(UserError):
    """The bucket refuses, lacks or holds something else than it should. The text says what to do."""


@dataclass(frozen=True)
class RunPlaces:
    """Keys below a job's storage prefix; everything an attempt writes lies under its own folder."""

    storage: Storage
    job_id: str

    @property
    def run(self) -> str:
        return f"{self.storage.prefix}runs/{self.job_id}/"

    def attempt(self, attempt: int) -> str:
        return f"{self.run}attempt-{attempt:03d}/"

    def checkpoint(self, pointer: Pointer) -> str:
        return f"{self.attempt(pointer.attempt)}checkpoint-{pointer.global_step}/"

    def best(self, attempt: int) -> str:
        return f"{self.attempt(attempt)}best/"

    def uri(self, key: str) -> str:
        return f"s3://{self.storage.bucket}/{key}"


def dataset_key(fingerprint: str, prefix: str = "") -> str:
    """Where a snapshot lies; its content decides the name."""
    return f"{prefix}datasets/{fingerprint}.jsonl.gz"


def parse_s3_uri(uri: str) -> Storage:
    """s3://bucket[/prefix] as a place; raises StorageError for anything else."""
    match = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", uri)
    if match is None:
        raise StorageError(f"{uri!r} is no S3 place: write s3://BUCKET or s3://BUCKET/PREFIX")
    prefix = (match[2] or "").strip("/")
    return Storage(bucket=match[1], prefix=f"{prefix}/" if prefix else "")


class Bucket:
    """One bucket. Files above 64 MiB travel in parts, several at a time."""

    def __init__(self, name: str, region: str | None = None, endpoint_url: str | None = None) -> None:
        self.name = name
        config = Config(connect_timeout=3, read_timeout=60, retries={"total_max_attempts": 5, "mode": "standard"})
        self.raw: S3Client = boto3.client(
            "s3", region_name=resolve_region(region), endpoint_url=endpoint_url, config=config
        )
        self._transfer = TransferConfig(multipart_threshold=64 << 20, multipart_chunksize=32 << 20)

    # single objects

    def put_file(self, path: Path, key: str) -> None:
        """Upload one file; S3 checks it against its SHA-256. Replaces what was there."""
        with self._errors(key):
            if path.stat().st_size >= self._transfer.multipart_threshold:
                checked = {"ChecksumAlgorithm": "SHA256"}
                self.raw.upload_file(str(path), self.name, key, ExtraArgs=checked, Config=self._transfer)
                return
            with path.open("rb") as body:
                self.raw.put_object(Bucket=self.name, Key=key, Body=body, ChecksumSHA256=_base64(sha256_of(path)))

    def put_new(self, data: bytes, key: str) -> None:
        """Create an object once. One of the same content being there is success; another one is an error."""
        digest = hashlib.sha256(data).hexdigest()
        try:
            self.raw.put_object(Bucket=self.name, Key=key, Body=data, IfNoneMatch="*", ChecksumSHA256=_base64(digest))
        except ClientError as error:
            if _code(error) not in ("PreconditionFailed", "412", "ConditionalRequestConflict", "409"):
                raise self._explained(error, key) from error
            if hashlib.sha256(self.get_bytes(key)).hexdigest() != digest:
                raise StorageError(f"s3://{self.name}/{key} exists with another content") from error

    def get_bytes(self, key: str) -> bytes:
        with self._errors(key):
            return self.raw.get_object(Bucket=self.name, Key=key)["Body"].read()

    def get_file(self, key: str, path: Path) -> None:
        """Download one object by way of a temporary name, so that a torn download never looks whole."""
        partial = path.with_name(path.name + ".partial")
        with self._errors(key):
            self.raw.download_file(self.name, key, str(partial), Config=self._transfer)
        partial.replace(path)

    def exists(self, key: str) -> bool:
        try:
            self.raw.head_object(Bucket=self.name, Key=key)
        except ClientError as error:
            if _code(error) in ("404", "NoSuchKey", "NotFound"):
                return False
            raise self._explained(error, key) from error
        return True

    def list_keys(self, prefix: str) -> Iterator[str]:
        with self._errors(prefix):
            for page in self.raw.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
                yield from (entry["Key"] for entry in page.get("Contents", []))

    def delete_prefix(self, prefix: str) -> int:
        """Remove every object below a prefix, the manifests first; returns how many."""
        keys = sorted(self.list_keys(prefix), key=lambda key: not key.endswith(MANIFEST))
        for key in keys:
            with self._errors(key):
                self.raw.delete_object(Bucket=self.name, Key=key)
        return len(keys)

    # folders

    def put_folder(self, folder: Path, prefix: str) -> Manifest:
        """Upload a flat folder that has a manifest; the manifest goes last and is created once."""
        manifest = read_manifest(folder)
        for name in manifest.files:
            self.put_file(folder / name, prefix + name)
        self.put_new((folder / MANIFEST).read_bytes(), prefix + MANIFEST)
        return manifest

    def get_folder(self, prefix: str, folder: Path, manifest_sha256: str | None = None) -> Manifest:
        """Download a folder by its manifest and verify each file.

        Raises DamagedFolder when the manifest is not the expected one or a file differs.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.get_file(prefix + MANIFEST, folder / MANIFEST)
        if manifest_sha256 is not None and sha256_of(folder / MANIFEST) != manifest_sha256:
            raise DamagedFolder(f"s3://{self.name}/{prefix}{MANIFEST} is not the manifest that was recorded")
        for name in read_manifest(folder).files:
            self.get_file(prefix + name, folder / name)
        return verify(folder)

    def copy_folder(self, source: str, target: str, names: Iterable[str]) -> Manifest:
        """Copy some files of a folder inside the bucket, with a manifest of their own, and verify the copies."""
        whole = Manifest.model_validate_json(self.get_bytes(source + MANIFEST))
        part = whole.model_copy(update={"files": {name: whole.files[name] for name in names}})
        for name, expected in part.files.items():
            with self._errors(source + name):
                self.raw.copy({"Bucket": self.name, "Key": source + name}, self.name, target + name)
            if self._sha256(target + name) != expected.sha256:
                raise StorageError(f"s3://{self.name}/{target}{name} is not what its manifest says")
        self.put_new(part.model_dump_json(indent=1).encode(), target + MANIFEST)
        return part

    def _sha256(self, key: str) -> str:
        """SHA-256 of an object by reading it: a server-side copy keeps no checksum that every store reports."""
        digest = hashlib.sha256()
        with self._errors(key):
            for chunk in self.raw.get_object(Bucket=self.name, Key=key)["Body"].iter_chunks(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            raise self._explained(error, key) from error
        except (BotoCoreError, S3UploadFailedError) as error:
            raise StorageError(f"s3://{self.name}/{key}: {error}") from error

    def _explained(self, error: ClientError, key: str) -> StorageError:
        code = _code(error)
        if code == "NoSuchBucket":
            return StorageError(f"bucket {self.name!r} does not exist: create it or name another with --bucket")
        if code in ("NoSuchKey", "404"):
            return StorageError(f"s3://{self.name}/{key} does not exist")
        return StorageError(f"s3://{self.name}/{key}: {error}")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _base64(hexadecimal: str) -> str:
    """A hex digest as the header S3 wants."""
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()

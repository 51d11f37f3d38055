"""Keys of the bucket: folders of a run, snapshots, pictures, splits, checks."""

import re
from dataclasses import dataclass

from receipt_dynamo import Pointer, Storage
from receipt_layoutlm.storage.errors import StorageError


@dataclass(frozen=True)
class RunKeys:
    """Keys below a job's storage prefix; everything an attempt writes lies under its own folder."""

    storage: Storage
    job_id: str

    @property
    def run(self) -> str:
        return f"{self.storage.prefix}runs/{self.job_id}/"

    def attempt(self, attempt: int) -> str:
        return f"{self.run}attempt-{attempt:03d}/"

    def checkpoint(self, pointer: Pointer) -> str:
        return self.checkpoint_at(pointer.attempt, pointer.global_step)

    def checkpoint_at(self, attempt: int, global_step: int) -> str:
        return f"{self.attempt(attempt)}checkpoint-{global_step}/"

    def best(self, attempt: int) -> str:
        return f"{self.attempt(attempt)}best/"

    def uri(self, key: str) -> str:
        return f"s3://{self.storage.bucket}/{key}"


def dataset_key(fingerprint: str, prefix: str = "") -> str:
    """Key of a snapshot, named by its content."""
    return f"{prefix}datasets/{fingerprint}.jsonl.gz"


def split_key(sha256: str, prefix: str = "") -> str:
    """Key of a frozen split."""
    return f"{prefix}splits/{sha256}.json"


def image_key(digest: str, prefix: str = "") -> str:
    """Key of a page's picture, named by its SHA-256."""
    return f"{prefix}images/{digest}"


def check_key(fingerprint: str, prefix: str = "") -> str:
    """Key of the newest check report, beside its snapshot."""
    return f"{prefix}datasets/{fingerprint}.check.txt"


def parse_s3_uri(uri: str) -> Storage:
    """Bucket and prefix of s3://bucket[/prefix]; raises StorageError for anything else."""
    match = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", uri)
    if match is None:
        raise StorageError(f"{uri!r} is not an S3 URI: write s3://BUCKET or s3://BUCKET/PREFIX")
    prefix = (match[2] or "").strip("/")
    return Storage(bucket=match[1], prefix=f"{prefix}/" if prefix else "")

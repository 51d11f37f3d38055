"""Admission of jobs: which buckets, weights and folders a worker accepts. Every job is checked as hostile input."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from receipt_dynamo import Job, Storage
from receipt_layoutlm.config import ConfigError, TrainConfig
from receipt_layoutlm.data.frozen_split import frozen_sha256
from receipt_layoutlm.paths import DEFAULT_WORK_DIR
from receipt_layoutlm.references import fingerprint_of, is_hub_name, is_in_bucket, safe_name
from receipt_layoutlm.storage.errors import StorageError
from receipt_layoutlm.storage.keys import parse_s3_uri

ANY_BUCKET = Storage(bucket="*")
"""Every bucket of the embedded AWS, which holds nothing but its user's own data."""

FLEET_READS = ("datasets/", "encoded/", "images/", "runs/", "splits/", "weights/", "wheels/")
"""Prefixes of a fleet's bucket that its machines may read, as in their role in infra/workers.yaml."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")  # no ARN, which would lead to another account


@dataclass(frozen=True)
class JobPolicy:
    """Bucket prefixes in which runs may write and weights may lie, and folders that jobs may name.

    A job may name a folder only where the submitter owns the machine: elsewhere, whoever can write to the table would
    choose what a worker reads from its disk, and where it writes.
    """

    buckets: tuple[Storage, ...]
    folders: tuple[Path, ...]
    fleet_bucket: str | None = None  # the machine's role reaches only some prefixes of it
    own_work_dir: Path | None = None  # overrides the job's
    default_work_dir: Path = DEFAULT_WORK_DIR

    @classmethod
    def of_project(cls, buckets: Iterable[Storage], work_dir: Path | None = None) -> Self:
        """Policy of a worker that serves other people's jobs."""
        return cls(tuple(buckets), (), own_work_dir=work_dir)

    @classmethod
    def of_fleet(cls, bucket: str, accepted: Iterable[Storage], work_dir: Path | None = None) -> Self:
        """Policy of a fleet's machine. `accepted` are places beyond the fleet's bucket; rights on them are assumed."""
        return cls((Storage(bucket=bucket), *accepted), (), bucket, work_dir)

    @classmethod
    def of_this_machine(
        cls, buckets: Iterable[Storage], work_dir: Path | None = None, default_work_dir: Path = DEFAULT_WORK_DIR
    ) -> Self:
        """Policy of --local and --run-here, where the submitter owns the machine."""
        return cls(tuple(buckets), (Path("/"),), own_work_dir=work_dir, default_work_dir=default_work_dir)

    def check(self, job: Job, config: TrainConfig) -> None:
        """Raise ConfigError with the field that this worker does not accept and the fix."""
        safe_name(job.name)
        self._check_storage(job.storage)
        self._check_pretrained(config.pretrained)
        if config.dataset is None and config.snapshot_on_worker:
            if job.storage is None or job.storage.prefix:
                raise ConfigError(
                    "--snapshot-on-worker: snapshots go to the top of the training bucket, where the job may not "
                    "write: submit it without --output-s3-path"
                )
        else:
            fingerprint_of(config.dataset)
        if config.eval_dataset is not None:
            fingerprint_of(config.eval_dataset, "eval_dataset")
        frozen_sha256(config.split)

    def work_dir(self, config: TrainConfig) -> Path:
        """Folder of the run directories: the worker's own, else the job's where it may choose, else the default."""
        if self.own_work_dir is not None:
            return self.own_work_dir
        if config.work_dir is not None and self._holds_folder(Path(config.work_dir)):
            return Path(config.work_dir)
        return self.default_work_dir

    def _check_storage(self, storage: Storage | None) -> None:
        if storage is None:
            raise ConfigError("storage: the job has no bucket: submit it with --bucket or --output-s3-path")
        self._check_place("storage", storage)
        if storage.prefix and not self._has_rights(storage):
            raise ConfigError(
                f"storage {_uri(storage)!r}: machines of a fleet may write only at the top of their bucket: submit "
                "the job again without --output-s3-path"
            )

    def _check_pretrained(self, pretrained: str) -> None:
        if pretrained == "minilm":
            return
        if is_in_bucket(pretrained):
            place = weights_place(pretrained)
            self._check_place("pretrained", place)
            if not place.prefix.startswith(FLEET_READS) and not self._has_rights(place):
                raise ConfigError(
                    f"pretrained {_uri(place)!r}: machines of a fleet may read only {', '.join(FLEET_READS)} of their "
                    "bucket: copy the folder below weights/ and use that one"
                )
        elif is_hub_name(pretrained) and not Path(pretrained).exists():  # a folder here would shadow the hub's
            return
        elif "://" in pretrained or not pretrained.isprintable() or not self._holds_folder(Path(pretrained)):
            raise ConfigError(
                f"pretrained {pretrained!r} is not a name on the model hub, and a folder is accepted only with --local "
                "or --run-here: use OWNER/NAME, 'minilm', or s3://BUCKET/PREFIX inside the project's bucket"
            )

    def _has_rights(self, place: Storage) -> bool:
        """Whether the place is outside of the fleet's bucket, or was accepted explicitly."""
        if place.bucket != self.fleet_bucket:
            return True
        explicit = [accepted for accepted in self.buckets if accepted != Storage(bucket=self.fleet_bucket)]
        return any(_holds(accepted, place) for accepted in explicit)

    def _check_place(self, field: str, place: Storage) -> None:
        uri = _uri(place)
        *segments, rest = place.prefix.split("/")  # of an accepted prefix the last one ends in '/' too, so rest is ""
        is_normal = not rest and all(text not in ("", ".", "..") and text.isprintable() for text in segments)
        if not _BUCKET.fullmatch(place.bucket) or not is_normal:
            raise ConfigError(
                f"{field} {uri!r} is not a valid place: write s3://BUCKET/PREFIX with a bucket name and segments that "
                "are neither empty, '.' nor '..' and hold no control characters"
            )
        if not any(_holds(accepted, place) for accepted in self.buckets):
            accepted = ", ".join(map(_uri, self.buckets))
            raise ConfigError(
                f"{field} {uri!r} is outside of what this worker accepts ({accepted or 'nothing'}): submit with a "
                "place inside it, or start the worker with --accept for this one"
            )

    def _holds_folder(self, folder: Path) -> bool:
        return any(folder.resolve().is_relative_to(root) for root in self.folders)


def weights_place(pretrained: str) -> Storage:
    """Bucket and folder of s3://BUCKET/PREFIX. Raises ConfigError."""
    try:
        place = parse_s3_uri(pretrained)
    except StorageError as error:
        raise ConfigError(f"--pretrained: {error}") from None
    if not place.prefix:
        raise ConfigError(f"--pretrained {pretrained} is a whole bucket: write s3://BUCKET/PREFIX of a folder")
    return place


def _holds(accepted: Storage, place: Storage) -> bool:
    return accepted == ANY_BUCKET or (accepted.bucket == place.bucket and place.prefix.startswith(accepted.prefix))


def _uri(place: Storage) -> str:
    return f"s3://{place.bucket}/{place.prefix}"

"""What a worker accepts of what the table says: each job is checked again, as hostile input, before it is worked."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from receipt_dynamo import Job, Storage
from receipt_layoutlm.config import DEFAULT_WORK_DIR, ConfigError, TrainConfig
from receipt_layoutlm.data.frozen_split import frozen_sha256
from receipt_layoutlm.references import fingerprint_of, is_hub_name, is_in_bucket, safe_name
from receipt_layoutlm.worker.prepare import weights_place

ANY_BUCKET = Storage(bucket="*")
"""Every bucket of the engine: for the embedded AWS, which holds nothing but its user's own."""

FLEET_READS = ("datasets/", "encoded/", "runs/", "splits/", "weights/", "wheels/")
"""What a fleet's machines read of their bucket, as their role in infra/workers.yaml has it."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")  # no ARN, which would lead to another account


@dataclass(frozen=True)
class Trust:
    """Below which places in buckets runs may write and weights may lie, and below which folders jobs may name some.

    A job's folder counts only where the one who submits owns the machine: elsewhere whoever can write the table
    would choose what is read from a worker's disk, and where it writes.
    """

    buckets: tuple[Storage, ...]
    folders: tuple[Path, ...]
    fleet_bucket: str | None = None  # of which the machine's role reaches a part only

    @classmethod
    def of_project(cls, buckets: Iterable[Storage]) -> Self:
        """A worker that others send jobs to."""
        return cls(tuple(buckets), ())

    @classmethod
    def of_fleet(cls, bucket: str, accepted: Iterable[Storage]) -> Self:
        """A machine of a fleet, with the fleet's bucket; what it was told to accept besides is not doubted."""
        return cls((Storage(bucket=bucket), *accepted), (), bucket)

    @classmethod
    def of_this_machine(cls, buckets: Iterable[Storage]) -> Self:
        """Submit and work on one machine: --local, --run-here."""
        return cls(tuple(buckets), (Path("/"),))

    def check(self, job: Job, config: TrainConfig) -> None:
        """Raises ConfigError naming the field that this worker does not accept, and the fix."""
        safe_name(job.name)
        self._check_storage(job.storage)
        self._check_pretrained(config.pretrained)
        if config.dataset is None and config.snapshot_on_worker:
            _check_snapshot_place(job.storage)
        else:
            fingerprint_of(config.dataset)
        if config.eval_dataset is not None:
            fingerprint_of(config.eval_dataset, "eval_dataset")
        frozen_sha256(config.split)

    def work_dir(self, config: TrainConfig, own: Path | None) -> Path:
        """Where run directories go: the worker's own choice, else the job's where it may choose, else the default."""
        if own is not None:
            return own
        wanted = Path(config.work_dir)
        return wanted if self._holds_folder(wanted) else Path(DEFAULT_WORK_DIR)

    def _check_storage(self, storage: Storage | None) -> None:
        if storage is None:
            raise ConfigError("storage: the job names no bucket: submit it with --bucket or --output-s3-path")
        self._check_place("storage", storage)
        if storage.prefix and not self._has_rights(storage):
            raise ConfigError(
                f"storage {_uri(storage)!r}: machines of a fleet may write at the top of their bucket alone: submit "
                "the job again without --output-s3-path"
            )

    def _check_pretrained(self, pretrained: str) -> None:
        if pretrained == "minilm":
            return
        if is_in_bucket(pretrained):
            self._check_weights(weights_place(pretrained))
        elif not is_hub_name(pretrained) or Path(pretrained).exists():  # a folder here would shadow the hub's
            self._check_folder(pretrained)

    def _check_weights(self, place: Storage) -> None:
        self._check_place("pretrained", place)
        if not place.prefix.startswith(FLEET_READS) and not self._has_rights(place):
            raise ConfigError(
                f"pretrained {_uri(place)!r}: machines of a fleet may read {', '.join(FLEET_READS)} of their bucket, "
                "no more: copy the folder below weights/ and name that one"
            )

    def _has_rights(self, place: Storage) -> bool:
        """Outside of a fleet's bucket, and for what was accepted besides, somebody has seen to them."""
        if place.bucket != self.fleet_bucket:
            return True
        besides = [accepted for accepted in self.buckets if accepted != Storage(bucket=self.fleet_bucket)]
        return any(_holds(accepted, place) for accepted in besides)

    def _check_folder(self, pretrained: str) -> None:
        if "://" in pretrained or not pretrained.isprintable() or not self._holds_folder(Path(pretrained)):
            raise ConfigError(
                f"pretrained {pretrained!r} is not a name on the model hub, and a folder counts only with --local or "
                "--run-here: give OWNER/NAME, 'minilm', or s3://BUCKET/PREFIX inside the project's bucket"
            )

    def _check_place(self, field: str, place: Storage) -> None:
        uri = _uri(place)
        if not _BUCKET.fullmatch(place.bucket) or not _is_normal(place.prefix):
            raise ConfigError(
                f"{field} {uri!r} is not a plain place: write s3://BUCKET/PREFIX with a bucket's name and, between "
                "single '/', parts that are not '.' or '..' and hold no control characters"
            )
        if not any(_holds(accepted, place) for accepted in self.buckets):
            accepted = ", ".join(map(_uri, self.buckets))
            raise ConfigError(
                f"{field} {uri!r} is outside of what this worker accepts ({accepted or 'nothing'}): submit with a "
                "place inside, or start the worker so that it accepts this one (--accept)"
            )

    def _holds_folder(self, folder: Path) -> bool:
        return any(folder.resolve().is_relative_to(root) for root in self.folders)


def _check_snapshot_place(storage: Storage | None) -> None:
    """Snapshots lie at the top of a bucket, so a job that may write below a prefix only cannot make one."""
    if storage is None or storage.prefix:
        raise ConfigError(
            "snapshot_on_worker: the snapshot goes to the top of the training bucket, and the job's files have to go "
            "there too: submit it without --output-s3-path"
        )


def _holds(accepted: Storage, place: Storage) -> bool:
    return accepted == ANY_BUCKET or (accepted.bucket == place.bucket and place.prefix.startswith(accepted.prefix))


def _is_normal(prefix: str) -> bool:
    """Empty, or parts that each end in '/': so the end of an accepted prefix is the end of a part."""
    *parts, rest = prefix.split("/")
    return rest == "" and all(part not in ("", ".", "..") and part.isprintable() for part in parts)


def _uri(place: Storage) -> str:
    return f"s3://{place.bucket}/{place.prefix}"

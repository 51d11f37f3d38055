"""Prepares an attempt's run directory: config, the pinned pages, the checkpoint to go on from."""

import gzip
import hashlib
import os
import shutil
from pathlib import Path

from receipt_dynamo import Job, Lease
from receipt_layoutlm.config import ConfigError, TrainConfig
from receipt_layoutlm.manifest import DamagedFolder
from receipt_layoutlm.run_dir import RunDir
from receipt_layoutlm.s3 import Bucket, RunPlaces, dataset_key

_CHUNK = 1 << 20  # bytes hashed at a time


def prepare_run_dir(
    work_dir: Path, job: Job, config: TrainConfig, lease: Lease, bucket: Bucket, places: RunPlaces
) -> RunDir:
    """A new folder per attempt; `{work_dir}/{job_name}` links to the newest. Raises DamagedFolder, ConfigError."""
    path = work_dir / ".attempts" / job.job_id / f"{lease.attempt:03d}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    run_dir = RunDir(path)
    run_dir.config.write_text(config.model_dump_json(indent=1))
    _get_pages(bucket, places, config.dataset, run_dir.dataset)
    if config.eval_dataset is not None:
        _get_pages(bucket, places, config.eval_dataset, run_dir.eval_dataset)
    if lease.checkpoint is not None:
        folder = run_dir.checkpoint(lease.checkpoint.global_step)
        bucket.get_folder(places.checkpoint(lease.checkpoint), folder, lease.checkpoint.manifest_sha256)
    _link(work_dir / safe_name(job.name), path)
    return run_dir


def safe_name(name: str) -> str:
    """A job name that is one path segment; raises ConfigError for any other."""
    if not name or name.startswith(".") or any(not (ch.isalnum() or ch in "._-+@") for ch in name):
        raise ConfigError(f"job name {name!r}: use letters, digits, '.', '_', '-', '+' and '@', not first a '.'")
    return name


def fingerprint_of(dataset: str | None) -> str:
    """The SHA-256 in NAME@FINGERPRINT, as a submitted job pins it."""
    _name, _, fingerprint = (dataset or "").partition("@")
    if len(fingerprint) != 64:
        raise ConfigError(f"dataset {dataset!r} is not pinned: the job must name NAME@FINGERPRINT")
    return fingerprint


def _get_pages(bucket: Bucket, places: RunPlaces, dataset: str | None, path: Path) -> None:
    fingerprint = fingerprint_of(dataset)
    bucket.get_file(dataset_key(fingerprint, places.storage.prefix), path)
    digest = hashlib.sha256()
    with gzip.open(path) as lines:
        while chunk := lines.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != fingerprint:
        raise DamagedFolder(f"the stored pages of {dataset} are not what their name says: import them again")


def _link(link: Path, target: Path) -> None:
    """Point a link at the newest attempt in one step; a folder of a person's that stands there stays."""
    if link.exists() and not link.is_symlink():
        return
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)

"""Prepares an attempt's run directory: config, the pinned pages, weights from a bucket.

Brings the checkpoint to go on from into the run directory; a damaged one gives way to the one before it.
"""

import gzip
import hashlib
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

from receipt_dynamo import Job, JobQueue, Lease, Pointer, Storage
from receipt_layoutlm.config import ConfigError, TrainConfig
from receipt_layoutlm.data.frozen_split import frozen_sha256
from receipt_layoutlm.references import fingerprint_of, is_in_bucket, safe_name
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.manifest import MANIFEST, RESUME_ONLY, DamagedFolder, is_whole
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import StorageError
from receipt_layoutlm.storage.keys import RunKeys, dataset_key, parse_s3_uri, split_key

_CHUNK = 1 << 20  # bytes hashed at a time


def prepare_run_dir(
    work_dir: Path, job: Job, config: TrainConfig, lease: Lease, bucket: Bucket, keys: RunKeys
) -> RunDir:
    """A new folder per attempt; `{work_dir}/{job_name}` links to the newest. Raises DamagedFolder, ConfigError."""
    path = work_dir / ".attempts" / job.job_id / f"{lease.attempt:03d}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    run_dir = RunDir(path)
    run_dir.config.write_text(config.model_dump_json(indent=1))
    _get_pages(bucket, keys, config.dataset, run_dir.dataset)
    if config.eval_dataset is not None:
        _get_pages(bucket, keys, config.eval_dataset, run_dir.eval_dataset)
    if (sha256 := frozen_sha256(config.split)) is not None:
        _get_split(bucket, keys, sha256, run_dir.split)
    _link(work_dir / safe_name(job.name), path)
    return run_dir


def get_weights(config: TrainConfig, run_dir: RunDir, open_bucket: Callable[[str], Bucket]) -> None:
    """Lay weights that --pretrained names in a bucket into the run directory. Raises DamagedFolder, ConfigError."""
    if not is_in_bucket(config.pretrained):
        return
    place = weights_place(config.pretrained)
    bucket = open_bucket(place.bucket)
    if not bucket.exists(place.prefix + MANIFEST):
        raise ConfigError(
            f"pretrained {config.pretrained!r} holds no {MANIFEST}, so nothing there can be verified: "
            "give the best/ or a checkpoint-STEP/ folder of a job ('job show' names them)"
        )
    try:
        bucket.get_folder(place.prefix, run_dir.pretrained)
    except DamagedFolder as error:
        raise DamagedFolder(f"pretrained {config.pretrained}: {error}") from error


def weights_place(pretrained: str) -> Storage:
    """The bucket and folder of s3://BUCKET/PREFIX; raises ConfigError."""
    try:
        place = parse_s3_uri(pretrained)
    except StorageError as error:
        raise ConfigError(f"pretrained: {error}") from None
    if not place.prefix:
        raise ConfigError(f"pretrained {pretrained!r} is a whole bucket: write s3://BUCKET/PREFIX of one folder")
    return place


def _get_pages(bucket: Bucket, keys: RunKeys, dataset: str | None, path: Path) -> None:
    fingerprint = fingerprint_of(dataset)
    bucket.get_file(dataset_key(fingerprint, keys.storage.prefix), path)
    digest = hashlib.sha256()
    try:
        with gzip.open(path) as lines:
            while chunk := lines.read(_CHUNK):
                digest.update(chunk)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DamagedFolder(f"the stored pages of {dataset} cannot be unpacked: import them again") from error
    if digest.hexdigest() != fingerprint:
        raise DamagedFolder(f"the stored pages of {dataset} are not what their name says: import them again")


def _get_split(bucket: Bucket, keys: RunKeys, sha256: str, path: Path) -> None:
    content = bucket.get_bytes(split_key(sha256, keys.storage.prefix))
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DamagedFolder("the stored split is not what its name says: submit the job again")
    path.write_bytes(content)


def get_best(bucket: Bucket, keys: RunKeys, lease: Lease, run_dir: RunDir) -> None:
    """Lay the best weights so far, of an earlier attempt, into the run directory: the test part is scored with them.

    Nothing is done when they are those of the checkpoint to go on from. Raises DamagedFolder.
    """
    if lease.best is None or lease.best == lease.checkpoint:
        return
    prefix, folder = keys.checkpoint(lease.best), run_dir.best_files(lease.best.global_step)
    folder.mkdir(exist_ok=True)
    for name, expected in bucket.get_manifest(prefix).files.items():
        if name not in RESUME_ONLY:
            bucket.get_file(prefix + name, folder / name)
            if not is_whole(folder / name, expected):
                raise DamagedFolder(f"{keys.uri(prefix)}{name} is not what its manifest says")
    run_dir.best.symlink_to(folder.name)


def _link(link: Path, target: Path) -> None:
    """Point a link at the newest attempt in one step; a folder of a person's that stands there stays."""
    if link.exists() and not link.is_symlink():
        return
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)


def fetch_resume_point(
    queue: JobQueue,
    lease: Lease,
    config: TrainConfig,
    run_dir: RunDir,
    download: Callable[[Pointer], None],
) -> tuple[Lease, list[str]]:
    """The lease as it stands then, and a line for each checkpoint that was damaged.

    Without any usable checkpoint training begins anew; for a job that continues another one that would be another
    training, so there DamagedFolder is raised. Raises LeaseLost.
    """
    said: list[str] = []
    while (pointer := lease.checkpoint) is not None:
        try:
            download(pointer)
            return lease, said
        except DamagedFolder as damaged:
            if lease.previous is None and config.continues is not None:
                raise
            shutil.rmtree(run_dir.checkpoint(pointer.global_step), ignore_errors=True)
            lease = queue.fall_back(lease)
            said.append(f"the checkpoint of step {pointer.global_step} is damaged ({damaged}): {_instead(lease)}")
    return lease, said


def download_checkpoint(bucket: Bucket, keys: RunKeys, run_dir: RunDir, pointer: Pointer) -> None:
    """Raises DamagedFolder when it is not, byte for byte, what the pointer names."""
    bucket.get_folder(keys.checkpoint(pointer), run_dir.checkpoint(pointer.global_step), pointer.manifest_sha256)


def _instead(lease: Lease) -> str:
    if lease.checkpoint is None:
        return "there is none before it, so training begins anew"
    return f"going on from step {lease.checkpoint.global_step}"

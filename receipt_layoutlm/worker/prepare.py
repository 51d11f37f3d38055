"""Fills an attempt's run directory: config, pinned pages, weights from a bucket, the checkpoint to resume from."""

import gzip
import hashlib
import os
import shutil
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from receipt_dynamo import Job, JobQueue, Lease
from receipt_layoutlm.config import ConfigError, TrainConfig
from receipt_layoutlm.data.frozen_split import frozen_sha256
from receipt_layoutlm.paths import check_shared, make_folders, make_own_folder
from receipt_layoutlm.references import fingerprint_of, is_in_bucket, safe_name
from receipt_layoutlm.run.directory import ATTEMPTS, RunDir
from receipt_layoutlm.run.manifest import MANIFEST, RESUME_ONLY, DamagedFolder, is_whole
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys, dataset_key, split_key
from receipt_layoutlm.worker.admission import weights_place
from receipt_layoutlm.worker.patience import Patience
from receipt_layoutlm.worker.recorder import RunStorage

_CHUNK = 1 << 20  # bytes hashed at a time


def prepare_run_dir(
    work_dir: Path, job: Job, config: TrainConfig, lease: Lease, bucket: Bucket, keys: RunKeys
) -> RunDir:
    """Make a new folder with config, pages and split, and point `{work_dir}/{job_name}` at it.

    Raises DamagedFolder, ConfigError, FolderRefused.
    """
    prepare_work_dir(work_dir)
    path = (work_dir / ATTEMPTS / job.job_id / f"{lease.attempt:03d}").absolute()
    shutil.rmtree(path, ignore_errors=True)
    make_own_folder(path.parent)
    path.mkdir(mode=0o700)
    run_dir = RunDir(path)
    run_dir.config.write_text(config.model_dump_json(indent=1))
    _get_pages(bucket, keys, config.dataset, run_dir.dataset)
    if config.eval_dataset is not None:
        _get_pages(bucket, keys, config.eval_dataset, run_dir.eval_dataset)
    if (sha256 := frozen_sha256(config.split)) is not None:
        split = bucket.get_bytes(split_key(sha256, keys.storage.prefix))
        if hashlib.sha256(split).hexdigest() != sha256:
            raise DamagedFolder("the stored split does not have the digest in its name: submit the job again")
        run_dir.split.write_bytes(split)
    link = work_dir / safe_name(job.name)
    if link.is_symlink() or not link.exists():  # a user's own folder of that name stays
        fresh = link.with_name(f".{link.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(path)
        fresh.replace(link)
    return run_dir


def prepare_work_dir(work_dir: Path) -> None:
    """Create a folder of run directories, and in it the folder of attempts, which nobody else can read or write.

    The folder itself may be shared, as /tmp is, but nobody else may be able to replace what lies in it. Raises
    FolderRefused.
    """
    make_folders(work_dir)
    check_shared(work_dir)
    make_own_folder(work_dir / ATTEMPTS)


def get_weights(config: TrainConfig, run_dir: RunDir, open_bucket: Callable[[str], Bucket]) -> None:
    """Download weights that --pretrained names in a bucket. Raises DamagedFolder, ConfigError."""
    if not is_in_bucket(config.pretrained):
        return
    bucket, prefix = find_weights(config.pretrained, open_bucket)
    try:
        bucket.get_folder(prefix, run_dir.pretrained)
    except DamagedFolder as error:
        raise DamagedFolder(f"pretrained {config.pretrained}: {error}") from error


def find_weights(pretrained: str, open_bucket: Callable[[str], Bucket]) -> tuple[Bucket, str]:
    """The bucket and folder that --pretrained names. Raises ConfigError where it holds no folder that was published."""
    place = weights_place(pretrained)
    bucket = open_bucket(place.bucket)
    if not bucket.exists(place.prefix + MANIFEST):
        raise ConfigError(
            f"--pretrained {pretrained}: there is no {MANIFEST}, so it cannot be verified: "
            "use the best/ or a checkpoint-STEP/ folder of a job (`layoutlm-cli job list` lists the jobs)"
        )
    return bucket, place.prefix


def _get_pages(bucket: Bucket, keys: RunKeys, dataset: str | None, path: Path) -> None:
    fingerprint = fingerprint_of(dataset)
    bucket.get_file(dataset_key(fingerprint, keys.storage.prefix), path)
    digest = hashlib.sha256()
    try:
        with gzip.open(path) as lines:
            while chunk := lines.read(_CHUNK):
                digest.update(chunk)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DamagedFolder(f"the stored pages of {dataset} cannot be decompressed: import them again") from error
    if digest.hexdigest() != fingerprint:
        raise DamagedFolder(f"the stored pages of {dataset} do not have the digest in their name: import them again")


def get_best(bucket: Bucket, keys: RunKeys, lease: Lease, run_dir: RunDir) -> None:
    """Download the best weights of earlier attempts, with which the test set is scored at the end.

    Does nothing when they are those of the checkpoint to resume from. Raises DamagedFolder.
    """
    if lease.best is None or lease.best == lease.checkpoint:
        return
    prefix, folder = keys.checkpoint(lease.best), run_dir.best_files(lease.best.global_step)
    folder.mkdir(exist_ok=True)
    for name, expected in bucket.get_manifest(prefix).files.items():
        if name not in RESUME_ONLY:
            bucket.get_file(prefix + name, folder / name, expected.size)
            if not is_whole(folder / name, expected):
                raise DamagedFolder(f"{keys.uri(prefix)}{name} does not match its manifest")
    run_dir.best.symlink_to(folder.name)


def fetch_resume_point(
    queue: JobQueue, lease: Lease, config: TrainConfig, run_dir: RunDir, storage: RunStorage, patience: Patience
) -> tuple[Lease, list[str]]:
    """Download the checkpoint to resume from; a damaged one gives way to the one before it.

    Returns the lease as it is then, and a message for each damaged checkpoint. Without a usable one training begins
    anew, except that a job which continues another one raises DamagedFolder. Raises LeaseLost.
    """
    damages: list[str] = []
    while (pointer := lease.checkpoint) is not None:
        folder, prefix = run_dir.checkpoint(pointer.global_step), storage.keys.checkpoint(pointer)
        download = partial(storage.bucket.get_folder, prefix, folder, pointer.manifest_sha256)
        try:
            patience.retry_until_stopped(download)
            break
        except DamagedFolder as damaged:
            if lease.previous is None and config.continues is not None:
                raise
            shutil.rmtree(folder, ignore_errors=True)
            lease = queue.fall_back(lease)
            if lease.checkpoint is None:
                consequence = "there is no earlier one, so training begins anew"
            else:
                consequence = f"resuming from step {lease.checkpoint.global_step}"
            damages.append(f"the checkpoint of step {pointer.global_step} is damaged ({damaged}): {consequence}")
    return lease, damages

"""Brings the checkpoint to go on from into the run directory; a damaged one gives way to the one before it."""

import shutil
from collections.abc import Callable

from receipt_dynamo import JobQueue, Lease, Pointer
from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.manifest import DamagedFolder
from receipt_layoutlm.run_dir import RunDir
from receipt_layoutlm.s3 import Bucket, RunPlaces


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


def download_checkpoint(bucket: Bucket, places: RunPlaces, run_dir: RunDir, pointer: Pointer) -> None:
    """Raises DamagedFolder when it is not, byte for byte, what the pointer names."""
    bucket.get_folder(places.checkpoint(pointer), run_dir.checkpoint(pointer.global_step), pointer.manifest_sha256)


def _instead(lease: Lease) -> str:
    if lease.checkpoint is None:
        return "there is none before it, so training begins anew"
    return f"going on from step {lease.checkpoint.global_step}"

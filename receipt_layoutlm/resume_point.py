"""Brings the checkpoint to go on from into the run directory; a damaged one gives way to the one before it."""

import random
import shutil
import threading

from receipt_dynamo import JobQueue, Lease
from receipt_layoutlm.manifest import DamagedFolder
from receipt_layoutlm.run_dir import RunDir
from receipt_layoutlm.s3 import Bucket, RunPlaces, keep_trying

_RNG = random.Random()


def fetch_resume_point(
    queue: JobQueue, lease: Lease, bucket: Bucket, places: RunPlaces, run_dir: RunDir, given_up: threading.Event
) -> tuple[Lease, list[str]]:
    """The lease as it stands then, and a line for each checkpoint that was damaged. Raises LeaseLost.

    Without any usable checkpoint training begins anew, but for a job that continues another one: DamagedFolder.
    `given_up` ends the waiting for a bucket that is away.
    """
    said: list[str] = []
    while (pointer := lease.checkpoint) is not None:
        folder = run_dir.checkpoint(pointer.global_step)
        prefix = places.checkpoint(pointer)
        try:
            keep_trying(
                lambda: bucket.get_folder(prefix, folder, pointer.manifest_sha256),  # noqa: B023  # called at once
                given_up.is_set,
                given_up.wait,
                _RNG,
            )
            return lease, said
        except DamagedFolder as damaged:
            if pointer.attempt == 0:
                raise  # of the job that this one continues: beginning anew would be another training
            shutil.rmtree(folder, ignore_errors=True)
            lease = queue.fall_back(lease)
            said.append(f"the checkpoint of step {pointer.global_step} is damaged ({damaged}): {_instead(lease)}")
    return lease, said


def _instead(lease: Lease) -> str:
    if lease.checkpoint is None:
        return "there is none before it, so training begins anew"
    return f"going on from step {lease.checkpoint.global_step}"

"""Which stored checkpoints nobody needs any more. It lists the bucket to delete only; resuming never looks there."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from receipt_dynamo import Lease, Pointer
from receipt_layoutlm.manifest import MANIFEST
from receipt_layoutlm.s3 import Bucket, RunPlaces


@dataclass(frozen=True, order=True)
class StoredCheckpoint:
    """A checkpoint folder in the bucket, committed or not."""

    attempt: int
    global_step: int


def superseded(stored: Collection[StoredCheckpoint], lease: Lease, keep: int) -> list[StoredCheckpoint]:
    """All but what the lease names, the last `keep` of the committed chain, and what is not this attempt's to judge.

    That is an attempt newer than the lease's (the lease is out of date then) and its own beyond the pointer, which is
    being uploaded. What an older attempt made beyond the resume point is dead history.
    """
    known = [checkpoint for checkpoint in stored if checkpoint.attempt <= lease.attempt]
    committed = _committed(known, lease.checkpoint)
    kept = _named(lease) | set(committed[max(0, len(committed) - keep) :])
    return sorted(checkpoint for checkpoint in known if checkpoint not in kept and not _is_uploading(checkpoint, lease))


def _committed(known: Collection[StoredCheckpoint], end: Pointer | None) -> list[StoredCheckpoint]:
    """The history of the pointer's weights by step. A newer attempt at or before a step shows it was made again."""
    if end is None:
        return []
    up_to = [checkpoint for checkpoint in known if not _is_beyond(checkpoint, end)]
    alive = [
        checkpoint
        for checkpoint in up_to
        if not any(
            other.attempt > checkpoint.attempt and other.global_step <= checkpoint.global_step for other in up_to
        )
    ]
    return sorted(alive, key=lambda checkpoint: checkpoint.global_step)


def _is_uploading(checkpoint: StoredCheckpoint, lease: Lease) -> bool:
    is_own = checkpoint.attempt == lease.attempt
    return is_own and (lease.checkpoint is None or _is_beyond(checkpoint, lease.checkpoint))


def _is_beyond(checkpoint: StoredCheckpoint, end: Pointer) -> bool:
    """As the pointer counts it: a later step, or the same step by a newer attempt."""
    return (checkpoint.global_step, checkpoint.attempt) > (end.global_step, end.attempt)


def _named(lease: Lease) -> set[StoredCheckpoint]:
    pointers: Iterable[Pointer | None] = (lease.checkpoint, lease.previous, lease.best, lease.previous_best)
    return {StoredCheckpoint(pointer.attempt, pointer.global_step) for pointer in pointers if pointer is not None}


def stored_checkpoints(bucket: Bucket, places: RunPlaces) -> list[StoredCheckpoint]:
    """The checkpoints that have a manifest. Which one to resume from, only the lease says."""
    return _listed(bucket, places, re.escape(MANIFEST))


def left_folders(bucket: Bucket, places: RunPlaces) -> list[StoredCheckpoint]:
    """As stored_checkpoints, and what an attempt that died while uploading left without a manifest."""
    return _listed(bucket, places, "[^/]+")


def _listed(bucket: Bucket, places: RunPlaces, name: str) -> list[StoredCheckpoint]:
    form = re.compile(re.escape(places.run) + r"attempt-(\d{3,})/checkpoint-(\d+)/" + name)
    matches = (form.fullmatch(key) for key in bucket.list_keys(places.run))
    return sorted({StoredCheckpoint(int(match[1]), int(match[2])) for match in matches if match})

"""Stored checkpoints of a job: superseded ones, to be deleted, and those that a new job may continue from.

A job resumes from the pointer of its lease, never from a listing of the bucket.
"""

import hashlib
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from receipt_dynamo import Lease, Pointer
from receipt_layoutlm.run.manifest import MANIFEST, DamagedFolder, parse_manifest
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys

STATE = "state.json"


@dataclass(frozen=True, order=True)
class StoredCheckpoint:
    """A checkpoint folder in the bucket, committed or not."""

    attempt: int
    global_step: int


Keep = int | Literal["all"]
"""Checkpoints to keep of the committed chain."""


def superseded(stored: Collection[StoredCheckpoint], lease: Lease, keep: Keep) -> list[StoredCheckpoint]:
    """Checkpoints to delete: all but those that the lease names and the last `keep` of the committed chain.

    Kept as well: those of an attempt newer than the lease (the lease is outdated then), and the attempt's own beyond
    the pointer, which are being uploaded. Checkpoints of older attempts beyond the resume point are dead history.
    """
    known = [checkpoint for checkpoint in stored if checkpoint.attempt <= lease.attempt]
    committed = _committed(known, lease.checkpoint)
    pointers = (lease.checkpoint, lease.previous, lease.best, lease.previous_best)
    kept = {StoredCheckpoint(pointer.attempt, pointer.global_step) for pointer in pointers if pointer is not None}
    kept |= set(committed if keep == "all" else committed[max(0, len(committed) - keep) :])
    uploading = {
        checkpoint
        for checkpoint in known
        if checkpoint.attempt == lease.attempt
        and (lease.checkpoint is None or _is_beyond(checkpoint, lease.checkpoint))
    }
    return sorted(checkpoint for checkpoint in known if checkpoint not in kept | uploading)


def _committed(known: Collection[StoredCheckpoint], end: Pointer | None) -> list[StoredCheckpoint]:
    """The history of the pointer's weights, by step. A newer attempt at or before a step has repeated that step."""
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


def _is_beyond(checkpoint: StoredCheckpoint, end: Pointer) -> bool:
    """In the pointer's order: a later step, or the same step by a newer attempt."""
    return (checkpoint.global_step, checkpoint.attempt) > (end.global_step, end.attempt)


def stored_checkpoints(bucket: Bucket, keys: RunKeys) -> list[StoredCheckpoint]:
    """Checkpoints that have a manifest."""
    return _listed(bucket, keys, re.escape(MANIFEST))


def left_folders(bucket: Bucket, keys: RunKeys) -> list[StoredCheckpoint]:
    """Checkpoint folders, including incomplete ones of attempts that died while uploading."""
    return _listed(bucket, keys, "[^/]+")


def _listed(bucket: Bucket, keys: RunKeys, name: str) -> list[StoredCheckpoint]:
    form = re.compile(re.escape(keys.run) + r"attempt-(\d{3,})/checkpoint-(\d+)/" + name)
    matches = (form.fullmatch(key) for key in bucket.list_keys(keys.run))
    return sorted({StoredCheckpoint(int(match[1]), int(match[2])) for match in matches if match})


def history(bucket: Bucket, keys: RunKeys, lease: Lease) -> list[StoredCheckpoint]:
    """Stored checkpoints in the history of the resume point, by attempt and step."""
    if lease.checkpoint is None:
        return []
    end = lease.checkpoint.global_step
    stored = stored_checkpoints(bucket, keys)
    dead = superseded(stored, lease, keep="all")
    return sorted(checkpoint for checkpoint in set(stored) - set(dead) if checkpoint.global_step <= end)


def whole_checkpoints(bucket: Bucket, keys: RunKeys, lease: Lease) -> dict[int, Pointer]:
    """Checkpoints of the history that can be resumed, by step; a continued job also keeps a bare model."""
    pointers: dict[int, Pointer] = {}
    for stored in history(bucket, keys, lease):
        data = bucket.get_bytes(keys.checkpoint_at(stored.attempt, stored.global_step) + MANIFEST)
        with suppress(DamagedFolder):
            if STATE in parse_manifest(data, MANIFEST).files:
                digest = hashlib.sha256(data).hexdigest()
                pointers[stored.global_step] = Pointer(
                    attempt=stored.attempt, global_step=stored.global_step, manifest_sha256=digest
                )
    return pointers


def listed(steps: Iterable[int]) -> str:
    """Steps, for an error message."""
    return ", ".join(map(str, sorted(steps))) or "none"

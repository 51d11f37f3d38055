"""Which stored checkpoints nobody needs any more. It lists the bucket to delete only; resuming never looks there.

Which stored checkpoints a person may choose from. Where a job resumes by itself, only its lease says.
"""

import hashlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from receipt_dynamo import Lease, Pointer
from receipt_layoutlm.run.manifest import MANIFEST, DamagedFolder, parse_manifest
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys


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


def stored_checkpoints(bucket: Bucket, keys: RunKeys) -> list[StoredCheckpoint]:
    """The checkpoints that have a manifest. Which one to resume from, only the lease says."""
    return _listed(bucket, keys, re.escape(MANIFEST))


def left_folders(bucket: Bucket, keys: RunKeys) -> list[StoredCheckpoint]:
    """As stored_checkpoints, and what an attempt that died while uploading left without a manifest."""
    return _listed(bucket, keys, "[^/]+")


def _listed(bucket: Bucket, keys: RunKeys, name: str) -> list[StoredCheckpoint]:
    form = re.compile(re.escape(keys.run) + r"attempt-(\d{3,})/checkpoint-(\d+)/" + name)
    matches = (form.fullmatch(key) for key in bucket.list_keys(keys.run))
    return sorted({StoredCheckpoint(int(match[1]), int(match[2])) for match in matches if match})


STATE = "state.json"


def history(bucket: Bucket, keys: RunKeys, lease: Lease) -> list[StoredCheckpoint]:
    """The stored folders that belong to the weights of the resume point, by attempt and step."""
    if lease.checkpoint is None:
        return []
    end = lease.checkpoint.global_step
    stored = stored_checkpoints(bucket, keys)
    dead = superseded(stored, lease, keep=len(stored))
    return sorted(each for each in set(stored) - set(dead) if each.global_step <= end)


def whole_checkpoints(bucket: Bucket, keys: RunKeys, lease: Lease) -> dict[int, Pointer]:
    """By step, those of the history from which training can go on; a continued job also keeps a bare model."""
    whole: dict[int, Pointer] = {}
    for each in history(bucket, keys, lease):
        data = bucket.get_bytes(keys.checkpoint_at(each.attempt, each.global_step) + MANIFEST)
        if _has_state(data):
            digest = hashlib.sha256(data).hexdigest()
            whole[each.global_step] = Pointer(
                attempt=each.attempt, global_step=each.global_step, manifest_sha256=digest
            )
    return whole


def listed(steps: Iterable[int]) -> str:
    """Steps for an error text."""
    return ", ".join(map(str, sorted(steps))) or "none"


def _has_state(manifest: bytes) -> bool:
    try:
        return STATE in parse_manifest(manifest, MANIFEST).files
    except DamagedFolder:
        return False

"""Which stored checkpoints a person may choose from. Where a job resumes by itself, only its lease says."""

import hashlib
from collections.abc import Iterable

from receipt_dynamo import Lease, Pointer
from receipt_layoutlm.manifest import MANIFEST, DamagedFolder, parse_manifest
from receipt_layoutlm.retention import StoredCheckpoint, stored_checkpoints, superseded
from receipt_layoutlm.s3 import Bucket, RunPlaces

STATE = "state.json"


def history(bucket: Bucket, places: RunPlaces, lease: Lease) -> list[StoredCheckpoint]:
    """The stored folders that belong to the weights of the resume point, by attempt and step."""
    if lease.checkpoint is None:
        return []
    end = lease.checkpoint.global_step
    stored = stored_checkpoints(bucket, places)
    dead = superseded(stored, lease, keep=len(stored))
    return sorted(each for each in set(stored) - set(dead) if each.global_step <= end)


def whole_checkpoints(bucket: Bucket, places: RunPlaces, lease: Lease) -> dict[int, Pointer]:
    """By step, those of the history from which training can go on; a continued job also keeps a bare model."""
    whole: dict[int, Pointer] = {}
    for each in history(bucket, places, lease):
        data = bucket.get_bytes(places.checkpoint_at(each.attempt, each.global_step) + MANIFEST)
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

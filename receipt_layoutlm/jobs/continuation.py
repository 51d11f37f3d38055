"""train --resume: continues a job that has ended as a new job, from a copy of one of its checkpoints."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pydantic import ValidationError

from receipt_dynamo import DynamoClient, Job, Lease, Pointer
from receipt_layoutlm.config import ConfigError, TrainConfig
from receipt_layoutlm.config_documents import from_document
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.jobs.find import find_job
from receipt_layoutlm.jobs.models import published
from receipt_layoutlm.jobs.request import ResolvedOptions, resolve
from receipt_layoutlm.references import fingerprint_of
from receipt_layoutlm.run.manifest import MANIFEST, RESUME_ONLY, DamagedFolder
from receipt_layoutlm.run.state import LENGTH, PLACE_AND_RHYTHM, TrainState, config_hash
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import StorageError
from receipt_layoutlm.storage.keys import RunKeys
from receipt_layoutlm.storage.retention import STATE, history, listed, whole_checkpoints

PARENT_TAG = "parent"
FREE = (LENGTH | PLACE_AND_RHYTHM) - {"dataset", "snapshot_on_worker", "over_lines", "eval_dataset", "continues"}
"""Options that a continuation may change."""


class NotContinuable(UserError):
    """The job has no usable checkpoint, or has not ended; the text names the way out."""


@dataclass(frozen=True)
class Parent:
    """A job that has ended, and the checkpoint to resume from."""

    job: Job
    config: TrainConfig
    bucket: Bucket
    keys: RunKeys
    checkpoint: Pointer
    state: TrainState
    best_prefix: str | None  # of the best model so far; None if the checkpoint is the best, or there is none

    @property
    def recipe(self) -> str | None:
        """Name of the recipe that the job was submitted with."""
        recipe = self.job.job_config.get("recipe")
        return recipe if isinstance(recipe, str) else None


def find_parent(client: DynamoClient, open_bucket: Callable[[str], Bucket], reference: str) -> Parent:
    """JOB or JOB@STEP. Raises NotFound, NotContinuable, ConfigError, DamagedFolder, StorageError."""
    step = None
    match = re.fullmatch(r"(.+)@([0-9]+)", reference)
    if match is not None and not client.list_jobs_by_name(reference, limit=1):  # a name may end in @ and digits
        job, step = find_job(client, match[1]), int(match[2])
    else:
        job = find_job(client, reference)
    if job.storage is None:
        raise NotContinuable(f"job {job.name} keeps no files in a bucket of this system")
    if not job.status.is_final:
        raise NotContinuable(
            f"job {job.name} is {job.status} and resumes by itself: wait until it ends, "
            f"or end it with `layoutlm-cli job cancel {job.job_id[:8]}`"
        )
    bucket, keys = open_bucket(job.storage.bucket), RunKeys(job.storage, job.job_id)
    lease = client.get_lease(job.job_id)
    last, whole = lease.checkpoint, whole_checkpoints(bucket, keys, lease)
    if last is None:
        raise NotContinuable(f"job {job.name} ended before its first checkpoint: submit a new job")
    if step is None and whole.get(last.global_step) != last:
        raise NotContinuable(
            f"the last checkpoint of job {job.name}, of step {last.global_step}, is damaged or gone: "
            f"name another one as JOB@STEP; there are: {listed(whole)}"
        )
    target = last.global_step if step is None else step
    if target not in whole:
        raise NotContinuable(f"job {job.name} keeps no checkpoint of step {target}; there are: {listed(whole)}")
    checkpoint = whole[target]
    key = keys.checkpoint(checkpoint) + STATE
    try:
        state = TrainState.model_validate_json(bucket.get_bytes(key))
    except ValidationError as error:
        raise DamagedFolder(f"s3://{bucket.name}/{key} was written by another version, or is damaged") from error
    best_prefix = _best_prefix(bucket, keys, job, lease, state)
    return Parent(job, from_document(job.job_config), bucket, keys, checkpoint, state, best_prefix)


def _best_prefix(bucket: Bucket, keys: RunKeys, job: Job, lease: Lease, state: TrainState) -> str | None:
    """Prefix of the model of the best evaluation up to the checkpoint."""
    best = state.best_step
    if best is None or best == state.global_step:
        return None
    for each in history(bucket, keys, lease):
        if each.global_step == best:
            return keys.checkpoint_at(each.attempt, best)
    for prefix in published(bucket, keys, job):
        if bucket.get_manifest(prefix).global_step == best:
            return prefix
    raise NotContinuable(
        f"the best model up to step {state.global_step} of job {job.name} was that of step {best}, which is no "
        f"longer stored: resume from another checkpoint; there are: {listed(whole_checkpoints(bucket, keys, lease))}"
    )


def continued(parent: Parent, flags: Mapping[str, object], file: Mapping[str, object]) -> ResolvedOptions:
    """The parent's options with flags and file on top; raises ConfigError for options that cannot change."""
    resolved = resolve(flags, file, {}, parent.config)
    config = resolved.config.model_copy(update={"continues": f"{parent.job.job_id}@{parent.checkpoint.global_step}"})
    _check_unchanged(parent, config, resolved.given)
    if config.epochs <= parent.state.epoch:
        raise ConfigError(
            f"epochs: {parent.state.epoch} are done at step {parent.checkpoint.global_step}, "
            f"so give --epochs {parent.state.epoch + 1} or more (got {config.epochs})"
        )
    if PARENT_TAG in resolved.request.tags:
        raise ConfigError(f"the tag {PARENT_TAG!r} names the job that is continued: choose another tag")
    parent_given = parent.job.job_config.get("given")
    inherited = dict.fromkeys(parent_given, "parent") if isinstance(parent_given, dict) else {}
    return replace(resolved, config=config, given={**inherited, **resolved.given, "continues": "flag"})


def _check_unchanged(parent: Parent, config: TrainConfig, given: Mapping[str, str]) -> None:
    old = parent.config
    changed = [name for name in given if name not in FREE and getattr(config, name) != getattr(old, name)]
    if changed:
        raise ConfigError(
            f"{', '.join(sorted(changed))} cannot change when a job is continued: the state of its checkpoint depends "
            "on the old value. Leave it out, or start a new run from the job's weights: --pretrained with the "
            f"best uri of `layoutlm-cli job show {parent.job.job_id[:8]}`"
        )
    windows = old.batch_size * old.gradient_accumulation_steps
    if config.batch_size * config.gradient_accumulation_steps != windows:
        raise ConfigError(
            f"batch_size times gradient_accumulation_steps must stay {windows} when a job is continued "
            f"(got {config.batch_size} times {config.gradient_accumulation_steps})"
        )
    evaluation = fingerprint_of(config.eval_dataset, "eval_dataset") if config.eval_dataset else ""
    if config_hash(config, [fingerprint_of(config.dataset), evaluation], but=LENGTH) != parent.state.lineage_hash:
        raise ConfigError(
            f"the checkpoint of step {parent.checkpoint.global_step} was written by another version, or with other "
            f"options or pages than job {parent.job.name} has stored: it cannot be continued"
        )


def copy_checkpoint(parent: Parent, keys: RunKeys) -> tuple[Pointer, Pointer | None]:
    """Copy the resume point and the best model up to it, as attempt 0 of the new job. Raises NotContinuable."""
    source, state = parent.keys.checkpoint(parent.checkpoint), parent.state
    try:
        checkpoint = _copy_folder(parent.bucket, source, keys, frozenset())
        if checkpoint.manifest_sha256 != parent.checkpoint.manifest_sha256:
            raise DamagedFolder(f"s3://{parent.bucket.name}/{source} changed during the copy")
        if parent.best_prefix is None:
            return checkpoint, checkpoint if state.best_step == state.global_step else None
        return checkpoint, _copy_folder(parent.bucket, parent.best_prefix, keys, RESUME_ONLY)
    except (StorageError, DamagedFolder) as error:
        raise NotContinuable(
            f"nothing was submitted: {error}. Copies may remain below {keys.uri(keys.attempt(0))}: the same "
            "command with the same --unique-key reuses them; without a key, remove them"
        ) from error


def _copy_folder(bucket: Bucket, source: str, keys: RunKeys, left_out: frozenset[str]) -> Pointer:
    """A full copy keeps the manifest byte for byte, and with it the hash that names the checkpoint."""
    manifest = bucket.get_manifest(source)
    target = keys.checkpoint_at(0, manifest.global_step)
    bucket.copy_folder(source, target, [name for name in manifest.files if name not in left_out])
    digest = hashlib.sha256(bucket.get_bytes(target + MANIFEST)).hexdigest()
    return Pointer(attempt=0, global_step=manifest.global_step, manifest_sha256=digest)

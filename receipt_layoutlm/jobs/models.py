"""Models of jobs and buckets on this machine: downloaded once, verified, and kept by the hash of their manifest."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from receipt_dynamo import Job
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.run.manifest import MANIFEST, DamagedFolder, ManifestFile, read_manifest, verify
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import NotStored
from receipt_layoutlm.storage.keys import RunKeys, parse_s3_uri


class NoModel(UserError):
    """A job or a place in a bucket without a model; the text says what there is instead."""


def run_folder(open_bucket: Callable[[str], Bucket], job: Job) -> tuple[Bucket, RunKeys]:
    """The bucket of a job and its keys there. Raises NoModel for a job of the original system."""
    if job.storage is None:
        raise NoModel(f"job {job.name} keeps no files in a bucket of this system")
    return open_bucket(job.storage.bucket), RunKeys(job.storage, job.job_id)


def published(bucket: Bucket, keys: RunKeys, job: Job) -> Iterator[str]:
    """Prefixes of the best/ that the attempts of a job have published, the newest attempt first."""
    prefixes = (keys.best(attempt) for attempt in range(job.attempt, 0, -1))
    return (prefix for prefix in prefixes if bucket.exists(prefix + MANIFEST))


def best_prefix(bucket: Bucket, keys: RunKeys, job: Job) -> str:
    """Prefix of the published best model of a job, that of its newest attempt. Raises NoModel."""
    newest = next(published(bucket, keys, job), None)
    if newest is None:
        raise NoModel(f"job {job.name} is {job.status} and has published no best model; try --checkpoint STEP")
    return newest


def best_uri(open_bucket: Callable[[str], Bucket], job: Job) -> str:
    """Place of the best model of a job, as s3://BUCKET/PREFIX. Raises NoModel, StorageError."""
    bucket, keys = run_folder(open_bucket, job)
    return keys.uri(best_prefix(bucket, keys, job))


def model_of_job(open_bucket: Callable[[str], Bucket], job: Job, cache: Path) -> Path:
    """Folder with the best model of a job. Raises NoModel, StorageError, DamagedFolder."""
    return model_at(open_bucket, best_uri(open_bucket, job), cache)


def model_at(open_bucket: Callable[[str], Bucket], uri: str, cache: Path) -> Path:
    """Folder with the model at s3://BUCKET/PREFIX, where a manifest lists its files. Raises as model_of_job."""
    place = parse_s3_uri(uri)
    return _kept(open_bucket(place.bucket), place.prefix, cache)


def add_to_model(open_bucket: Callable[[str], Bucket], place: Path | str, name: str, content: bytes) -> str:
    """Put a file beside the weights in a folder, or at s3://BUCKET/PREFIX, and into their manifest; returns its place.

    While the file is replaced the manifest does not list it, so that a reader never finds a file that differs.
    """
    entry = ManifestFile(size=len(content), sha256=hashlib.sha256(content).hexdigest())
    if isinstance(place, Path):
        (place / name).write_bytes(content)
        if (place / MANIFEST).exists():
            manifest = read_manifest(place)
            listed = manifest.model_copy(update={"files": {**manifest.files, name: entry}})
            (place / MANIFEST).write_text(listed.model_dump_json(indent=1))
        return str(place / name)
    storage = parse_s3_uri(place)
    bucket = open_bucket(storage.bucket)
    manifest = bucket.get_manifest(storage.prefix)
    others = {other: file for other, file in manifest.files.items() if other != name}
    steps = [(name, content), (MANIFEST, {**others, name: entry})]
    with tempfile.TemporaryDirectory() as folder:
        for file, data in steps if name not in manifest.files else [(MANIFEST, others), *steps]:
            path = Path(folder) / file
            if isinstance(data, bytes):
                path.write_bytes(data)
            else:
                path.write_text(manifest.model_copy(update={"files": data}).model_dump_json(indent=1))
            bucket.put_file(path, storage.prefix + file)
    return f"{place.rstrip('/')}/{name}"


def _kept(bucket: Bucket, prefix: str, cache: Path) -> Path:
    try:
        digest = hashlib.sha256(bucket.get_bytes(prefix + MANIFEST)).hexdigest()
    except NotStored as error:
        raise NoModel(f"s3://{bucket.name}/{prefix} holds no model with a {MANIFEST}") from error
    folder = cache / "models" / digest
    try:
        verify(folder)
    except DamagedFolder:  # not there yet, or only in part
        bucket.get_folder(prefix, folder, digest)
    return folder

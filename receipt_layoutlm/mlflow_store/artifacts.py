"""MLflow's artifact repository over the bucket: the files of a job, read-only, without its checkpoints."""

import os
import posixpath
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from receipt_dynamo import Job
from receipt_layoutlm.jobs.models import run_folder
from receipt_layoutlm.mlflow_store.address import parse_address, with_mlflow_errors
from receipt_layoutlm.mlflow_store.refusals import read_only_error
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.owner import caller_identity, expected_owner

_PLACE: Final = re.compile(r"[^/]+/(?P<run>[^/]+)/artifacts(?:/(?P<path>.*))?")
_OF_ATTEMPT: Final = re.compile(r"attempt-(\d+)/((?!checkpoint-\d)([^/]+).*)")
_OF_RUN: Final = 10**6  # later than every attempt


class StoredFile(NamedTuple):
    """An object of a run: its key, and its size in bytes."""

    key: str
    size: int


class TableArtifacts(ArtifactRepository):  # type: ignore[misc]
    """Files of jobs at EXPERIMENT/JOB_ID/artifacts/…, below the path of the address."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        self._address = parse_address(artifact_uri)
        with with_mlflow_errors():
            self._client = self._address.client()
        self._buckets: dict[str, Bucket] = {}

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        folder, files = self._find(path)
        inside = f"{folder}/" if folder else ""
        sizes: dict[str, int | None] = {}
        for name, file in files.items():
            if name.startswith(inside):
                head, slash, _ = name.removeprefix(inside).partition("/")
                sizes[head] = None if slash else file.size
        return [
            FileInfo(posixpath.join(path or "", name), size is None, size)
            for name, size in sorted(sizes.items(), key=lambda each: (each[1] is not None, each[0]))
        ]

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        name, files = self._find(remote_file_path)
        if name not in files:
            raise MlflowException(f"the job has no artifact {name!r}", RESOURCE_DOES_NOT_EXIST)
        bucket_name, key = files[name].key.split("/", 1)
        with with_mlflow_errors():
            self._open(bucket_name).get_file(key, Path(local_path))

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        raise read_only_error("log_artifact")

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        raise read_only_error("log_artifacts")

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        raise read_only_error("delete_artifacts")

    def _find(self, path: str | None) -> tuple[str, dict[str, StoredFile]]:
        """A path within a job's artifacts, and all files of the job, by such paths."""
        place = _PLACE.fullmatch(posixpath.join(self._address.path, path or "").strip("/"))
        if place is None:
            return "", {}
        with with_mlflow_errors():
            job = self._client.get_job(place["run"])
            return place["path"] or "", stored_files(self._open, job)

    def _open(self, name: str) -> Bucket:
        region = self._address.region
        owner = partial(expected_owner, os.environ, partial(caller_identity, region))
        return self._buckets.setdefault(name, Bucket(name, region=region, owner=owner))


def stored_files(open_bucket: Callable[[str], Bucket], job: Job) -> dict[str, StoredFile]:
    """The files of a job in the bucket, by their place for people; none for a job of the original system."""
    if job.storage is None:
        return {}
    bucket, keys = run_folder(open_bucket, job)
    sizes = bucket.sizes(keys.run)
    return shown_files((key.removeprefix(keys.run), StoredFile(f"{bucket.name}/{key}", size)) for key, size in sizes)


def shown_files(stored: Iterable[tuple[str, StoredFile]]) -> dict[str, StoredFile]:
    """Files by their place for people: those of the newest attempt that has them, the others' below attempt-NNN/.

    Files of the run itself, such as report.html, come before those of an attempt.
    """
    found: dict[str, dict[int, dict[str, StoredFile]]] = {}
    for path, file in stored:
        if match := _OF_ATTEMPT.fullmatch(path):
            found.setdefault(match[3], {}).setdefault(int(match[1]), {})[match[2]] = file
        elif not path.startswith("attempt-"):
            found.setdefault(path.partition("/")[0], {}).setdefault(_OF_RUN, {})[path] = file
    shown: dict[str, StoredFile] = {}
    for attempts in found.values():
        newest = max(attempts)
        for attempt, files in attempts.items():
            prefix = "" if attempt == newest else f"attempt-{attempt:03d}/"
            shown |= {prefix + path: file for path, file in files.items()}
    return shown

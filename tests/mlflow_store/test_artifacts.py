"""Files of a job as MLflow's artifacts."""

from pathlib import Path

import pytest

pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'receipt-layoutlm[mlflow]'")

from mlflow.exceptions import MlflowException

from receipt_dynamo import DynamoClient, JobQueue, Storage
from receipt_layoutlm.mlflow_store.artifacts import StoredFile, TableArtifacts, shown_files
from receipt_layoutlm.storage.bucket import Bucket
from tests.support.jobs import submit

FILES = {
    "attempt-001/run.json": b"{}",
    "attempt-001/logs/train.log": b"first",
    "attempt-002/run.json": b'{"attempt": 2}',
    "attempt-002/logs/train.log": b"second",
    "attempt-002/best/model.safetensors": b"weights",
    "attempt-002/checkpoint-30/optimizer.safetensors": b"state",
    "report.html": b"<html>",
}


@pytest.fixture
def artifacts(cloud: DynamoClient, queue: JobQueue) -> TableArtifacts:
    job = submit(queue, storage=Storage(bucket="the-bucket", prefix="team/"))
    for path, data in FILES.items():
        Bucket("the-bucket").put_bytes(data, f"team/runs/{job.job_id}/{path}")
    return TableArtifacts(f"receipt-dynamodb://the-table/7/{job.job_id}/artifacts?region=us-east-1")


def listed(artifacts: TableArtifacts, path: str | None = None) -> dict[str, int | None]:
    return {file.path: file.file_size for file in artifacts.list_artifacts(path)}


def test_the_newest_attempt_comes_first_and_checkpoints_are_left_out(artifacts: TableArtifacts) -> None:
    assert listed(artifacts) == {"attempt-001": None, "best": None, "logs": None, "report.html": 6, "run.json": 14}
    assert listed(artifacts, "best") == {"best/model.safetensors": 7}
    assert listed(artifacts, "attempt-001") == {"attempt-001/logs": None, "attempt-001/run.json": 2}
    assert listed(artifacts, "best/model.safetensors") == {}


def test_files_and_folders_are_downloaded(artifacts: TableArtifacts, tmp_path: Path) -> None:
    assert Path(artifacts.download_artifacts("logs/train.log", str(tmp_path))).read_bytes() == b"second"
    assert Path(artifacts.download_artifacts("attempt-001/logs/train.log", str(tmp_path))).read_bytes() == b"first"
    folder = Path(artifacts.download_artifacts("best", str(tmp_path)))
    assert {path.name for path in folder.iterdir()} == {"model.safetensors"}


def test_what_is_not_there_is_missing_and_changes_are_refused(artifacts: TableArtifacts, tmp_path: Path) -> None:
    with pytest.raises(MlflowException, match="no artifact 'nothing") as missing:
        artifacts._download_file("nothing.txt", str(tmp_path / "nothing.txt"))
    assert missing.value.get_http_status_code() == 404
    for change in (artifacts.log_artifact, artifacts.log_artifacts, artifacts.delete_artifacts):
        with pytest.raises(MlflowException, match="is refused") as refusal:
            change(str(tmp_path))
        assert refusal.value.get_http_status_code() == 403


def test_one_repository_serves_every_job_of_a_table(artifacts: TableArtifacts) -> None:
    job_id = artifacts.artifact_uri.split("/")[4]
    proxied = TableArtifacts("receipt-dynamodb://the-table?region=us-east-1")
    assert [file.path for file in proxied.list_artifacts(f"7/{job_id}/artifacts/best")] == [
        f"7/{job_id}/artifacts/best/model.safetensors"
    ]
    assert proxied.list_artifacts("7") == []


def test_a_file_of_the_run_comes_before_one_of_an_attempt() -> None:
    stored = [(path, StoredFile(path, 1)) for path in ("attempt-003/report.html", "report.html", "attempt-x/odd")]
    assert {name: file.key for name, file in shown_files(stored).items()} == {
        "report.html": "report.html",
        "attempt-003/report.html": "attempt-003/report.html",
    }

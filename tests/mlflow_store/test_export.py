"""`job export --to mlflow`: ended jobs as runs of an MLflow that takes changes."""

from pathlib import Path

import pytest

pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'receipt-layoutlm[mlflow]'")

from mlflow.tracking import MlflowClient

from receipt_dynamo import DynamoClient, JobQueue
from receipt_layoutlm.storage.bucket import Bucket
from tests.mlflow_store.conftest import Ran
from tests.support.commands import ok, run
from tests.support.jobs import submit


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)  # a server without a place for artifacts keeps them in its folder
    return f"sqlite:///{tmp_path}/mlflow.db"


def test_an_ended_job_becomes_one_run_however_often_it_is_exported(
    ran: Ran, queue: JobQueue, cloud: DynamoClient, server: str
) -> None:
    job = ran("first", 0.5, 0.9, 0.8, colour="blue")
    Bucket("the-bucket").put_bytes(b"{}", f"runs/{job.job_id}/attempt-001/run.json")
    Bucket("the-bucket").put_bytes(b"weights", f"runs/{job.job_id}/attempt-001/best/model.safetensors")
    open_job = submit(queue, "open")
    assert "would export first" in ok("job", "export", "--to", "mlflow", server, "first", "--dry-run")
    assert ": exported" in ok("job", "export", "--to", "mlflow", server, "first")

    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("receipts")
    assert experiment is not None
    [exported] = client.search_runs([experiment.experiment_id])
    run_id = exported.info.run_id
    assert (exported.info.run_name, exported.info.status) == ("first", "FINISHED")
    assert exported.data.params["lr"] == "5e-05"
    assert exported.data.tags["colour"] == "blue"
    assert [point.value for point in client.get_metric_history(run_id, "f1")] == [0.5, 0.9, 0.8]
    assert [file.path for file in client.list_artifacts(run_id)] == ["run.json"]

    assert ": unchanged" in ok("job", "export", "--to", "mlflow", server, "first")
    client.delete_tag(run_id, "job.exported")  # as if the first export had broken off
    assert ": updated" in ok("job", "export", "--to", "mlflow", server, "first")
    assert len(client.search_runs([experiment.experiment_id])) == 1
    assert [point.value for point in client.get_metric_history(run_id, "f1")] == [0.5, 0.9, 0.8]

    refused = run("job", "export", "--to", "mlflow", server, open_job.job_id)
    assert refused.exit_code == 1
    assert "only jobs that have ended are exported" in refused.stderr


def test_a_place_that_is_no_mlflow_is_named(ran: Ran) -> None:
    ran("first", 0.5)
    refused = run("job", "export", "--to", "mlflow", "nowhere://x", "first")
    assert refused.exit_code == 1
    assert "nowhere://x is no MLflow that can be used" in refused.stderr

"""train --snapshot-on-worker as it is submitted: without pages, with everything else checked and pinned."""

import json
from pathlib import Path
from typing import Any

import pytest

from receipt_dynamo import DynamoClient
from receipt_layoutlm.config_documents import from_document
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.worker.admission import JobPolicy
from tests.support.commands import ok, run


def train(*arguments: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(ok("train", "--snapshot-on-worker", "--json", *arguments))
    return told


@pytest.fixture
def table(cloud: DynamoClient, pages: str) -> DynamoClient:
    ok("dataset", "load", pages)
    return cloud


def test_the_job_is_submitted_without_pages_and_its_worker_accepts_it(table: DynamoClient) -> None:
    told = train("--epochs", "3")

    job = table.get_job(told["job_id"])
    assert (job.job_config["dataset"], job.job_config["snapshot_on_worker"], told["plan"]) == (None, True, None)
    assert table.list_datasets() == []
    assert list(Bucket("the-bucket").list_keys("")) == []
    assert job.storage is not None
    JobPolicy.of_project([job.storage]).check(job, from_document(job.job_config))
    assert "snapshot to be taken by the worker" in ok("job", "show", "@last")
    assert "snapshot to be taken by the worker" in ok("train", "--snapshot-on-worker")


def test_without_the_flag_the_snapshot_is_taken_now(table: DynamoClient) -> None:
    told = json.loads(ok("train", "--split", "random", "--json"))
    assert told["job_config"]["dataset"].startswith("receipts@")


def test_what_else_the_job_names_is_pinned_at_submit(table: DynamoClient, pages: str, tmp_path: Path) -> None:
    ok("dataset", "import", "jsonl", pages, "--name", "held")
    held = table.get_dataset("held")
    assert train("--eval-dataset", "held")["job_config"]["eval_dataset"] == f"held@{held.fingerprint}"

    split = tmp_path / "split.json"
    split.write_text('{"validation": ["page-001"]}')
    named = train("--split", f"frozen:{split}")["job_config"]["split"]
    assert named.startswith("frozen:split.json@")
    assert list(Bucket("the-bucket").list_keys("splits/")) == [f"splits/{named.partition('@')[2]}.json"]


def test_a_dry_run_says_that_the_worker_will_know_and_writes_nothing(table: DynamoClient) -> None:
    told = json.loads(ok("train", "--snapshot-on-worker", "--dry-run", "--json"))
    assert (told["dataset"], told["plan"], told["config"]["snapshot_on_worker"]) == (None, None, True)
    assert "snapshot to be taken by the worker" in ok("train", "--snapshot-on-worker", "--dry-run")
    assert table.list_jobs() == []


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--dataset", "shop"], 2, "leave the dataset (flag) out"),
        (["--data", "FILE"], 2, "--snapshot-on-worker"),
        (["--output-s3-path", "s3://the-bucket/team"], 2, "leave --output-s3-path out"),
        (["--output-s3-path", "s3://other-bucket"], 2, "leave --output-s3-path out"),
    ],
)
def test_what_contradicts_it_is_refused(
    table: DynamoClient, pages: str, arguments: list[str], code: int, text: str, dry: list[str]
) -> None:
    result = run("train", "--snapshot-on-worker", *[pages if each == "FILE" else each for each in arguments], *dry)

    assert (result.exit_code, text in result.stderr) == (code, True), result.stderr
    assert table.list_jobs() == []


def test_a_dataset_of_the_environment_contradicts_it_too(table: DynamoClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYOUTLM_DATASET", "shop")
    assert "leave the dataset (environment) out" in run("train", "--snapshot-on-worker").stderr


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_table_without_valid_labels_is_refused_at_submit(cloud: DynamoClient, dry: list[str]) -> None:
    result = run("train", "--snapshot-on-worker", *dry)
    assert (result.exit_code, "dataset load --help" in result.stderr) == (1, True)
    assert cloud.list_jobs() == []

"""Jobs of a task from another package go through the real command line, worker and store like any other."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset
from receipt_layoutlm.local.process import wait_until
from tests.support.longer_text import install, text_pages
from tests.support.paths import ROOT
from tests.support.stores import Store

CLI = [sys.executable, "-m", "receipt_layoutlm.cli"]
OPTIONS = ["--task", "longer_text", "--dataset", "texts", "--hidden-size", "4", "--split", "random", "--lr", "0.02"]


@pytest.mark.engine
def test_a_job_is_submitted_interrupted_resumed_listed_and_compared(
    store: Store, dynamo_endpoint: str, s3_endpoint: str, table_name: str, tmp_path: Path
) -> None:
    install(tmp_path / "site")
    environment = os.environ | {
        "AWS_ENDPOINT_URL_DYNAMODB": dynamo_endpoint,
        "AWS_ENDPOINT_URL_S3": s3_endpoint,
        "DYNAMO_TABLE_NAME": table_name,
        "LAYOUTLM_TRAINING_BUCKET": store.bucket.name,
        "PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}",
    }
    pages = text_pages(60)
    client = store.queue.client
    add_snapshot(client, store.bucket, describe_dataset("texts", pages, "test", store.clock()), pages)

    def cli(*words: str) -> str:
        done = subprocess.run([*CLI, *words], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    worker = ["worker", "run", "--once", "--work-dir", str(tmp_path / "work")]
    long = json.loads(cli("train", *OPTIONS, "--job-name", "long", "--epochs", "400", "--json"))
    process = subprocess.Popen([*CLI, *worker], env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert wait_until(lambda: bool(client.list_job_metrics(long["job_id"])), 120)
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    assert client.get_job(long["job_id"]).status == "interrupted"
    cli(*worker)
    cli("train", *OPTIONS, "--job-name", "short", "--epochs", "2", "--json")
    cli(*worker)

    listed = {job["name"]: job for job in json.loads(cli("job", "list", "--json"))}
    assert {name: job["status"] for name, job in listed.items()} == {"long": "succeeded", "short": "succeeded"}
    assert listed["long"]["attempt"] == 2
    metrics = json.loads(cli("job", "metrics", "long", "--json"))
    assert len(metrics) == 400 and metrics[-1]["extras"]["accuracy"] == metrics[-1]["metric_value"]
    rows = json.loads(cli("job", "compare", "long", "short", "--json"))["runs"]
    assert [(row["name"], row["rank"]) for row in rows] == [("long", 1), ("short", 2)]
    assert "hidden_size=4" in cli("job", "show", "long")

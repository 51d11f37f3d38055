"""What commit b1c2137 stored, before the packages were divided into rooms: still listed, shown, resumed and finished.

The fixture was made by that commit with --local: a table's items, the objects of its bucket and the run directory of a
job that was stopped in mid-epoch, what its commands printed for these items, and the weights that it resumed to.
"""

import gzip
import hashlib
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load, load_file

from receipt_dynamo import DynamoClient, JobStatus
from receipt_layoutlm.cli import cli
from tests.support.paths import FIXTURES
from tests.support.places import Place
from tests.support.stores import open_store

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

TRAINER = "receipt_layoutlm.trainer"
FIXTURE = FIXTURES / "before_rooms"
EXPECTED = json.loads((FIXTURE / "expected.json").read_bytes())
UNTIL_NOW = frozenset({"wall_seconds", "waiting_seconds"})  # of a job that has not ended

# Bit-equal weights are a matter of one processor and one build of torch: another vector length adds in another order.
# Measured over these steps: up to 3e-8, with SSE4.2, AVX2 and AVX-512 kernels. The exact comparison of two commits on
# one machine is bench/same_weights.py.
TOLERANCE = 1e-5
# a bias of all keys shifts the scores of a query alike, which softmax takes out again: its gradient is rounding noise,
# which AdamW scales up to the learning rate
WITHOUT_GRADIENT = ".key.bias"

pytestmark = pytest.mark.engine


@pytest.fixture
def table(dynamo: "DynamoDBClient", make_table: Callable[[], str]) -> str:
    """A fresh table with the stored items."""
    name = make_table()
    for row in json.loads((FIXTURE / "rows.json").read_bytes()):
        dynamo.put_item(TableName=name, Item=row)
    return name


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return unpacked("run_dir.tar.gz", tmp_path / "run")


def unpacked(name: str, folder: Path) -> Path:
    with tarfile.open(FIXTURE / name) as archive:
        archive.extractall(folder, filter="data")
    return folder


def last_checkpoint(run_dir: Path) -> Path:
    return max(run_dir.glob("checkpoint-*"), key=lambda path: int(path.name.removeprefix("checkpoint-")))


def assert_expected_weights(found: dict[str, Any]) -> None:
    expected = load(gzip.decompress((FIXTURE / "expected_weights.safetensors.gz").read_bytes()))
    digests = {name: hashlib.sha256(tensor.tobytes()).hexdigest() for name, tensor in sorted(expected.items())}
    assert digests == EXPECTED["weights_sha256"]
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        if not name.endswith(WITHOUT_GRADIENT):
            np.testing.assert_allclose(found[name], tensor, rtol=0, atol=TOLERANCE, err_msg=name)


def assert_still_says(before: object, now: object, place: str) -> None:
    """Everything that was printed is printed still, more may stand beside it."""
    if isinstance(before, dict):
        assert isinstance(now, dict), place
        for key in before.keys() - UNTIL_NOW:
            assert_still_says(before[key], now[key], f"{place}.{key}")
    elif isinstance(before, list):
        assert isinstance(now, list) and len(now) == len(before), place
        for number, pair in enumerate(zip(before, now, strict=True)):
            assert_still_says(*pair, f"{place}[{number}]")
    else:
        assert now == before, place


@pytest.mark.parametrize("command", EXPECTED["answers"])
def test_the_commands_print_what_they_printed(
    command: str, table: str, dynamo_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", dynamo_endpoint)

    result = CliRunner().invoke(cli, ["job", *command.split(), "--json", "--dynamo-table", table])

    assert result.exit_code == 0, result.output
    assert_still_says(EXPECTED["answers"][command], json.loads(result.stdout), command)


def test_every_stored_item_is_read(table: str, dynamo_endpoint: str) -> None:
    client = DynamoClient(table, endpoint_url=dynamo_endpoint)

    found = {status: client.list_jobs_by_status(status) for status in ("succeeded", "interrupted", "failed")}

    assert {status: [job.name for job in jobs] for status, jobs in found.items()} == {
        "succeeded": ["finished"],
        "interrupted": ["stopped"],
        "failed": ["broken"],
    }
    jobs = [job for each in found.values() for job in each]
    attempts = [attempt for job in jobs for attempt in client.list_attempts(job.job_id)]
    metrics = [metric for job in jobs for metric in client.list_all_job_metrics(job.job_id)]
    logs = [log for job in jobs for log in client.list_job_logs(job.job_id)]
    leases = [client.get_lease(job.job_id) for job in jobs]
    rows = len(jobs) + len(attempts) + len(metrics) + len(logs) + len(leases) + len(client.list_datasets())
    assert rows == len(json.loads((FIXTURE / "rows.json").read_bytes()))


def test_the_run_directory_is_resumed_to_the_same_weights(run_dir: Path) -> None:
    command = [sys.executable, "-m", TRAINER, str(run_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as trainer:
        assert trainer.wait(timeout=200) == 0

    checkpoint = last_checkpoint(run_dir)
    state = json.loads((checkpoint / "state.json").read_bytes())
    assert state["global_step"] == EXPECTED["last_step"]
    assert state["config_hash"] == EXPECTED["config_hash"]
    assert_expected_weights(load_file(checkpoint / "model.safetensors"))


def test_a_worker_finishes_the_interrupted_job(
    table: str, dynamo_endpoint: str, bucket: str, s3: "S3Client", s3_endpoint: str, tmp_path: Path
) -> None:
    objects = unpacked("objects.tar.gz", tmp_path / "objects")
    for path in filter(Path.is_file, objects.rglob("*")):
        s3.upload_file(str(path), bucket, str(path.relative_to(objects)))
    store = open_store(table, dynamo_endpoint, bucket, s3_endpoint)
    store.clock.time = datetime(2027, 1, 1, tzinfo=UTC)  # after all that is stored
    place = Place(store, tmp_path / "work")

    assert place.work() is JobStatus.SUCCEEDED

    job_id = EXPECTED["job_id"]
    attempts = store.queue.client.list_attempts(job_id)
    assert [attempt.resume_step for attempt in attempts] == [0, EXPECTED["resumed_from"]]
    prefix = f"runs/{job_id}/attempt-002/checkpoint-{EXPECTED['last_step']}/model.safetensors"
    s3.download_file(bucket, prefix, str(tmp_path / "model.safetensors"))
    assert_expected_weights(load_file(tmp_path / "model.safetensors"))

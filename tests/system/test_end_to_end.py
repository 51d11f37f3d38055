"""The whole system as a person runs it: commands in processes of their own, the embedded AWS, a real trainer."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.local.aws import LOCAL_TABLE, environment, start_engines
from receipt_layoutlm.paths import state_dir
from tests.support.frozen_queries import SNIPPET
from tests.support.tiny import tiny_layoutlm

pytestmark = pytest.mark.engine

CLI = [sys.executable, "-m", "receipt_layoutlm.cli", "--local"]


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(tiny_layoutlm(tmp_path / "tiny", generate_pages(12, seed=0)))


@pytest.fixture
def train(model: str, tmp_path: Path) -> Callable[..., list[str]]:
    """The words of a train command that a tiny model makes short."""
    assert cli("dataset", "import", "sample", "--pages", "12").returncode == 0

    def words(*more: str) -> list[str]:
        work_dir = str(tmp_path / "work")
        return ["train", "--pretrained", model, "--device", "cpu", "--batch-size", "4", "--work-dir", work_dir, *more]

    return words


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLI, *arguments], capture_output=True, text=True, timeout=200, check=False)


def only_job() -> dict:  # type: ignore[type-arg]
    (job,) = json.loads(cli("job", "list", "--json").stdout)
    return job  # type: ignore[no-any-return]


def test_a_job_submitted_in_one_process_is_worked_in_another_and_queried_in_a_third(
    train: Callable[..., list[str]], tmp_path: Path
) -> None:
    submitted = cli(*train("--job-name", "nightly", "--epochs", "2", "--merge-amounts", "--o-entity-ratio", "0.5"))
    assert submitted.returncode == 0, submitted.stderr

    worked = cli("worker", "run", "--once")

    assert worked.returncode == 0, worked.stderr
    assert "1 job succeeded" in worked.stdout
    for words in ("training pages", "parameters", "trainable", "AMOUNT", "epoch 1.00", "epoch 2.00", "finished"):
        assert words in worked.stderr
    metrics = json.loads(cli("job", "metrics", "nightly", "--json").stdout)
    assert [metric["epoch"] for metric in metrics] == [1.0, 2.0]
    assert all(metric["o_entity_ratio"] == pytest.approx(0.5, rel=0.1) for metric in metrics)

    shown = json.loads(cli("job", "show", "nightly", "--json").stdout)
    assert shown["report_uri"].endswith("/attempt-001/report.html")  # made by the worker when the job had its state

    folder = state_dir(os.environ)
    start_engines(folder)
    names = {**os.environ, **environment(folder, os.environ)}
    snippet = SNIPPET.replace("ReceiptsTable-dc5be22", LOCAL_TABLE)
    told = subprocess.run([sys.executable, "-c", snippet], env=names, capture_output=True, text=True, check=True)
    assert told.stdout.startswith("nightly: succeeded\n  Config: {")
    assert f"Best F1: {max(metric['metric_value'] for metric in metrics)}" in told.stdout

    pulled = cli("job", "pull", "@last", "--to", str(tmp_path / "best"))
    assert pulled.returncode == 0, pulled.stderr
    load = "import sys; from transformers import AutoModelForTokenClassification as A, AutoTokenizer as T"
    load += "; m = A.from_pretrained(sys.argv[1]); T.from_pretrained(sys.argv[1]); print(sorted(m.config.label2id))"
    loaded = subprocess.run(
        [sys.executable, "-c", load, str(tmp_path / "best")], capture_output=True, text=True, check=True
    )
    assert "B-AMOUNT" in loaded.stdout


def test_run_here_works_the_job_in_the_foreground(train: Callable[..., list[str]]) -> None:
    result = cli(*train("--epochs", "1", "--run-here"))

    assert result.returncode == 0, result.stderr
    assert only_job()["status"] == "succeeded"


def test_a_job_that_cannot_work_is_exit_code_100_with_the_reason(
    train: Callable[..., list[str]], tmp_path: Path
) -> None:
    other = tmp_path / "other-model"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "gpt2"}')
    result = cli(*train("--pretrained", str(other), "--epochs", "1", "--run-here"))

    assert result.returncode == 100, result.stderr
    error = only_job()["error"]
    assert error["cause"] == "bad_config"
    assert error["message"] in result.stderr


def test_ctrl_c_writes_a_checkpoint_and_gives_the_job_back(train: Callable[..., list[str]]) -> None:
    assert cli(*train("--epochs", "60")).returncode == 0
    worker = subprocess.Popen([*CLI, "worker", "run"], stderr=subprocess.PIPE, text=True)
    assert worker.stderr is not None
    for line in worker.stderr:
        if line.startswith("epoch 1.00"):
            break

    worker.send_signal(signal.SIGINT)
    rest = worker.stderr.read()

    assert worker.wait(120) == 0, rest
    assert "it was asked to stop" in rest
    job = only_job()
    assert job["status"] == "interrupted"
    (attempt,) = json.loads(cli("job", "show", job["job_id"], "--json").stdout)["attempts"]
    assert attempt["outcome"].startswith("interrupted")
    assert attempt["lost_steps"] == 0


def test_wait_follows_a_job_that_another_process_works(train: Callable[..., list[str]]) -> None:
    waiting = subprocess.Popen([*CLI, *train("--epochs", "1", "--wait")], stdout=subprocess.PIPE, text=True)
    assert waiting.stdout is not None
    for line in waiting.stdout:  # it is submitted once its next commands are shown
        if line.startswith("next:"):
            break

    assert cli("worker", "run", "--once").returncode == 0
    rest = waiting.stdout.read()

    assert waiting.wait(60) == 0
    assert "succeeded" in rest

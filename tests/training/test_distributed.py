"""Several processes that train one run: real ones, over torch.distributed, on the CPU."""

import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from receipt_layoutlm.local.process import wait_until
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Evaluation, Failed, Finished
from receipt_layoutlm.run.record import RunRecord
from receipt_layoutlm.training.checkpoint import read_checkpoint
from receipt_layoutlm.training.loop import train
from receipt_layoutlm.training.tasks.word_labels.inputs.epoch import fair_shares
from tests.support.runs import checkpoint_steps, continued, events_of, never, new_run, tiny_model, untimed

# seven training windows: six in the first optimizer step of an epoch, and one in the second, so that of three
# processes two have nothing to train on there
OPTIONS: dict[str, object] = {
    "epochs": 2,
    "batch_size": 2,
    "tokens_per_batch": 40,
    "gradient_accumulation_steps": 3,
    "lr": 0.01,
    "o_entity_ratio": 1.0,
    "class_weights": "sqrt-inverse",
    "val_ratio": 0.5,
    "test_ratio": 0.1,
    "train_ratio": 0.4,
    "eval_every": 1,
    "eval_batch_size": 2,
    "threads": 1,
}
PAGES = 18
ENDLESS = OPTIONS | {"epochs": 10_000, "processes": 2, "eval_every": "epoch"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


def command(run_dir: RunDir, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "receipt_layoutlm.training", str(run_dir.path), *arguments]


def trained(run_dir: RunDir, *arguments: str) -> int:
    """By the trainer as a worker starts it."""
    with run_dir.train_log.open("ab") as log:
        process = subprocess.Popen(command(run_dir, *arguments), stdin=subprocess.PIPE, stdout=log, stderr=log)
        return process.wait(300)


def end_of(run_dir: RunDir) -> Finished | Failed:
    end = events_of(run_dir)[-1]
    assert isinstance(end, Finished | Failed), run_dir.train_log.read_text()
    return end


def weights(run_dir: RunDir) -> torch.Tensor:
    snapshot = read_checkpoint(run_dir.checkpoint(max(checkpoint_steps(run_dir))))
    return torch.cat([tensor.flatten() for _, tensor in sorted(snapshot.weights.items())])


def evaluations(run_dir: RunDir) -> list[Evaluation]:
    return read_checkpoint(run_dir.checkpoint(max(checkpoint_steps(run_dir)))).state.evaluations


@pytest.mark.engine
def test_a_team_takes_the_steps_that_one_process_takes(model: Path, tmp_path: Path) -> None:
    alone = new_run(tmp_path / "alone", model, PAGES, **OPTIONS, dropout=0.0)
    team = new_run(tmp_path / "team", model, PAGES, **OPTIONS, dropout=0.0, processes=3)
    train(alone, never)
    assert trained(team) == 0, team.train_log.read_text()
    torch.testing.assert_close(
        weights(team), weights(alone), rtol=0, atol=1e-4
    )  # Adam magnifies what sums in another order differ by
    for one, other in zip(evaluations(alone), evaluations(team), strict=True):
        assert other.eval_loss == pytest.approx(one.eval_loss, abs=1e-4)
        assert other.train_loss == pytest.approx(one.train_loss, abs=1e-4)
        assert [other.scores[name] for name in ("f1", "o_entity_ratio")] == [
            one.scores[name] for name in ("f1", "o_entity_ratio")
        ]
        assert other.breakdowns["seen"] == one.breakdowns["seen"]
    assert [type(event) for event in events_of(team)].count(Evaluation) == len(evaluations(alone))
    assert (team.predictions / "test.jsonl.gz").exists() and team.best.is_dir()
    assert checkpoint_steps(RunDir(team.path / "rank-1")) == []
    assert RunRecord.model_validate_json(team.run_json.read_bytes()).hardware.processes == 3


@pytest.mark.engine
def test_a_team_that_was_stopped_goes_on_to_the_same_weights(model: Path, tmp_path: Path) -> None:
    options = OPTIONS | {"dropout": 0.3, "processes": 2, "augment": ["boxes"]}
    whole, first = (new_run(tmp_path / name, model, PAGES, **options) for name in ("whole", "first"))
    assert trained(whole) == trained(first, "2") == 0
    stopped = end_of(first)
    assert isinstance(stopped, Finished) and (stopped.reason, stopped.global_step) == ("stop_requested", 2)
    second = continued(first, tmp_path / "second")
    assert trained(second) == 0
    assert torch.equal(weights(second), weights(whole))
    assert untimed(evaluations(second)) == untimed(evaluations(whole))


@pytest.mark.engine
def test_torchrun_may_start_the_team(model: Path, tmp_path: Path) -> None:
    alone, team = (new_run(tmp_path / name, model, PAGES, **OPTIONS, dropout=0.0) for name in ("alone", "team"))
    train(alone, never)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    with team.train_log.open("ab") as log:
        words = [*torchrun, *command(team)[1:]]
        assert subprocess.Popen(words, stdin=subprocess.PIPE, stdout=log, stderr=log).wait(300) == 0
    torch.testing.assert_close(
        weights(team), weights(alone), rtol=0, atol=1e-4
    )  # Adam magnifies what sums in another order differ by


def start_endless(run_dir: RunDir) -> "subprocess.Popen[bytes]":
    with run_dir.train_log.open("ab") as log:
        process = subprocess.Popen(command(run_dir), stdin=subprocess.PIPE, stdout=log, stderr=log)
    wait_until(lambda: bool(checkpoint_steps(run_dir)) or process.poll() is not None, 200)
    assert checkpoint_steps(run_dir), run_dir.train_log.read_text()
    return process


@pytest.mark.engine
def test_a_stop_ends_the_team_in_order(model: Path, tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "1", model, PAGES, **ENDLESS)
    process = start_endless(run_dir)
    process.terminate()
    assert process.wait(120) == 0
    end = end_of(run_dir)
    assert isinstance(end, Finished) and end.reason == "stop_requested"
    assert max(checkpoint_steps(run_dir)) == end.global_step


@pytest.mark.engine
def test_the_loss_of_a_process_ends_the_team(model: Path, tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "1", model, PAGES, **ENDLESS)
    process = start_endless(run_dir)
    (rank_1,) = (child for child in psutil.Process(process.pid).children(recursive=True) if rank_of(child) == "1")
    rank_1.kill()
    assert process.wait(120) == 1
    assert re.search(r"rank +: 1 .*\n +exitcode +: -9", run_dir.train_log.read_text())


@pytest.mark.engine
def test_the_end_of_stdin_ends_every_rank(model: Path, tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "1", model, PAGES, **ENDLESS)
    process = start_endless(run_dir)
    ranks = [child for child in psutil.Process(process.pid).children(recursive=True) if rank_of(child) is not None]
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(120) == 1
    assert len(ranks) == 2 and wait_until(lambda: not any(rank.is_running() for rank in ranks), 60)


@pytest.mark.engine
def test_a_save_on_request_is_made_by_rank_0_and_training_continues(model: Path, tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "1", model, PAGES, **ENDLESS | {"eval_every": 10_000, "checkpoint_every": 10_000})
    with run_dir.train_log.open("ab") as log:
        process = subprocess.Popen(command(run_dir), stdin=subprocess.PIPE, stdout=log, stderr=log)
    process.send_signal(signal.SIGUSR1)  # long before a rank reads signals
    assert wait_until(lambda: bool(checkpoint_steps(run_dir)), 200), run_dir.train_log.read_text()
    process.terminate()
    assert process.wait(120) == 0
    end = end_of(run_dir)
    assert isinstance(end, Finished) and end.global_step > min(checkpoint_steps(run_dir))


def rank_of(process: psutil.Process) -> str | None:
    with suppress(psutil.Error):
        return process.environ().get("RANK")
    return None


@given(st.lists(st.integers(1, 512), max_size=40), st.integers(1, 5))
def test_shares_are_disjoint_whole_and_differ_by_one_window_at_most(lengths: list[int], count: int) -> None:
    shares = fair_shares(lengths, count)
    assert sorted(place for share in shares for place in share) == list(range(len(lengths)))
    tokens = [sum(lengths[place] for place in share) for share in shares]
    assert max(tokens) - min(tokens) <= max(lengths, default=0)

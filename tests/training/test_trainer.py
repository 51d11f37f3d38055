"""A run trains, says what it does, stops when asked, and ends the same however often it was interrupted."""

import gzip
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification

from receipt_layoutlm.local.process import wait_until
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Checkpoint, Evaluation, EventReader, Failed, Finished, Log, Progress, Started
from receipt_layoutlm.run.record import RunRecord
from receipt_layoutlm.training.checkpoint import read_checkpoint
from receipt_layoutlm.training.loop import train
from tests.support.runs import (
    PAGES,
    StopAfter,
    checkpoint_steps,
    continued,
    events_of,
    never,
    new_run,
    tiny_model,
    untimed,
)

# six training windows in three steps an epoch; each step has two micro-batches of one window
EXACT = {
    "epochs": 3,
    "batch_size": 1,
    "gradient_accumulation_steps": 2,
    "lr": 0.01,
    "o_entity_ratio": 1.0,
    "label_smoothing": 0.1,
    "eval_every": 2,
    "eval_batch_size": 2,
    "dropout": 0.2,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def finished_run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run that learned its pages; tests only read it."""
    run_dir = new_run(tmp_path_factory.mktemp("run") / "1", model, pages=40, epochs=12, lr=0.01, logging_steps=1)
    assert isinstance(train(run_dir, never), Finished)
    return run_dir


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, int]:
    """An uninterrupted run of the EXACT options, and how often it asked for the stop flag."""
    run_dir = new_run(tmp_path_factory.mktemp("whole") / "1", model, **EXACT)
    count = StopAfter(10**9)
    assert isinstance(train(run_dir, count), Finished)
    return run_dir, count.asked


def outcome(run_dir: RunDir) -> tuple[dict[str, list[float]], list[Evaluation]]:
    """Final weights and evaluation history of the newest checkpoint."""
    folder = run_dir.checkpoint(max(checkpoint_steps(run_dir)))
    weights = {name: value.flatten().tolist() for name, value in load_file(folder / "model.safetensors").items()}
    return weights, untimed(read_checkpoint(folder).state.evaluations)


def evaluations_of(run_dir: RunDir) -> list[Evaluation]:
    return [event for event in events_of(run_dir) if isinstance(event, Evaluation)]


PARENT = "6f6a1c1e-8f57-5d2a-9f0e-2c7a1f0f3b11@9"


class Clock:
    """Each look at it is `seconds` later than the last."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 0.0

    def __call__(self) -> float:
        self.now += self.seconds
        return self.now


# a run from its beginning to its end


def test_a_run_learns_and_says_so(finished_run: RunDir) -> None:
    events = events_of(finished_run)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    end = events[-1]
    assert isinstance(end, Finished)
    assert (end.reason, end.global_step) == ("completed", 12 * 3)
    assert end.best_metric_value is not None and end.best_metric_value > 0.9
    (started,) = (event for event in events if isinstance(event, Started))
    assert (started.train_pages, started.eval_pages, started.total_steps) == (20, 20, 36)
    assert set(started.label_counts) == {"DATE", "GRAND_TOTAL"}
    assert 0 < started.trainable_parameters < started.parameters


def test_each_epoch_is_evaluated_and_each_evaluation_followed_by_its_checkpoint(finished_run: RunDir) -> None:
    told = [event for event in events_of(finished_run) if isinstance(event, Evaluation | Checkpoint)]
    evaluations = [event for event in told if isinstance(event, Evaluation)]
    checkpoints = [event for event in told if isinstance(event, Checkpoint)]
    assert checkpoint_steps(finished_run) == list(range(3, 37, 3))
    for evaluation, checkpoint in zip(evaluations, checkpoints, strict=True):
        assert evaluation.global_step == checkpoint.global_step
        assert evaluation.is_best == checkpoint.is_best
        assert told.index(evaluation) < told.index(checkpoint)  # it is written while training goes on


def test_an_evaluation_carries_headline_labels_and_losses(finished_run: RunDir) -> None:
    last = evaluations_of(finished_run)[-1]
    assert last.metric_name == "eval_f1"
    assert set(last.per_label) == {"DATE", "GRAND_TOTAL"}
    assert last.train_loss is not None and 0 < last.train_loss < evaluations_of(finished_run)[0].train_loss
    assert last.eval_loss > 0 and 0 < last.lr < 0.01
    assert sum(last.predicted_labels.values()) == sum(sum(row.values()) for row in last.confusion.values())


def test_the_best_is_the_first_of_the_highest_scores(finished_run: RunDir) -> None:
    evaluations = evaluations_of(finished_run)
    end = events_of(finished_run)[-1]
    assert isinstance(end, Finished)
    first_of_highest = max(evaluations, key=lambda e: (e.metric_value, -e.global_step))
    assert end.best_global_step == first_of_highest.global_step
    best = AutoModelForTokenClassification.from_pretrained(finished_run.best)
    weights = load_file(finished_run.checkpoint(first_of_highest.global_step) / "model.safetensors")
    assert torch.equal(best.classifier.weight, weights["classifier.weight"])
    assert best.config.id2label[0] == "O"


def test_predictions_are_kept_of_the_best_and_the_last_evaluation(finished_run: RunDir) -> None:
    end = events_of(finished_run)[-1]
    assert isinstance(end, Finished)
    names = {f"eval-{step}.jsonl.gz" for step in (end.best_global_step, end.global_step)}
    assert {path.name for path in finished_run.predictions.iterdir()} == names
    with gzip.open(finished_run.predictions / f"eval-{end.global_step}.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == 20
    assert all(len(row["words"]) == len(row["true"]) == len(row["predicted"]) for row in rows)


def test_run_json_holds_the_whole_history(finished_run: RunDir) -> None:
    record = RunRecord.model_validate_json(finished_run.run_json.read_bytes())
    assert untimed(list(record.evaluations)) == untimed(evaluations_of(finished_run))
    assert record.dataset.train_pages == 20
    assert {"python", "torch", "transformers"} <= set(record.versions)
    assert record.summary is not None
    assert (record.summary.stop_reason, record.summary.global_step) == ("completed", 36)
    assert record.summary.cpu_seconds > 0


def test_equal_runs_end_equal(model: Path, whole: tuple[RunDir, int], tmp_path: Path) -> None:
    again = new_run(tmp_path / "1", model, **EXACT)
    train(again, never)
    assert outcome(again) == outcome(whole[0])


def test_cutting_a_step_into_micro_batches_changes_nothing_but_rounding(model: Path, tmp_path: Path) -> None:
    losses = []
    for size in (6, 2, 1):
        cut = {"batch_size": size, "gradient_accumulation_steps": 6 // size, "dropout": 0.0, "eval_every": 1}
        run_dir = new_run(tmp_path / str(size), model, **EXACT | cut)
        train(run_dir, never)
        losses.append(evaluations_of(run_dir)[-1].eval_loss)
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-5)


def test_the_achieved_ratio_of_o_words_is_recorded(whole: tuple[RunDir, int], finished_run: RunDir) -> None:
    assert all(
        evaluation.scores["o_entity_ratio"] == pytest.approx(1.0, rel=0.1) for evaluation in evaluations_of(whole[0])
    )
    unlimited = {evaluation.scores["o_entity_ratio"] for evaluation in evaluations_of(finished_run)}
    assert len(unlimited) == 1 and unlimited != {None}


# ends


def test_patience_ends_a_run_that_gets_no_better(model: Path, tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "1", model, epochs=9, lr=1e-12, early_stopping_patience=2)
    end = train(run_dir, never)
    assert isinstance(end, Finished)
    assert end.reason == "early_stopped"
    assert [evaluation.is_best for evaluation in evaluations_of(run_dir)] == [True, False, False]


def test_numbers_that_explode_fail_with_their_pages(model: Path, tmp_path: Path) -> None:
    end = train(new_run(tmp_path / "1", model, lr=1e38, batch_size=2, warmup_ratio=0), never)
    assert isinstance(end, Failed)
    assert end.cause == "non_finite_loss"
    assert 1 <= len(end.page_ids) <= 2
    record = RunRecord.model_validate_json((tmp_path / "1" / "run.json").read_bytes())
    assert record.summary is not None and record.summary.stop_reason == "non_finite_loss"


def test_a_damaged_snapshot_fails_as_bad_data(model: Path, tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "1", model)
    run_dir.dataset.write_bytes(run_dir.dataset.read_bytes()[:-20])
    end = train(run_dir, never)
    assert isinstance(end, Failed) and end.cause == "bad_data"


@pytest.mark.parametrize(
    "options", [{"allowed_labels": ["GRAND_TOTLA"]}, {"layers": 3}, {"pretrained": "/no/such/folder"}], ids=str
)
def test_options_that_cannot_be_meant_fail_as_bad_config(
    model: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    end = train(new_run(tmp_path / "1", **{"pretrained": model, **options}), never)
    assert isinstance(end, Failed) and end.cause == "bad_config"
    assert events_of(RunDir(tmp_path / "1"))[-1].kind == "failed"


def test_odd_labels_and_a_collapse_are_said(model: Path, tmp_path: Path) -> None:
    run_dir = new_run(
        tmp_path / "1", model, epochs=1, lr=1e-12, allowed_labels=["DATE", "TAX"], label_merges={"O": ["GRAND_TOTAL"]}
    )
    train(run_dir, never)
    warned = {event.event: event.message for event in events_of(run_dir) if isinstance(event, Log)}
    assert "TAX" in warned["labels_without_examples"]
    assert "GRAND_TOTAL" in warned["merge_drops"]
    assert ("collapsed" in warned) == evaluations_of(run_dir)[-1].collapsed


# rhythm


def test_checkpoints_are_also_written_by_the_clock(model: Path, tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "1", model, epochs=2, batch_size=1, checkpoint_every=5)
    train(run_dir, never, Clock(seconds=1.0))
    evaluated = {evaluation.global_step for evaluation in evaluations_of(run_dir)}
    assert evaluated == {6, 12}
    assert evaluated < set(checkpoint_steps(run_dir)) != set(range(1, 13))


def test_progress_is_told_at_most_once_a_second(model: Path, tmp_path: Path) -> None:
    for name, seconds in (("slow", 1.5), ("fast", 0.001)):
        train(new_run(tmp_path / name, model, epochs=2, batch_size=1, logging_steps=1), never, Clock(seconds))
    told = {
        name: [event.phase for event in events_of(RunDir(tmp_path / name)) if isinstance(event, Progress)]
        for name in ("slow", "fast")
    }
    assert told["slow"].count("train") == 12
    assert len(told["fast"]) == 1


def test_a_checkpoint_that_is_asked_for_is_written_and_training_goes_on(model: Path, tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "1", model, **EXACT)
    asked = iter([False] * 3 + [True] + [False] * 1000)
    end = train(run_dir, never, save_now=lambda: next(asked))
    assert isinstance(end, Finished) and end.reason == "completed"
    evaluated = {evaluation.global_step for evaluation in evaluations_of(run_dir)}
    assert set(checkpoint_steps(run_dir)) - evaluated == {3}


def test_a_run_can_be_told_to_stop_after_a_step(model: Path, whole: tuple[RunDir, int], tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "1", model, **EXACT)
    end = train(run_dir, never, until=5)
    assert isinstance(end, Finished) and (end.reason, end.global_step) == ("stop_requested", 5)
    second = continued(run_dir, tmp_path / "2")
    train(second, never)
    assert outcome(second) == outcome(whole[0])


def test_seconds_are_counted_by_phase(finished_run: RunDir) -> None:
    end = events_of(finished_run)[-1]
    assert isinstance(end, Finished)
    assert set(end.phase_seconds) == {"start", "encode", "train", "evaluate", "checkpoint"}
    written = [event for event in events_of(finished_run) if isinstance(event, Checkpoint)]
    assert all(event.size > 1000 and event.write_seconds > 0 for event in written)
    assert written[0].phase_seconds["train"] < written[-1].phase_seconds["train"] <= end.phase_seconds["train"]


# a run that goes on from another one's checkpoint


def test_more_epochs_go_on_from_the_whole_state_of_a_finished_run(
    model: Path, whole: tuple[RunDir, int], tmp_path: Path
) -> None:
    longer = continued(whole[0], tmp_path / "2")
    options = EXACT | {"epochs": 5, "continues": PARENT}
    longer.config.write_text(new_run(tmp_path / "3", model, **options).config.read_text())
    end = train(longer, never)
    assert isinstance(end, Finished) and (end.reason, end.global_step) == ("completed", 15)
    history = outcome(longer)[1]
    assert history[: len(outcome(whole[0])[1])] == outcome(whole[0])[1]
    assert evaluations_of(longer)[0].global_step == 10


def test_another_rate_is_not_a_continuation(model: Path, whole: tuple[RunDir, int], tmp_path: Path) -> None:
    other = continued(whole[0], tmp_path / "2")
    options = EXACT | {"epochs": 5, "continues": PARENT, "lr": 0.5}
    other.config.write_text(new_run(tmp_path / "3", model, **options).config.read_text())
    end = train(other, never)
    assert isinstance(end, Failed) and end.cause == "bad_config"


# interruption


def test_a_stop_before_the_first_step_leaves_nothing_to_go_on_from(model: Path, tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "1", model)
    end = train(run_dir, StopAfter(PAGES // 2))
    assert isinstance(end, Finished)
    assert (end.reason, end.global_step) == ("stop_requested", 0)
    assert checkpoint_steps(run_dir) == []


def interrupted(model: Path, folder: Path, questions: int) -> Iterator[RunDir]:
    """Attempts that are each stopped after so many questions, until one ends by itself."""
    run_dir = new_run(folder / "0", model, **EXACT)
    for number in range(1, 60):
        end = train(run_dir, StopAfter(questions))
        yield run_dir
        assert isinstance(end, Finished)
        if end.reason != "stop_requested":
            return
        run_dir = continued(run_dir, folder / str(number))
    raise AssertionError("the run never ended")


# an attempt asks PAGES times in encoding and thrice in loading; with fewer than five more it finishes no evaluation
@pytest.mark.parametrize("extra", [5, 6, 7, 8, 12])
def test_a_run_interrupted_again_and_again_ends_bit_for_bit_the_same(
    model: Path, whole: tuple[RunDir, int], tmp_path: Path, extra: int
) -> None:
    attempts = list(interrupted(model, tmp_path, PAGES + 3 + extra))
    assert len(attempts) > 1
    assert outcome(attempts[-1]) == outcome(whole[0])


def test_patience_counts_on_over_interruptions(model: Path, tmp_path: Path) -> None:
    impatient = EXACT | {"early_stopping_patience": 2, "lr": 1e-9, "epochs": 9}
    straight = new_run(tmp_path / "straight", model, **impatient)
    end = train(straight, never)
    assert isinstance(end, Finished) and end.reason == "early_stopped"
    run_dir = new_run(tmp_path / "0", model, **impatient)
    for step in range(1, end.global_step):
        train(run_dir, never, until=step)
        run_dir = continued(run_dir, tmp_path / str(step))
    train(run_dir, never)
    assert outcome(run_dir) == outcome(straight)


@pytest.mark.parametrize("stride", [9, pytest.param(1, marks=pytest.mark.long)])
def test_a_stop_at_any_question_ends_the_same_after_one_continuation(
    model: Path, whole: tuple[RunDir, int], tmp_path: Path, stride: int
) -> None:
    run_dir, questions = whole
    for asked in range(PAGES + 2, questions, stride):
        first = new_run(tmp_path / f"{asked}-a", model, **EXACT)
        train(first, StopAfter(asked))
        second = continued(first, tmp_path / f"{asked}-b")
        train(second, never)
        assert outcome(second) == outcome(run_dir), asked


def test_an_evaluation_that_was_stopped_is_due_and_comes_first(model: Path, tmp_path: Path) -> None:
    first = new_run(tmp_path / "1", model, epochs=1, batch_size=6, eval_batch_size=1)
    train(first, StopAfter(PAGES + 2 + 2 + 3))  # one step, then three of six evaluation batches
    assert evaluations_of(first) == []
    assert read_checkpoint(first.checkpoint(1)).state.evaluation_due
    second = continued(first, tmp_path / "2")
    end = train(second, never)
    assert isinstance(end, Finished) and end.reason == "completed"
    assert [evaluation.global_step for evaluation in evaluations_of(second)] == [1]
    assert not read_checkpoint(second.checkpoint(1)).state.evaluation_due
    assert (second.path / "resumed-from-checkpoint-1").is_dir()


def test_a_finished_run_that_is_started_again_only_says_that_it_is_finished(
    whole: tuple[RunDir, int], tmp_path: Path
) -> None:
    again = continued(whole[0], tmp_path / "2")
    end = train(again, never)
    assert isinstance(end, Finished) and end.reason == "completed"
    assert evaluations_of(again) == []
    assert checkpoint_steps(again) == [9]


def test_a_checkpoint_of_another_run_is_refused(model: Path, whole: tuple[RunDir, int], tmp_path: Path) -> None:
    again = continued(whole[0], tmp_path / "2")
    again.config.write_text(new_run(tmp_path / "3", model, **EXACT | {"lr": 0.5}).config.read_text())
    end = train(again, never)
    assert isinstance(end, Failed) and end.cause == "bad_config"


def test_another_micro_batch_may_continue_a_run(model: Path, whole: tuple[RunDir, int], tmp_path: Path) -> None:
    again = continued(whole[0], tmp_path / "2")
    options = EXACT | {"batch_size": 2, "gradient_accumulation_steps": 1, "checkpoint_every": 1}
    again.config.write_text(new_run(tmp_path / "3", model, **options).config.read_text())
    assert isinstance(train(again, never), Finished)


# the process


def child(run_dir: RunDir, *before: str) -> subprocess.Popen[str]:
    command = [*before, sys.executable, "-m", "receipt_layoutlm.training", str(run_dir.path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.engine
def test_sigterm_ends_the_process_in_order(model: Path, tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "1", model, epochs=100_000)
    with child(run_dir, "env") as process:  # a cold start
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("epoch"))
        process.terminate()
        assert "it was asked to stop" in process.stdout.read()
        assert process.wait() == 0
    end = events_of(run_dir)[-1]
    assert isinstance(end, Finished) and end.reason == "stop_requested"
    assert line.split()[4] == "eval_f1"
    assert max(checkpoint_steps(run_dir)) == end.global_step


@pytest.mark.engine
def test_the_process_ends_when_whoever_started_it_is_gone(model: Path, tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "1", model, epochs=100_000)
    with child(run_dir) as process:
        assert process.stdout is not None and process.stdin is not None
        next(line for line in process.stdout if line.startswith("epoch"))
        process.stdin.close()
        process.stdout.read()
        assert process.wait() == 70
    assert not any(isinstance(event, Finished | Failed) for event in events_of(run_dir))


@pytest.mark.engine
def test_sigusr1_writes_a_checkpoint_and_the_run_goes_on(model: Path, tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "1", model, epochs=100_000, eval_every=200, logging_steps=1)
    reader = EventReader(run_dir.events)
    with child(run_dir) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("entities"))
        lines = (line for line in process.stdout if line.startswith("epoch"))
        assert wait_until(lambda: any(is_training(event) for event in reader.read()), 60)  # between two evaluations
        process.send_signal(signal.SIGUSR1)
        next(lines), next(lines)
        process.terminate()
        process.stdout.read()
    written = [event.global_step for event in events_of(run_dir) if isinstance(event, Checkpoint)]
    assert any(step % 200 for step in written[:-1])


@pytest.mark.engine
def test_a_hanging_trainer_says_where_when_it_is_aborted(model: Path, tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "1", model, epochs=100_000)
    with child(run_dir) as process:
        assert process.stdout is not None and process.stderr is not None
        next(line for line in process.stdout if line.startswith("epoch"))
        process.send_signal(signal.SIGABRT)
        stacks = process.stderr.read()
        process.stdout.read()
        assert process.wait() == -signal.SIGABRT
    assert "training/loop.py" in stacks


def is_training(event: object) -> bool:
    return isinstance(event, Progress) and event.phase == "train"


def limit_files(process: subprocess.Popen[str]) -> None:
    """From now on every larger file fails as on a full disk, with an error from the kernel."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (40_960, 40_960))


@pytest.mark.engine
def test_a_full_disk_fails_the_run_with_its_reason_and_loses_no_earlier_checkpoint(model: Path, tmp_path: Path) -> None:
    first = new_run(tmp_path / "1", model, **EXACT)
    train(first, never, until=4)
    second = continued(first, tmp_path / "2")
    with child(second) as process:
        limit_files(process)
        assert process.stdout is not None
        said = process.stdout.read()
        assert process.wait() == 1
    end = events_of(second)[-1]
    assert isinstance(end, Failed) and end.cause == "storage" and "disk" in end.message
    assert "checkpoint could not be written" in said
    assert checkpoint_steps(second) == [4]
    assert read_checkpoint(second.checkpoint(4)).state.global_step == 4


@pytest.mark.engine
def test_a_best_checkpoint_that_cannot_be_written_ends_the_run_before_another_is_taken_for_it(
    model: Path, tmp_path: Path
) -> None:
    run_dir = new_run(tmp_path / "1", model, **EXACT | {"epochs": 100_000})
    with child(run_dir) as process:
        limit_files(process)
        assert process.stdout is not None
        process.stdout.read()
        assert process.wait() == 1
    end = events_of(run_dir)[-1]
    assert isinstance(end, Failed) and "the best checkpoint could not be written" in end.message

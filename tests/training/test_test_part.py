"""The test part: nothing is chosen by it, the best weights are scored on it once, at the end. The stamp of a run."""

from dataclasses import replace
from pathlib import Path

import pytest

from receipt_layoutlm.data.frozen_split import FrozenSplit, pinned_frozen
from receipt_layoutlm.data.snapshot import read_snapshot, write_snapshot
from receipt_layoutlm.data.splits import divide
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Evaluation, Finished, Log, Started
from receipt_layoutlm.run.record import RunRecord
from receipt_layoutlm.training.checkpoint import newest_checkpoint, read_checkpoint
from receipt_layoutlm.training.evaluation import score_test_set
from receipt_layoutlm.training.loop import train
from receipt_layoutlm.training.setup import prepare_run
from receipt_layoutlm.training.task import SetupCallbacks
from tests.support.runs import StopAfter, continued, events_of, never, new_run, tiny_model, untimed
from tests.support.tiny import tiny_pages

OPTIONS = {"epochs": 4, "batch_size": 2, "lr": 0.01, "seed": 3}
PAGES = 24


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tested(model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run_dir = new_run(tmp_path_factory.mktemp("run") / "1", model, PAGES, test_ratio=0.25, val_ratio=0.25, **OPTIONS)
    assert isinstance(train(run_dir, never), Finished)
    return run_dir


def nothing(*_: object) -> None:
    return None


def record_of(run_dir: RunDir) -> RunRecord:
    return RunRecord.model_validate_json(run_dir.run_json.read_bytes())


def evaluations_of(run_dir: RunDir) -> list[Evaluation]:
    return [event for event in events_of(run_dir) if isinstance(event, Evaluation)]


def test_the_best_weights_are_scored_on_it_once_after_the_last_step(tested: RunDir) -> None:
    record, events = record_of(tested), events_of(tested)

    assert record.test is not None and record.summary is not None
    assert record.test.global_step == record.summary.best_global_step
    assert (record.test.metric_name, record.test.pages) == ("test_f1", 6)
    assert set(record.test.per_label) == {"DATE", "GRAND_TOTAL"}
    (told,) = (event for event in events if isinstance(event, Log) and event.event == "test")
    assert told.data["metric_value"] == record.test.metric_value
    assert (
        told.message == record.test.text
        and f", ECE calibrated {record.test.scores['ece_calibrated']:.4f} of" in told.message
    )
    assert events.index(told) > max(events.index(each) for each in evaluations_of(tested))
    assert (tested.predictions / "test.jsonl.gz").exists()


def test_it_is_the_best_weights_that_are_scored_and_not_the_last(model: Path, tmp_path: Path) -> None:
    """The test part holds the evaluation pages under other ids, so its score has to be the best evaluation's."""
    pages = tiny_pages(PAGES)
    ids = [page.page_id for page in pages]
    twins = [replace(page, page_id=f"twin of {page.page_id}") for page in pages[:6]]
    frozen = FrozenSplit(train=tuple(ids[6:]), validation=tuple(ids[:6]), test=tuple(twin.page_id for twin in twins))
    # a rate so high that what was learned is lost again
    options = {**OPTIONS, "lr": 0.2, "epochs": 6, "warmup_ratio": 0.5, "split": pinned_frozen("twins", frozen)}
    run_dir = new_run(tmp_path / "1", model, PAGES, **options)
    write_snapshot([*pages, *twins], run_dir.dataset)
    run_dir.split.write_bytes(frozen.canonical())

    train(run_dir, never)

    record = record_of(run_dir)
    assert record.test is not None and record.summary is not None
    assert record.evaluations[-1].metric_value < record.summary.best_metric_value
    assert record.test.metric_value == record.summary.best_metric_value
    best = next(each for each in record.evaluations if each.global_step == record.test.global_step)
    for name in ("macro_f1", "field_f1", "word_accuracy", "balanced_accuracy"):
        assert record.test.scores[name] == best.scores[name], name
    for name in ("ece", "ece_calibrated"):  # by the temperature of the best weights
        assert record.test.scores[name] == pytest.approx(best.scores[name], abs=1e-6), name


def test_its_calibration_is_by_the_temperature_that_fits_the_evaluation_part(tested: RunDir) -> None:
    folder = newest_checkpoint(tested)
    assert folder is not None
    run = prepare_run(
        tested, record_of(tested).config, read_checkpoint(folder), SetupCallbacks(nothing, nothing, nothing, nothing)
    )
    assert run.task.has_test_set
    place = next(n for n, each in enumerate(run.state.evaluations) if each.global_step == run.state.best_step)

    def errors(temperature: float | None) -> tuple[float | None, float | None]:
        scores = {name: value for name, value in run.state.evaluations[place].scores.items() if name != "temperature"}
        if temperature is not None:
            scores["temperature"] = temperature
        run.state.evaluations[place] = run.state.evaluations[place].model_copy(update={"scores": scores})
        found = score_test_set(run, nothing)
        assert found is not None
        return found.scores.get("ece"), found.scores.get("ece_calibrated")

    raw = errors(None)[0]
    assert raw is not None and raw > 0
    assert errors(None) == (raw, None)  # of an earlier version
    assert errors(1.0) == (raw, raw)
    other = errors(5.0)
    assert other[0] == raw and other[1] != raw


def test_its_pages_are_in_no_other_part(tested: RunDir) -> None:
    (started,) = (event for event in events_of(tested) if isinstance(event, Started))

    assert (started.train_pages, started.eval_pages, started.test_pages) == (12, 6, 6)
    assert sum(record_of(tested).dataset.test_label_counts.values()) > 0


def test_no_choice_depends_on_it(tested: RunDir, model: Path, tmp_path: Path) -> None:
    """The same run with its test pages left out of the split: the same evaluations, the same best."""
    frozen = frozen_of(tested)
    without = FrozenSplit(train=frozen.train, validation=frozen.validation)

    run_dir = frozen_run(tmp_path / "1", model, without)

    assert untimed(evaluations_of(run_dir)) == untimed(evaluations_of(tested))
    assert record_of(run_dir).test is None


def frozen_of(run_dir: RunDir) -> FrozenSplit:
    """The split of a run, as a file would say it."""
    parts = divide(read_snapshot(run_dir.dataset), record_of(run_dir).config, None)
    ids = [tuple(page.page_id for page in pages) for pages in (parts.train, parts.validation, parts.test)]
    return FrozenSplit(train=ids[0], validation=ids[1], test=ids[2])


def frozen_run(folder: Path, model: Path, frozen: FrozenSplit) -> RunDir:
    run_dir = new_run(folder, model, PAGES, split=pinned_frozen("mine", frozen), **OPTIONS)
    run_dir.split.write_bytes(frozen.canonical())
    assert isinstance(train(run_dir, never), Finished)
    return run_dir


def test_a_frozen_split_trains_evaluates_and_tests_on_the_pages_that_it_names(
    tested: RunDir, model: Path, tmp_path: Path
) -> None:
    run_dir = frozen_run(tmp_path / "1", model, frozen_of(tested))

    assert untimed(evaluations_of(run_dir)) == untimed(evaluations_of(tested))
    assert record_of(run_dir).test == record_of(tested).test


def test_a_stop_while_it_is_scored_leaves_it_to_the_next_attempt(tested: RunDir, model: Path, tmp_path: Path) -> None:
    options = {"test_ratio": 0.25, "val_ratio": 0.25, **OPTIONS}
    count = StopAfter(10**9)
    train(new_run(tmp_path / "counted", model, PAGES, **options), count)
    cut = new_run(tmp_path / "cut", model, PAGES, **options)

    end = train(cut, StopAfter(count.asked - 1))
    assert isinstance(end, Finished) and end.reason == "stop_requested"
    assert record_of(cut).test is None
    again = continued(cut, tmp_path / "again")
    again_best = cut.best.resolve()
    again.best.symlink_to(again_best)

    end = train(again, never)

    assert isinstance(end, Finished) and end.reason == "completed"
    assert record_of(again).test == record_of(tested).test


def test_without_the_best_weights_at_hand_it_is_left_out_and_said(model: Path, tmp_path: Path) -> None:
    options = {"test_ratio": 0.25, "val_ratio": 0.25, **OPTIONS, "lr": 1e-9, "epochs": 2}  # the first stays the best
    first = new_run(tmp_path / "1", model, PAGES, **options)
    train(first, never)

    second = continued(first, tmp_path / "2")
    assert isinstance(train(second, never), Finished)

    assert record_of(second).test is None
    assert [event.event for event in events_of(second) if isinstance(event, Log)] == ["test_left_out"]


# the stamp


def test_every_run_is_stamped_and_only_what_changes_the_measure_changes_the_stamp(
    tested: RunDir, model: Path, tmp_path: Path
) -> None:
    def stamp(name: str, **options: object) -> tuple[str, str]:
        base = {"test_ratio": 0.25, "val_ratio": 0.25, **OPTIONS, "epochs": 1}
        run_dir = new_run(tmp_path / name, model, PAGES, **{**base, **options})
        train(run_dir, never)
        found = record_of(run_dir).comparability
        assert found is not None
        return found.sha256, found.evaluation

    base = record_of(tested).comparability
    assert base is not None
    same = (base.sha256, base.evaluation)
    assert stamp("lr", lr=0.001, dropout=0.3, sample_size=4) == same
    # nor do the seed, the metric of the best, and what is kept: every run records all scores
    assert stamp("kept", seed=4, metric_for_best="macro_f1", guard="f1>=0.9*best", keep_checkpoints=1) == same
    assert stamp("split-seed", split_seed=4) != same
    for name, options in {
        "length": {"max_length": 64},
        "labels": {"allowed_labels": ["DATE"]},
        "split": {"val_ratio": 0.5},
    }.items():
        assert stamp(name, **options)[0] != base.sha256

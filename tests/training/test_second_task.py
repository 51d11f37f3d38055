"""A task outside the product trains, resumes bit-equal, and is evaluated, listed and compared like LayoutLM."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from receipt_layoutlm.config import ConfigError, config_class
from receipt_layoutlm.config_documents import from_document, parse_config, to_document
from receipt_layoutlm.data.snapshot import write_snapshot
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Evaluation, Finished
from receipt_layoutlm.run.record import RunRecord
from receipt_layoutlm.training.loop import train
from tests.support.longer_text import LongerTextConfig, install, text_pages
from tests.support.runs import StopAfter, continued, events_of, never, untimed
from tests.training.test_trainer import outcome


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")


def new_run(folder: Path, **options: object) -> RunDir:
    folder.mkdir(parents=True)
    config = LongerTextConfig.model_validate(
        {"epochs": 4, "batch_size": 5, "gradient_accumulation_steps": 2, "lr": 0.02, "split": "random", **options}
    )
    run_dir = RunDir(folder)
    run_dir.config.write_text(config.model_dump_json())
    write_snapshot(text_pages(60), run_dir.dataset)
    return run_dir


@pytest.mark.usefixtures("_installed")
def test_it_learns_and_its_evaluations_and_record_are_those_of_any_task(tmp_path: Path) -> None:
    run_dir = new_run(tmp_path / "run", epochs=12)

    end = train(run_dir, never)

    evaluations = [event for event in events_of(run_dir) if isinstance(event, Evaluation)]
    assert isinstance(end, Finished) and end.reason == "completed" and len(evaluations) == 12
    assert evaluations[-1].metric_name == "eval_accuracy" and evaluations[-1].metric_value > 0.8
    assert evaluations[-1].metric_value == evaluations[-1].scores["accuracy"]
    record = RunRecord.model_validate_json(run_dir.run_json.read_bytes())
    assert isinstance(record.config, LongerTextConfig)
    assert untimed(list(record.evaluations)) == untimed(evaluations)
    assert (run_dir.best / "classes.txt").read_text() == "first second"
    assert sorted(path.name for path in run_dir.predictions.iterdir())


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("asked", [1, 3, 8, 14, 21])
def test_after_an_interruption_it_ends_with_the_same_weights(tmp_path: Path, asked: int) -> None:
    whole = new_run(tmp_path / "whole")
    train(whole, never)
    first = new_run(tmp_path / "first")
    end = train(first, StopAfter(asked))
    assert isinstance(end, Finished) and end.reason == "stop_requested"

    second = continued(first, tmp_path / "second")
    train(second, never)

    assert outcome(second) == outcome(whole)


@pytest.mark.usefixtures("_installed")
def test_its_config_is_stored_flat_and_read_by_the_name_of_its_task() -> None:
    config = LongerTextConfig(hidden_size=4)
    document = to_document(config, {"hidden_size": "flag"})

    assert (document["task"], document["hidden_size"]) == ("longer_text", 4)
    assert from_document(json.loads(json.dumps(document))) == config
    with pytest.raises(ConfigError, match="'decoding' is an option of task layoutlm"):
        parse_config({"task": "longer_text", "decoding": "argmax"})


def test_without_its_package_the_task_is_unknown() -> None:
    with pytest.raises(ConfigError, match="unknown task 'longer_text': known are layoutlm"):
        config_class("longer_text")


def test_its_pages_are_pages() -> None:
    assert len({json.dumps(asdict(page)) for page in text_pages(60)}) == 60

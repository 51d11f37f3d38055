"""Runs on augmented and on generated pages: other weights than without, and the same again after any interruption."""

import gzip
import json
from pathlib import Path

import pytest

from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Finished
from receipt_layoutlm.training.loop import train
from tests.support.runs import StopAfter, continued, never, new_run, tiny_model
from tests.training import test_trainer
from tests.training.test_trainer import outcome

EXACT = test_trainer.EXACT | {"epochs": 2}
OPTIONS: list[dict[str, object]] = [
    {"augment": ["entities,boxes", "ocr", "drop"]},
    {"pretrain_on": "sample:6"},
    {"augment": ["boxes"], "pretrain_on": "sample:6", "balanced_sampling": True, "max_length": 32},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


def evaluated(run_dir: RunDir) -> list[tuple[object, ...]]:
    """The pages of the last evaluation, without what was predicted."""
    with gzip.open(max(run_dir.predictions.glob("eval-*.jsonl.gz")), "rt") as lines:
        return [(row["page_id"], row["words"], row["true"]) for row in map(json.loads, lines)]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_run_that_was_interrupted_after_every_step_ends_bit_for_bit_the_same(
    model: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    plain, whole = (new_run(tmp_path / name, model, **EXACT | each) for name, each in (("a", {}), ("b", options)))
    train(plain, never)
    end = train(whole, never)
    assert isinstance(end, Finished)
    assert outcome(whole) != outcome(plain)
    assert evaluated(whole) == evaluated(plain)
    run_dir = new_run(tmp_path / "0", model, **EXACT | options)
    for step in range(1, end.global_step):
        train(run_dir, never, until=step)
        run_dir = continued(run_dir, tmp_path / str(step))
    train(run_dir, never)
    assert outcome(run_dir) == outcome(whole)


@pytest.mark.parametrize("stride", [17, pytest.param(1, marks=pytest.mark.long)])
def test_a_stop_at_any_question_also_while_pages_are_made_anew_ends_the_same(
    model: Path, tmp_path: Path, stride: int
) -> None:
    options, count = EXACT | {"augment": ["boxes"]}, StopAfter(10**9)
    whole = new_run(tmp_path / "whole", model, **options)
    train(whole, count)
    for asked in range(1, count.asked, stride):
        first = new_run(tmp_path / f"{asked}-a", model, **options)
        end = train(first, StopAfter(asked))
        assert isinstance(end, Finished) and end.reason == "stop_requested"
        second = continued(first, tmp_path / f"{asked}-b")
        train(second, never)
        assert outcome(second) == outcome(whole), asked


def test_the_first_phase_comes_on_top_of_the_epochs(model: Path, tmp_path: Path) -> None:
    def steps(name: str, **options: object) -> int:
        end = train(new_run(tmp_path / name, model, **EXACT | {"epochs": 1} | options), never)
        assert isinstance(end, Finished)
        return end.global_step

    assert steps("two epochs more", pretrain_on="sample:12") == 3 * steps("plain")  # six pages are trained on

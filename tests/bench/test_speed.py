"""The benches of speed on tiny models: the same work for every variant, the same losses, figures that add up."""

import importlib
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from receipt_layoutlm.data.page import page_to_line
from receipt_layoutlm.training.setup import Run
from receipt_layoutlm.training.tasks.word_labels.inputs.epoch import micro_batches, plan_epoch
from receipt_layoutlm.training.tasks.word_labels.layoutlm import encoder_size
from receipt_layoutlm.training.throughput import step_flops
from tests.support.paths import BENCH
from tests.support.runs import tiny_model
from tests.support.tiny import tiny_pages

WORDS = ["--size", "tiny", "--threads", "1", "--batch-size", "4", "--steps", "3", "--rounds", "2"]


@pytest.fixture(scope="module", autouse=True)
def bench_is_a_place_of_modules() -> Iterator[None]:
    sys.path.append(str(BENCH))  # as for `python bench/limit.py`
    yield
    sys.path.remove(str(BENCH))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("data")
    (folder / "train.jsonl").write_text("\n".join(page_to_line(page) for page in tiny_pages(30)))
    return [*WORDS, "--data", str(folder), "--tokenizer", str(tiny_model(folder / "model"))]


@pytest.fixture(scope="module")
def rounds() -> ModuleType:
    return importlib.import_module("training_rounds")


@pytest.fixture(scope="module")
def run(rounds: ModuleType, words: list[str]) -> Run:
    found: Run = rounds.prepared_apart(arguments_of(rounds, words))
    return found


def arguments_of(rounds: ModuleType, words: list[str]) -> Namespace:
    parser = ArgumentParser()
    rounds.add_arguments(parser)
    return parser.parse_args(words)


def test_a_round_has_other_windows_than_the_next_and_the_same_for_whoever_asks(rounds: ModuleType, run: Run) -> None:
    one, again, other = (rounds.drawn_windows(run.task.encoded.train, 12, number) for number in (0, 0, 1))
    ids = [[part.window_id(place) for place in range(12)] for part in (one, again, other)]
    assert ids[0] == ids[1] != ids[2]
    assert len(set(ids[0])) == 12
    with pytest.raises(SystemExit, match="give fewer --steps"):
        rounds.drawn_windows(run.task.encoded.train, 31, 0)


def test_needed_operations_are_those_of_the_batches_that_are_trained_on(rounds: ModuleType, run: Run) -> None:
    part = rounds.drawn_windows(run.task.encoded.train, 12, 0)
    size = encoder_size(run.task.model.config)
    epoch = plan_epoch(run.config, part, 0, 12)
    batches = [batch for step in epoch.steps for batch in micro_batches(run.config, part, step)]
    assert rounds.needed_flops(run, part) == sum(step_flops(size, each.lengths, len(each.chosen)) for each in batches)


def test_a_round_trains_and_leaves_the_run_at_its_beginning(rounds: ModuleType, run: Run) -> None:
    before = run.task.model.classifier.weight.clone()
    took = rounds.our_round(run, rounds.drawn_windows(run.task.encoded.train, 12, 0))
    assert took.wall > 0 and took.cpu > 0 and took.tokens == took.slots > 0
    assert not before.equal(run.task.model.classifier.weight)
    assert run.state.global_step == 0


def test_without_receipts_it_says_so_and_makes_some(
    rounds: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(rounds.pages_of(tmp_path)) == rounds.GENERATED
    assert "generated receipts instead" in capsys.readouterr().err


def test_the_limit_is_the_best_of_its_products(words: list[str], tmp_path: Path) -> None:
    importlib.import_module("limit").main([*words, "--json", str(tmp_path / "limit.json")])
    found = json.loads((tmp_path / "limit.json").read_text())
    assert found["peak_flops_per_second"] == max(found["peaks"].values()) == found["peaks"][found["peak_of"]]
    assert len(found["peaks"]) == 6 and len(found["achieved_of_rounds"]) == len(found["peaks_of_rounds"]) == 2
    assert found["share"] == pytest.approx(found["achieved_flops_per_second"] / found["peak_flops_per_second"])
    assert 0 < found["share"] < 1


def test_variants_are_compared_on_the_same_pages(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("accelerate")
    importlib.import_module("train_step").main([*words, "--json", str(tmp_path / "steps.json")])
    rows = json.loads((tmp_path / "steps.json").read_text())["variants"]
    assert list(rows) == ["stock", "tuned", "ours"]
    assert rows["stock"]["ratio"] == rows["stock"]["cpu_ratio"] == 1.0
    assert all(row["receipts_per_second"] > 0 and row["needed_flops_per_second"] > 0 for row in rows.values())
    assert rows["stock"]["padded_share"] > 0.9 > rows["tuned"]["padded_share"] > rows["ours"]["padded_share"] == 0
    shown = capsys.readouterr().out
    assert all(f"| {variant} |" in shown for variant in rows)


def test_stock_and_ours_have_one_loss_curve(words: list[str], tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    out = tmp_path / "curve.json"
    importlib.import_module("train_step").main([*words, "--curve", "20", "--same-order", "--json", str(out)])
    curve = json.loads(out.read_text())["curve"]
    assert len(curve["ours"]) == 10 and curve["ours"][-1] < curve["ours"][0]
    assert curve["ours"] == pytest.approx(curve["stock"], abs=1e-3)


@pytest.mark.engine
def test_memory_is_measured_in_a_process_for_each_variant(words: list[str]) -> None:
    pytest.importorskip("accelerate")
    bench = importlib.import_module("train_step")
    found = {variant: bench.memory_of(variant, words) for variant in ("stock", "ours")}
    assert all(0 < row["growth_mb"] < row["peak_mb"] for row in found.values())
    assert found["ours"]["growth_mb"] < found["stock"]["growth_mb"]

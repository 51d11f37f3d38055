"""The accuracy bench: parts that do not meet, options that exist, rows that are not run twice, a real tiny run."""

import argparse
import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.page import page_to_line
from receipt_layoutlm.data.sample import generate_pages
from tests.support.paths import BENCH
from tests.support.runs import tiny_model
from tests.support.tiny import tiny_pages


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    sys.path.insert(0, str(BENCH))  # as for `python bench/accuracy.py`
    try:
        spec = importlib.util.spec_from_file_location("bench_accuracy", BENCH / "accuracy.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCH))
    return module


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, seed in (("train", 1), ("dev", 2)):
        lines = []
        for page in generate_pages(60, seed):
            row = json.loads(page_to_line(page))
            lines.append(json.dumps({**row, "group": f"{name} {page.group}"}))
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("protocol", ["merchants", "random"])
def test_what_options_are_chosen_by_is_a_part_of_the_training_data(
    bench: ModuleType, data: Path, protocol: str
) -> None:
    train, scored = bench.parts(data, protocol, True, None)
    smaller, selection = bench.parts(data, protocol, False, None)
    ids = {page.page_id for page in train}
    assert ids.isdisjoint(page.page_id for page in scored)
    assert sorted(page.page_id for page in [*smaller, *selection]) == sorted(ids)
    assert len(train) + len(scored) == 120
    if protocol == "merchants":
        for one, other in ((train, scored), (smaller, selection)):
            assert {page.group for page in one}.isdisjoint(page.group for page in other)


def test_a_limit_makes_the_parts_smaller_and_keeps_them_apart(bench: ModuleType, data: Path) -> None:
    train, scored = bench.parts(data, "random", True, 7)
    assert (len(train), len(scored)) == (7, 7)
    assert {page.page_id for page in train}.isdisjoint(page.page_id for page in scored)


def test_variants_are_joined_and_go_before_the_base(bench: ModuleType) -> None:
    joined = bench.options_of("ratio-2+focal-2", {"focal_gamma": 1.0, "epochs": 3})
    assert joined == {"epochs": 3, "o_entity_ratio": 2.0, "focal_gamma": 2.0}
    with pytest.raises(SystemExit, match="unknown variant nonsense"):
        bench.options_of("plain+nonsense", {})


def test_options_that_do_not_exist_are_said_not_run(bench: ModuleType) -> None:
    assert bench.not_available({"epochs": 2}) is None
    assert bench.not_available({"epochs": 2, "no_such_option": 1}) == "no option no_such_option yet"
    assert "epochs" in bench.not_available({"epochs": 0})


def test_every_variant_changes_something_that_the_config_knows_or_is_said_to_be_missing(bench: ModuleType) -> None:
    for name in bench.VARIANTS:
        options = bench.options_of(name, bench.BASE)
        reason = bench.not_available(options)
        if reason is None:
            assert WordLabelsConfig.model_validate(options) is not None
        else:
            assert reason.startswith("no option")


def test_means_stand_beside_their_spread(bench: ModuleType) -> None:
    row = bench.Row("merchants", True, "plain", 1, None, {}, f1=0.7, labels={"DATE": 0.9}, field_f1=0.8, cpu_minutes=2)
    shown = bench.table([row, replace(row, seed=2, f1=0.8, cpu_minutes=4.0)]).splitlines()
    assert "DATE" in shown[0]
    assert shown[2].startswith("| merchants, held out | plain | 2 | 75.0 ± 7.1 |")
    assert shown[2].endswith("| 80.0 ± 0.0 | 3.0 |")


def test_rows_of_other_options_are_other_runs(bench: ModuleType, tmp_path: Path) -> None:
    row = bench.Row("merchants", True, "plain", 1, None, {"epochs": 2}, f1=0.5)
    bench.write_rows(tmp_path / "rows.json", [row], {"viterbi": "no option decoding yet"})
    done = bench.read_rows(tmp_path / "rows.json")
    assert done[row.key] == row
    others = [replace(row, options={"epochs": 3}), replace(row, seed=2), replace(row, final=False)]
    assert all(other.key not in done for other in [*others, replace(row, pages=5)])
    assert replace(row, f1=0.0).key in done


def test_the_part_kept_apart_is_scored_only_when_that_is_asked_for(bench: ModuleType) -> None:
    assert [bench.parsed(words).final for words in ([], ["--select"], ["--final"])] == [False, False, True]


def test_seeds_come_outermost(bench: ModuleType) -> None:
    arguments = argparse.Namespace(
        seeds=2, protocols=["random"], variants=["plain", "focal-2"], final=False, pages=None
    )
    plan = [(row.seed, row.variant) for row in bench.planned(arguments, {})]
    assert plan == [(1, "plain"), (1, "focal-2"), (2, "plain"), (2, "focal-2")]


@pytest.mark.engine
def test_a_run_is_scored_once_after_its_last_step_and_not_run_again(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [page_to_line(page) for page in tiny_pages(24)]
    for name, part in (("train", lines[:16]), ("dev", lines[16:])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(part))
    options = {"pretrained": str(tiny_model(tmp_path / "model")), "epochs": 2, "dropout": 0.0}
    rows, final = tmp_path / "rows.json", ["--final", "--seeds", "1", "--variants", "plain", "smoothing-0.1"]
    call = ["--data", str(tmp_path), "--json", str(rows), "--options", json.dumps(options), *final]
    bench.main(call)
    first = rows.read_text()
    assert [row["train_pages"] for row in json.loads(first)["rows"]] == [16, 16]
    assert all(len(row["epoch_f1"]) == 1 and row["cpu_minutes"] > 0 for row in json.loads(first)["rows"])
    shown = capsys.readouterr().out
    assert "| merchants, held out | smoothing-0.1 | 1 |" in shown
    bench.main(call)
    assert rows.read_text() == first
    assert capsys.readouterr().out == shown


def test_without_the_data_it_says_so_and_ends(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.main(["--data", str(tmp_path)])
    assert capsys.readouterr().out.startswith("skipped: there is no train.jsonl")

"""Every option of the training changes the result of a real run, or leaves it the same where that is its promise."""

import gzip
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.data.snapshot import write_snapshot
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Evaluation, EventReader, Failed, Finished, Log, Started
from receipt_layoutlm.run.predictions import read_predictions
from receipt_layoutlm.run.record import RunRecord
from receipt_layoutlm.training.checkpoint import read_checkpoint
from receipt_layoutlm.training.loop import train
from receipt_layoutlm.training.tasks.word_labels.scoring.fields import score_fields
from tests.support.runs import checkpoint_steps, never, new_run
from tests.support.tiny import tiny_layoutlm

PAGES = generate_pages(12, seed=1)  # half of them train, in three steps an epoch
PLAIN: dict[str, object] = {"epochs": 1, "batch_size": 2, "lr": 0.01, "dropout": 0.0, "warmup_ratio": 0.0}
WORDS = "layoutlm.embeddings.word_embeddings.weight"
LOWEST = "layoutlm.encoder.layer.0.attention.self.query.weight"
HIGHEST = "layoutlm.encoder.layer.1.attention.self.query.weight"
FRESH = "classifier.weight"


@dataclass
class Outcome:
    run_dir: RunDir
    weights: dict[str, torch.Tensor]
    evaluations: list[Evaluation]

    @property
    def record(self) -> RunRecord:
        return RunRecord.model_validate_json(self.run_dir.run_json.read_bytes())


Trained = Callable[..., Outcome]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("options")
    tiny_layoutlm(folder / "model", PAGES)
    return folder


def run_with(folder: Path, name: str, options: dict[str, object]) -> RunDir:
    run_dir = new_run(folder / name, folder / "model", **PLAIN | options)
    write_snapshot(PAGES, run_dir.dataset)
    return run_dir


@pytest.fixture(scope="module")
def trained(folder: Path) -> Trained:
    """Trains with the options given beside PLAIN; the same ones once."""
    known: dict[str, Outcome] = {}

    def outcome(**options: object) -> Outcome:
        name = json.dumps(options, sort_keys=True)
        if name not in known:
            run_dir = run_with(folder, f"run-{len(known)}", options)
            assert isinstance(train(run_dir, never), Finished)
            newest = read_checkpoint(run_dir.checkpoint(max(checkpoint_steps(run_dir))))
            known[name] = Outcome(run_dir, newest.weights, newest.state.evaluations)
        return known[name]

    return outcome


# option, value, and what is given to both runs
CHANGES: list[tuple[str, object, dict[str, object]]] = [
    # the loss
    ("label_smoothing", 0.1, {}),
    ("focal_gamma", 2.0, {}),
    ("class_weights", "inverse", {}),
    ("class_weights", "sqrt-inverse", {}),
    ("class_weights", "effective", {}),
    ("class_weights", "balanced", {}),
    ("class_weights", "sqrt-inverse", {"class_weights": "inverse"}),
    ("class_weights", "effective", {"class_weights": "inverse"}),
    ("class_weights", "balanced", {"class_weights": "inverse"}),
    ("class_weight_clip", [1.0, 1.5], {"class_weights": "inverse"}),
    ("label_weight", {"DATE": 4.0}, {}),
    # what is shown
    ("balanced_sampling", True, {}),
    ("o_entity_ratio", 0.5, {}),
    ("augment", ["entities"], {}),
    ("augment", ["drop"], {}),
    ("augment", ["ocr"], {}),
    ("augment", ["boxes"], {}),
    ("pretrain_on", "sample:4", {}),
    ("sample_size", 3, {}),
    # the model
    ("dropout", 0.3, {}),
    ("layers", 1, {}),
    ("seed", 7, {}),
    # the steps
    ("lr", 0.02, {}),
    ("lr_schedule", "cosine", {}),
    ("layer_lr_decay", 0.5, {}),
    ("new_parameter_lr", 0.001, {}),
    ("freeze_embeddings", True, {}),
    ("freeze_layers", 1, {}),
    ("warmup_ratio", 0.7, {}),
    ("weight_decay", 0.5, {}),
    ("max_grad_norm", 0.01, {}),
    ("max_grad_norm", 0.0, {}),
]


@pytest.mark.parametrize(("option", "value", "beside"), CHANGES, ids=str)
def test_the_option_changes_the_weights(
    trained: Trained, option: str, value: object, beside: dict[str, object]
) -> None:
    without, with_it = trained(**beside), trained(**beside | {option: value})

    assert without.weights.keys() != with_it.weights.keys() or any(
        not torch.equal(without.weights[name], with_it.weights[name]) for name in without.weights
    )


SAME: list[dict[str, object]] = [
    {"tokens_per_batch": 300},
    {"tokens_per_batch": 100_000},
    {"batch_size": 1, "gradient_accumulation_steps": 2},
    {"label_weight": {"DATE": 1.0}},
    {"class_weights": "inverse", "class_weight_clip": [1.0, 1.0]},
    {"precision": "fp32"},
    {"decoding": "argmax"},
    {"metric_for_best": "loss"},
]


@pytest.mark.parametrize("options", SAME, ids=str)
def test_the_weights_are_the_same_up_to_rounding(trained: Trained, options: dict[str, object]) -> None:
    plain, other = trained(), trained(**options)

    assert plain.evaluations[-1].train_loss == pytest.approx(other.evaluations[-1].train_loss, abs=1e-5)
    for name, weights in plain.weights.items():
        torch.testing.assert_close(other.weights[name], weights, rtol=0, atol=1e-4)


def test_a_budget_of_tokens_cuts_weighted_steps_without_changing_them(trained: Trained) -> None:
    weighted = {"class_weights": "inverse", "label_smoothing": 0.1, "focal_gamma": 1.0}

    losses = [trained(**weighted, **cut).evaluations[-1].eval_loss for cut in ({}, {"tokens_per_batch": 300})]

    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_what_is_frozen_stays_as_it_was_and_the_rest_learns(trained: Trained) -> None:
    start = trained(lr=1e-12, weight_decay=0.0).weights
    embeddings, layers = trained(freeze_embeddings=True).weights, trained(freeze_layers=1).weights

    def learned(weights: dict[str, torch.Tensor]) -> list[str]:
        return [name for name in (WORDS, LOWEST, HIGHEST) if (weights[name] - start[name]).abs().max() > 1e-6]

    assert learned(trained().weights) == [WORDS, LOWEST, HIGHEST]
    assert learned(embeddings) == [LOWEST, HIGHEST]
    assert learned(layers) == [WORDS, HIGHEST]


def test_rates_follow_the_height_of_a_layer_and_whether_it_is_fresh(trained: Trained) -> None:
    one_step = {"batch_size": 6, "weight_decay": 0.0}  # the first step of AdamW is as large as its rate
    start = trained(lr=1e-12, weight_decay=0.0).weights
    decayed, fresh = trained(**one_step, layer_lr_decay=0.5).weights, trained(**one_step, new_parameter_lr=1e-4).weights

    def step(weights: dict[str, torch.Tensor], name: str) -> float:
        return float((weights[name] - start[name]).abs().max())

    rates = [step(decayed, name) for name in (FRESH, HIGHEST, LOWEST, WORDS)]
    assert rates == pytest.approx([0.01, 0.005, 0.0025, 0.00125], rel=0.01)
    assert [step(fresh, name) for name in (FRESH, HIGHEST)] == pytest.approx([1e-4, 0.01], rel=0.01)


def test_weights_of_classes_are_recorded_as_they_were_used(trained: Trained) -> None:
    used = trained(class_weights="inverse", class_weight_clip=[1.0, 1.5]).record.class_weights

    assert used is not None and used.weights["O"] == 1.0
    assert set(used.weights.values()) == {1.0, 1.5} and "TIME" in used.clipped and used.words["TIME"] > 0


def test_balanced_sampling_and_the_ratio_are_recorded_as_they_came_out(trained: Trained) -> None:
    runs = trained(), trained(balanced_sampling=True)
    plain, balanced = (run.evaluations[-1].breakdowns["seen"] for run in runs)

    assert balanced["WEBSITE"] / balanced["DATE"] > plain["WEBSITE"] / plain["DATE"]
    assert trained(o_entity_ratio=0.5).evaluations[-1].scores["o_entity_ratio"] == pytest.approx(0.5, rel=0.02)


def test_each_decoding_decides_the_score_and_both_are_recorded(trained: Trained) -> None:
    viterbi, argmax = trained(epochs=3).evaluations[-1], trained(epochs=3, decoding="argmax").evaluations[-1]

    by_decoding = viterbi.breakdowns["f1_by_decoding"]
    assert argmax.breakdowns["f1_by_decoding"] == by_decoding
    assert (viterbi.scores["f1"], argmax.scores["f1"]) == (by_decoding["viterbi"], by_decoding["argmax"])
    assert viterbi.scores["f1"] != argmax.scores["f1"]


def test_a_single_valued_label_has_one_entity_on_each_page(trained: Trained) -> None:
    def most(**options: object) -> int:
        run_dir = trained(epochs=3, **options).run_dir
        with gzip.open(run_dir.predictions / "eval-9.jsonl.gz", "rt") as rows:
            return max(Counter(json.loads(row)["predicted"])["B-LINE_TOTAL"] for row in rows)

    assert most() > 1
    assert most(single_valued_labels=["LINE_TOTAL"]) == 1
    run = trained(epochs=3, single_valued_labels=["LINE_TOTAL"])
    assert "viterbi, single" in run.evaluations[-1].breakdowns["f1_by_decoding"]


def test_the_field_score_counts_all_labels_whatever_is_single_valued(trained: Trained) -> None:
    run = trained(epochs=3, single_valued_labels=["LINE_TOTAL"])
    pages = read_predictions((run.run_dir.predictions / "eval-9.jsonl.gz").read_bytes(), "eval-9")
    columns = [[getattr(page, name) for page in pages] for name in ("words", "true", "predicted")]

    labels = list(run.evaluations[-1].per_label)
    assert run.evaluations[-1].scores["field_f1"] == score_fields(*columns, labels).f1
    assert run.evaluations[-1].scores["field_f1"] != score_fields(*columns, ["LINE_TOTAL"]).f1


def test_metric_and_guard_decide_which_weights_are_the_best(trained: Trained) -> None:
    slowly: dict[str, object] = {"epochs": 3, "lr": 0.003}

    def best(**options: object) -> list[bool]:
        return [evaluation.is_best for evaluation in trained(**slowly, **options).evaluations]

    evaluations = trained(**slowly).evaluations
    f1s, recalls, losses = (
        [-each.value("loss") if name == "eval_loss" else each.value(name) for each in evaluations]
        for name in ("f1", "recall", "eval_loss")
    )
    is_highest = [all(f1s[place] > earlier for earlier in f1s[:place]) for place in range(3)]
    is_kept = [all(recalls[place] >= earlier for earlier in recalls[:place]) for place in range(3)]
    assert losses[0] > losses[1] > losses[2] and not all(is_highest) and not all(is_kept)
    assert best() == is_highest
    assert best(metric_for_best="eval_loss") == [True, True, True]
    assert best(metric_for_best="loss", guard="recall>=1.0*best") == is_kept
    of_a_label = trained(**slowly, metric_for_best="f1_LINE_TOTAL").evaluations[-1]
    assert (of_a_label.metric_name, of_a_label.metric_value) == (
        "eval_f1_LINE_TOTAL",
        of_a_label.per_label["LINE_TOTAL"].f1,
    )


def test_so_many_threads_compute_as_were_asked_for(trained: Trained) -> None:
    before = torch.get_num_threads()
    try:
        assert [trained(threads=threads).record.hardware.threads for threads in (2, 1)] == [2, 1]
    finally:
        torch.set_num_threads(before)


def test_the_option_to_try_first_is_in_evaluation_record_and_log(trained: Trained) -> None:
    run = trained(lr=1e-5)
    log = [event.message for event in EventReader(run.run_dir.events).read() if isinstance(event, Log)]
    (finding,) = run.record.health

    assert run.evaluations[-1].health == (finding.line,)
    assert run.evaluations[-1].remedy == finding.remedy == {"epochs": 2}  # of one
    assert finding.message in log and finding.message.endswith("try --epochs 2")


def test_an_option_that_names_a_label_the_run_does_not_learn_is_refused(folder: Path) -> None:
    end = train(run_with(folder, "unlearned", {"label_weight": {"COUPON": 2.0}}), never)

    assert isinstance(end, Failed) and end.cause == "bad_config"
    assert "the run does not learn label COUPON: use one of " in end.message


def test_what_a_run_computes_on_is_recorded_and_told(trained: Trained) -> None:
    run = trained()
    hardware = run.record.hardware

    assert (hardware.device, hardware.precision, hardware.tf32, hardware.processes) == ("cpu", "fp32", False, 1)
    started = next(event for event in EventReader(run.run_dir.events).read() if isinstance(event, Started))
    assert started.hardware == hardware


def test_a_format_that_is_not_computed_in_hardware_is_refused(folder: Path) -> None:
    end = train(run_with(folder, "bf16", {"precision": "bf16"}), never)  # on a CPU

    assert isinstance(end, Failed) and end.cause == "bad_config" and "fp32" in end.message

"""Each finding appears at its bound and not just below it, and names existing options."""

import re

import pytest

from receipt_layoutlm.cli.options import flag_of
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.check_report import Finding
from receipt_layoutlm.run.events import Evaluation
from receipt_layoutlm.run.scores import LabelScore
from receipt_layoutlm.training.tasks.word_labels.findings import findings

DEFAULTS = WordLabelsConfig()


def row(recall: float, support: int) -> LabelScore:
    return LabelScore(precision=recall, recall=recall, f1=recall, support=support)


def at(step: int = 1, train_loss: float | None = 1.0, eval_loss: float = 1.0, **values: object) -> Evaluation:
    """A healthy evaluation, but for the values given."""
    healthy = {
        "metric_name": "eval_f1",
        "metric_value": 0.8,
        "precision": 0.8,
        "recall": 0.8,
        "per_label": {"TAX": row(0.8, 10)},
        "lr": 1e-4,
        "confusion": {"O": {"O": 90}, "TAX": {"TAX": 10}},
        "predicted_labels": {"O": 90, "TAX": 10},
        "is_best": False,
    }
    return Evaluation.model_validate(
        {"global_step": step, "epoch": step, "train_loss": train_loss, "eval_loss": eval_loss, **healthy, **values}
    )


def losses(*pairs: tuple[float | None, float]) -> list[Evaluation]:
    return [at(step, train, evaluation) for step, (train, evaluation) in enumerate(pairs, start=1)]


def findings_with(history: list[Evaluation], train_f1: float | None = None) -> list[Finding]:
    """By a history whose latest evaluation scored this on training pages."""
    if history:
        scores = {"f1": history[-1].metric_value} | ({} if train_f1 is None else {"train_f1": train_f1})
        latest = history[-1].model_copy(update={"scores": scores})
        history = [*history[:-1], latest]
    return findings(history, DEFAULTS)


def checks(history: list[Evaluation], train_f1: float | None = None) -> list[str]:
    return [finding.check for finding in findings_with(history, train_f1)]


def words(recall_of_tax: int) -> dict[str, dict[str, int]]:
    return {"O": {"O": 900}, "TAX": {"O": 100 - recall_of_tax, "TAX": recall_of_tax}}


PROBLEMS = [
    ("collapsed", [at(collapsed=True, predicted_labels={"O": 100})], None),
    ("labels_never_found", [at(per_label={"TAX": row(0.9, 10), "TIP": row(0, 1)})], None),
    ("overfitting", [at(metric_value=0.8)], 0.9001),
    ("evaluation_loss_rising", losses((0.9, 1.0), (0.8, 1.2), (0.7, 1.01), (0.6, 1.05)), None),
    ("evaluation_loss_rising", losses((0.95, 2.0), (0.9, 1.0), (0.8, 1.02), (0.7, 1.04), (0.6, 1.06)), None),
    ("loss_flat", losses((3.0, 1), (1.0, 1), (0.995, 1), (0.99, 1), (0.992, 1)), None),
    ("unbalanced", [at(confusion=words(87))], None),  # 0.987 of words, 0.935 of classes: 5.2 points
]

HEALTHY = [
    ("a healthy run", [at()], None),
    ("no evaluation yet", [], None),
    ("an unknown score on training pages", [at()], None),
    ("a label without true entities", [at(per_label={"TAX": row(0.9, 10), "TIP": row(0, 0)})], None),
    ("a rare label found once", [at(per_label={"TAX": row(0.9, 10), "TIP": row(0.01, 100)})], None),
    ("a gap of exactly 10 points", [at(metric_value=0.8)], 0.9),
    ("better on evaluation pages", [at(metric_value=0.8)], 0.5),
    ("risen by under 5 percent", losses((0.9, 1.0), (0.8, 1.2), (0.7, 1.01), (0.6, 1.0499)), None),
    ("risen only two evaluations ago", losses((0.9, 1.1), (0.8, 1.0), (0.7, 1.06), (0.6, 1.2)), None),
    ("both losses rise", losses((0.6, 1.0), (0.7, 1.1), (0.8, 1.1), (0.6, 1.1)), None),
    ("the first loss is unknown", losses((None, 1.0), (0.8, 1.1), (0.7, 1.1), (0.6, 1.1)), None),
    ("the latest loss is unknown", losses((0.9, 1.0), (0.8, 1.1), (0.7, 1.1), (None, 1.1)), None),
    ("within 1.1 percent", losses((1.0, 1), (0.995, 1), (0.99, 1), (0.989, 1)), None),
    ("flat for three evaluations", losses((1.2, 1), (1.0, 1), (1.0, 1), (1.0, 1)), None),
    ("only three evaluations", losses((1.0, 1), (1.0, 1), (1.0, 1)), None),
    ("one loss of four is unknown", losses((1.0, 1), (None, 1), (1.0, 1), (1.0, 1)), None),
    ("4.8 points under accuracy", [at(confusion=words(88))], None),
    ("collapsed before, healthy now", [at(1, 1.0, collapsed=True), at(2, 0.9)], None),
]


@pytest.mark.parametrize(("check", "history", "on_training_pages"), PROBLEMS)
def test_each_problem_is_found(check: str, history: list[Evaluation], on_training_pages: float | None) -> None:
    assert checks(history, on_training_pages) == [check]


@pytest.mark.parametrize(("why", "history", "on_training_pages"), HEALTHY)
def test_a_run_below_a_bound_is_healthy(why: str, history: list[Evaluation], on_training_pages: float | None) -> None:
    assert checks(history, on_training_pages) == [], why


def test_exactly_five_points_under_accuracy_is_unbalanced() -> None:
    exactly = {"O": {"O": 75}, "TAX": {"TAX": 20, "O": 5}}  # 0.95 and 0.90
    assert checks([at(confusion=exactly)]) == ["unbalanced"]


def test_a_collapsed_model_has_no_other_finding() -> None:
    history = losses((1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (1.0, 2.0))
    collapsed = {"collapsed": True, "predicted_labels": {"O": 100}, "per_label": {"TAX": row(0, 5)}}
    assert checks([*history, at(5, 1.0, **collapsed)], 1.0) == ["collapsed"]


def test_findings_come_in_order_of_importance() -> None:
    history = losses((1.0, 1.0), (0.995, 1.1), (0.994, 1.1))
    latest = at(4, 0.993, 1.1, per_label={"TAX": row(0, 5)}, confusion=words(0))
    assert checks([*history, latest], 0.95) == [
        "labels_never_found",
        "overfitting",
        "evaluation_loss_rising",
        "loss_flat",
        "unbalanced",
    ]


def all_findings() -> list[Finding]:
    return [finding for _, history, value in PROBLEMS for finding in findings_with(history, value)]


def test_every_finding_names_existing_options() -> None:
    flags = {flag_of(name) for name in WordLabelsConfig.model_fields}
    for finding in all_findings():
        named = re.findall(r"--[a-z][a-z-]*", finding.message)
        assert named, finding.check
        assert set(named) <= flags, finding.check


def test_the_text_contains_numbers_and_labels() -> None:
    reported = findings_with([at(metric_value=0.8, per_label={"TAX": row(0, 7), "TIP": row(0, 3)})], 0.95)
    lines = [finding.line for finding in reported]
    assert lines[0].startswith("labels_never_found: recall is 0 for TAX (support 7), TIP (support 3): ")
    assert "--label-weight TIP=2" in lines[0]
    assert reported[0].examples == ("TAX", "TIP")
    assert lines[1].startswith("overfitting: f1 is 0.950 on training pages and 0.800 on the validation set: ")
    assert all("\n" not in line for line in lines)
    assert "predicted as O" in findings(PROBLEMS[0][1], DEFAULTS)[0].message
    assert "of TAX 0.870" in findings(PROBLEMS[-1][1], DEFAULTS)[0].message


# options of a run, and the options that remain to be advised

SET = [
    ("collapsed", {"o_entity_ratio": 2.0}, {"--lr", "--warmup-ratio", "--epochs"}),
    (
        "labels_never_found",
        {"class_weights": "balanced"},
        {"--label-weight", "--balanced-sampling", "--o-entity-ratio"},
    ),
    ("labels_never_found", {"balanced_sampling": True}, {"--class-weights", "--label-weight", "--o-entity-ratio"}),
    (
        "labels_never_found",
        {"label_weight": {"TIP": 2}},
        {"--class-weights", "--balanced-sampling", "--o-entity-ratio"},
    ),
    ("overfitting", {"augment": ["ocr"], "label_smoothing": 0.1}, {"--dropout", "--epochs"}),
    ("evaluation_loss_rising", {"early_stopping_patience": 3}, {"--epochs", "--lr", "--label-smoothing", "--dropout"}),
    ("loss_flat", {"early_stopping_patience": 3}, {"--lr", "--epochs"}),
    ("unbalanced", {"focal_gamma": 2.0, "o_entity_ratio": 1.0}, {"--class-weights", "--balanced-sampling"}),
]


def message_with(check: str, **options: object) -> str:
    """The finding's text in a run with these options."""
    history, train_f1 = next((history, value) for name, history, value in PROBLEMS if name == check)
    scores = {"f1": history[-1].metric_value} | ({} if train_f1 is None else {"train_f1": train_f1})
    latest = history[-1].model_copy(update={"scores": scores})
    (finding,) = findings([*history[:-1], latest], WordLabelsConfig.model_validate(options))
    return finding.message


@pytest.mark.parametrize(("check", "options", "left"), SET)
def test_an_option_already_set_is_not_advised(check: str, options: dict[str, object], left: set[str]) -> None:
    assert set(re.findall(r"--[a-z][a-z-]*", message_with(check, **options))) == left
    assert left < set(re.findall(r"--[a-z][a-z-]*", message_with(check)))


def test_a_weight_is_advised_for_the_rarest_unweighted_label() -> None:
    latest = at(per_label={"TAX": row(0, 7), "TIP": row(0, 3), "DATE": row(0.9, 2)})
    (finding,) = findings([latest], WordLabelsConfig(label_weight={"TIP": 4.0, "DATE": 2.0}))
    assert "--label-weight TAX=2" in finding.message


def test_a_finding_says_when_all_its_options_are_set() -> None:
    options = {"class_weights": "inverse", "focal_gamma": 2, "balanced_sampling": True, "o_entity_ratio": 2}
    already_set = "--class-weights, --focal-gamma, --balanced-sampling, --o-entity-ratio are already set"
    assert message_with("unbalanced", **options).endswith(f"(recall of TAX 0.870): {already_set}")
    message = message_with("labels_never_found", **options, label_weight={"TIP": 2})
    assert message.endswith(
        ": label more of their entities; "
        "--class-weights, --label-weight, --balanced-sampling, --o-entity-ratio are already set"
    )

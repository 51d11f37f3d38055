"""Scores: flat in documents, and model selection by them."""

import json

import pytest
from pydantic import ValidationError

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.metric_names import Guard, check_metric, parse_guard
from receipt_layoutlm.run.events import Evaluation
from receipt_layoutlm.run.scores import LabelScore, headline_name, meets

NAMES = WordLabelsConfig.metrics


def evaluation(f1: float = 0.5, loss: float = 0.3, total: float = 0.25) -> Evaluation:
    return Evaluation(
        global_step=1, epoch=1.0, metric_name="eval_f1", metric_value=f1,
        scores={"precision": 0.6, "recall": 0.4, "f1": f1},
        per_label={"GRAND_TOTAL": LabelScore(precision=0.2, recall=0.1, f1=total, support=4)},
        train_loss=0.2, eval_loss=loss, lr=1e-5, is_best=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["f1", "macro_f1", "field_f1", "loss", "recall_GRAND_TOTAL", "f1_A.b-C"])
def test_names_are_taken_with_and_without_eval_before_them(name: str) -> None:
    assert check_metric(name, NAMES) == check_metric(f"eval_{name}", NAMES) == name


@pytest.mark.parametrize("name", ["accuracy", "f2", "f1_", "loss_DATE", ""])
def test_an_unknown_metric_is_an_error_that_names_the_others(name: str) -> None:
    with pytest.raises(ValueError, match=r"f1, macro_f1, field_f1, precision, recall, loss.*f1_GRAND_TOTAL"):
        check_metric(name, NAMES)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("f1", 0.5), ("precision", 0.6), ("f1_GRAND_TOTAL", 0.25), ("recall_GRAND_TOTAL", 0.1), ("f1_TIP", 0.0),
     ("loss", -0.3), ("macro_f1", 0.0)],
)  # fmt: skip
def test_each_metric_has_its_value_and_greater_is_better(name: str, expected: float) -> None:
    assert evaluation().value(name) == expected


def test_a_lower_loss_is_a_better_headline() -> None:
    assert headline_name("loss") == "negative_eval_loss"
    assert evaluation(loss=0.1).value("loss") > evaluation(loss=0.2).value("loss")


def test_a_guard_is_read_whatever_its_spaces() -> None:
    assert parse_guard("f1>=0.98*best") == parse_guard(" eval_f1 >= 0.98 * best ") == Guard("f1", 0.98)


@pytest.mark.parametrize("text", ["f1>0.98*best", "f1>=1.2*best", "f1>=best", "loss>=0.9*best", "f1>=0*best"])
def test_what_is_no_guard_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="guard"):
        parse_guard(text)


def test_a_guard_compares_with_the_best_so_far_not_with_the_last() -> None:
    guard, history = Guard("f1", 0.9), [evaluation(0.8), evaluation(0.4)]
    assert meets(guard, history, evaluation(0.73))
    assert not meets(guard, history, evaluation(0.71))
    assert meets(guard, [], evaluation(0.0))


def test_scores_are_flat_in_documents_and_read_from_them() -> None:
    seen = evaluation().model_copy(update={"breakdowns": {"seen": {"DATE": 3}}})
    document = json.loads(seen.model_dump_json())
    assert (document["f1"], document["recall"], document["seen"]) == (0.5, 0.4, {"DATE": 3})
    assert not document.keys() & {"scores", "breakdowns"}
    assert Evaluation.model_validate(document) == seen


def test_a_document_of_an_earlier_version_has_null_where_nothing_was_measured() -> None:
    document = json.loads(evaluation().model_dump_json()) | {"field_f1": None, "ece": None, "seen": {}}
    assert Evaluation.model_validate(document).scores == evaluation().scores


def test_a_score_that_is_no_number_is_an_error() -> None:
    with pytest.raises(ValidationError, match="f1"):
        Evaluation.model_validate(json.loads(evaluation().model_dump_json()) | {"f1": "much"})

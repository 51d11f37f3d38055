"""Findings by whole curves: at most one, none while the score rises, none in the first epochs, each with its remedy."""

from collections.abc import Sequence

import pytest

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.check_report import Finding
from receipt_layoutlm.run.events import Evaluation
from receipt_layoutlm.run.scores import LabelScore
from receipt_layoutlm.training.tasks.word_labels.findings import findings

STEPS = 50  # of an epoch


def row(recall: float, support: int) -> LabelScore:
    return LabelScore(precision=recall, recall=recall, f1=recall, support=support)


def at(epoch: int, f1: float, eval_loss: float = 1.0, train_loss: float | None = 1.0, **values: object) -> Evaluation:
    """An evaluation without oddities, but for the values given."""
    healthy = {
        "metric_name": "eval_f1",
        "metric_value": f1,
        "f1": f1,
        "train_f1": f1,
        "precision": f1,
        "recall": f1,
        "per_label": {"TAX": row(0.8, 10)},
        "lr": 1e-4,
        "confusion": {"O": {"O": 90}, "TAX": {"TAX": 10}},
        "predicted_labels": {"O": 90, "TAX": 10},
        "is_best": False,
    }
    fixed = {"global_step": epoch * STEPS, "epoch": epoch, "train_loss": train_loss, "eval_loss": eval_loss}
    return Evaluation.model_validate({**healthy, **fixed, **values})


def curve(scores: Sequence[float], losses: Sequence[float] = (), **latest: object) -> list[Evaluation]:
    """One evaluation an epoch, with a training loss that falls; `latest` holds for the last one."""
    history = [
        at(number, f1, losses[number - 1] if losses else 1 / number, 1 / number) for number, f1 in enumerate(scores, 1)
    ]
    last = history[-1].model_dump() | latest
    return [*history[:-1], Evaluation.model_validate(last)]


def found(history: list[Evaluation], epochs: int = 20, **options: object) -> Finding | None:
    """The one finding of a run with these options, if any."""
    options = {"pretrained": "minilm", "lr": 4e-4, **options, "epochs": epochs}
    several = findings(history, WordLabelsConfig.model_validate(options))
    assert len(several) <= 1
    return several[0] if several else None


def remedy(history: list[Evaluation], epochs: int = 20, **options: object) -> tuple[str, dict[str, object]]:
    finding = found(history, epochs, **options)
    assert finding is not None
    return finding.check, dict(finding.remedy)


RISING = [0.01, 0.27, 0.46, 0.59]
FALLING = [0.40, 0.60, 0.71, 0.72, 0.70, 0.69, 0.67]
RISING_LOSS = [0.5, 0.3, 0.2, 0.22, 0.24, 0.26, 0.28]
FLAT = [0.40, 0.60, 0.71, 0.712, 0.711, 0.713, 0.712, 0.711]


@pytest.mark.parametrize("evaluations", range(1, 5))
def test_a_rising_score_is_left_alone_whatever_the_evaluation_loss_does(evaluations: int) -> None:
    losses = [0.2, 0.3, 0.4, 0.5][:evaluations]

    assert found(curve(RISING[:evaluations], losses, train_f1=0.99)) is None


def test_no_run_with_a_rising_score_is_told_to_train_less() -> None:
    history = curve([*RISING, 0.66, 0.71], [0.2, 0.3, 0.4, 0.5, 0.6, 0.7], train_f1=1.0, per_label={"TIP": row(0, 3)})

    assert found(history) is None
    assert remedy(history, epochs=6) == ("still_rising", {"epochs": 12})


def test_a_score_that_still_rises_at_the_end_asks_for_more_epochs() -> None:
    finding = found(curve(RISING), epochs=4)

    assert finding is not None and finding.remedy == {"epochs": 8}
    assert finding.message == "the score still rose when the run ended (0.01, 0.27, 0.46, 0.59): try --epochs 8"


def test_pretraining_epochs_count_as_epochs_of_the_run() -> None:
    config = WordLabelsConfig(epochs=4)

    assert findings(curve(RISING), config, pretraining_epochs=3) == []
    (finding,) = findings(curve([*RISING, 0.66, 0.71, 0.75]), config, pretraining_epochs=3)
    assert finding.remedy == {"epochs": 8}


def test_overfitting_is_a_falling_score_with_a_rising_loss_and_augmentation_comes_first() -> None:
    finding = found(curve(FALLING, RISING_LOSS))

    assert finding is not None and finding.check == "overfitting"
    assert finding.message == (
        "since step 200 the score fell from 0.720 to 0.670, and since step 150 the evaluation loss rose from 0.2000 to "
        "0.2800: try --augment entities,drop,ocr,boxes"
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"augment": ["ocr"]}, {"early_stopping_patience": 3}),
        ({"augment": ["ocr"], "early_stopping_patience": 2}, {"dropout": 0.2}),
        ({"augment": ["ocr"], "early_stopping_patience": 2, "dropout": 0.3}, {}),
    ],
)
def test_an_option_that_is_set_is_not_advised_again(options: dict[str, object], expected: dict[str, object]) -> None:
    assert remedy(curve(FALLING, RISING_LOSS), **options) == ("overfitting", expected)


def test_where_every_option_is_set_the_advice_is_about_the_data() -> None:
    finding = found(curve(FALLING, RISING_LOSS), augment=["ocr"], early_stopping_patience=2, dropout=0.3)

    assert finding is not None and finding.message.endswith(": add pages of other merchants")


def test_a_score_that_falls_while_the_loss_falls_is_noise() -> None:
    assert found(curve(FALLING[:6])) is None


def test_training_pages_that_score_much_higher_are_overfitting_once_the_score_is_flat() -> None:
    assert remedy(curve(FLAT, train_f1=0.95))[0] == "overfitting"
    assert remedy(curve(FLAT, train_f1=FLAT[-1] + 0.1))[0] == "plateau"  # the tolerated gap, exactly


def test_a_loss_that_rises_at_a_flat_score_asks_for_label_smoothing() -> None:
    losses = [0.5, 0.3, 0.2, 0.22, 0.24, 0.26, 0.28, 0.30]

    assert remedy(curve(FLAT, losses)) == ("evaluation_loss_rising", {"label_smoothing": 0.1})
    check, options = remedy(curve(FLAT, losses), label_smoothing=0.1)
    assert (check, options) == ("evaluation_loss_rising", {"early_stopping_patience": 3})


def test_a_plateau_asks_for_early_stopping_unless_it_is_on_or_the_score_is_high() -> None:
    assert remedy(curve(FLAT)) == ("plateau", {"early_stopping_patience": 3})
    assert found(curve(FLAT), early_stopping_patience=5) is None
    assert found(curve([0.9, 0.95, 0.98, 0.98, 0.98, 0.98, 0.98])) is None


def test_a_poor_plateau_asks_for_the_usual_learning_rate() -> None:
    poor = [0.05, 0.10, 0.11, 0.11, 0.112, 0.111, 0.111]

    assert remedy(curve(poor), lr=5e-5) == ("plateau", {"lr": 4e-4})
    assert remedy(curve(poor), pretrained="some/base", lr=1e-3) == ("plateau", {"lr": 5e-5})


ALL_O = {"collapsed": True, "predicted_labels": {"O": 100}, "per_label": {"TAX": row(0, 5)}}


def test_a_collapsed_model_has_one_finding_and_the_learning_rate_comes_first() -> None:
    history = curve([0.0] * 6, **ALL_O)

    finding = found(history, lr=1e-2)
    assert finding is not None and finding.line == "collapsed: every word is predicted as O: try --lr 0.0004"
    assert remedy(history, lr=1e-5) == ("collapsed", {"lr": 4e-4})
    assert remedy(history) == ("collapsed", {"o_entity_ratio": 2.0})
    assert remedy(history, o_entity_ratio=3.0) == ("collapsed", {"epochs": 40})


def test_a_model_that_collapses_after_it_had_learned_asks_for_half_the_learning_rate() -> None:
    assert remedy(curve([*FALLING, 0.0], **ALL_O)) == ("collapsed", {"lr": 2e-4})


def test_a_model_that_has_not_begun_to_learn_is_not_called_collapsed() -> None:
    assert found(curve([0.0, 0.0, 0.0], **ALL_O)) is None
    assert found(curve([0.0] * 9, **ALL_O), epochs=40, warmup_ratio=0.25) is None  # warm-up is not over


def test_collapsed_before_and_healthy_now_is_healthy() -> None:
    history = [at(1, 0.0, collapsed=True), *curve([0.0, 0.5, 0.7, 0.75, 0.8])[1:]]

    assert found(history) is None


def test_a_run_of_a_few_steps_asks_for_more_epochs_and_nothing_else() -> None:
    assert remedy(curve([0.3]), epochs=1) == ("too_short", {"epochs": 2})
    assert remedy(curve([0.0], **ALL_O), epochs=1) == ("collapsed", {"epochs": 2})
    assert found(curve([0.97]), epochs=1) is None


def test_labels_never_found_name_the_first_option_that_is_not_set() -> None:
    labels = {"per_label": {"TAX": row(0, 7), "TIP": row(0, 3), "DATE": row(0.9, 9), "NONE": row(0, 0)}}
    history = curve(FLAT, **labels)

    finding = found(history)
    assert finding is not None and finding.examples == ("TAX", "TIP")
    assert finding.line == (
        "labels_never_found: recall is 0 for TAX (support 7), TIP (support 3): try --class-weights sqrt-inverse"
    )
    weighted = {"class_weights": "balanced"}
    assert remedy(history, **weighted)[1] == {"label_weight": {"TIP": 2.0}}
    both = {**weighted, "label_weight": {"TIP": 4.0, "TAX": 2.0}}
    assert remedy(history, **both)[1] == {"balanced_sampling": True}
    assert remedy(history, **both, balanced_sampling=True)[1] == {"o_entity_ratio": 2.0}
    every = found(history, **both, balanced_sampling=True, o_entity_ratio=2.0)
    assert every is not None and every.message.endswith(": label more of their entities")


def words(recall_of_tax: int) -> dict[str, dict[str, int]]:
    return {"O": {"O": 900}, "TAX": {"O": 100 - recall_of_tax, "TAX": recall_of_tax}}


def test_classes_are_unbalanced_from_five_points_on() -> None:
    finding = found(curve(FLAT, confusion=words(87)))  # 0.987 of words, 0.935 of classes: 5.2 points

    assert finding is not None and finding.check == "unbalanced"
    assert "(recall of TAX 0.870): try --class-weights sqrt-inverse" in finding.message
    assert remedy(curve(FLAT, confusion=words(88)))[0] == "plateau"  # 4.8 points
    assert remedy(curve(FLAT, confusion={"O": {"O": 75}, "TAX": {"TAX": 20, "O": 5}}))[0] == "unbalanced"  # exactly


def test_the_score_is_the_headline_and_f1_where_that_is_a_loss() -> None:
    negative = [each.model_copy(update={"metric_value": -each.eval_loss}) for each in curve(RISING)]

    assert remedy(negative, epochs=4, metric_for_best="loss")[0] == "still_rising"


def test_a_run_without_evaluations_or_with_unknown_losses_has_no_finding() -> None:
    assert findings([], WordLabelsConfig()) == []
    unknown = [each.model_copy(update={"train_loss": None}) for each in curve(FALLING, RISING_LOSS)]
    assert found(unknown) is None

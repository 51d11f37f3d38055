"""When an evaluation is due, when a run is over, and which options make it another run."""

from datetime import UTC, datetime

import pytest

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.run.events import Evaluation
from receipt_layoutlm.run.state import Plan, TrainState, config_hash, end_reason

EPOCHS = Plan(steps_per_epoch=4, total_steps=8, evaluation_steps=None, patience=2)


def due_steps(plan: Plan) -> list[int]:
    state = TrainState(config_hash="h")
    due = []
    for _ in range(plan.total_steps):
        state.step_done(plan, loss=1.0, count=1)
        if state.evaluation_due:
            due.append(state.global_step)
    return due


def evaluation(state: TrainState, value: float) -> Evaluation:
    return Evaluation(
        time=datetime(2026, 1, 1, tzinfo=UTC),
        global_step=state.global_step,
        epoch=0.0,
        metric_name="eval_f1",
        metric_value=value,
        precision=value,
        recall=value,
        per_label={},
        train_loss=state.train_loss,
        eval_loss=0.1,
        lr=0.1,
        is_best=state.is_new_best(value),
    )


@pytest.mark.parametrize(("every", "due"), [(None, [4, 8]), (3, [3, 6, 8]), (100, [8])])
def test_an_evaluation_is_due_in_its_rhythm_and_at_the_end(every: int | None, due: list[int]) -> None:
    assert due_steps(Plan(steps_per_epoch=4, total_steps=8, evaluation_steps=every, patience=None)) == due


def test_the_position_in_the_epoch_follows_the_steps() -> None:
    state = TrainState(config_hash="h")
    for _ in range(5):
        state.step_done(EPOCHS, loss=1.0, count=1)
    assert (state.global_step, state.epoch, state.step_in_epoch) == (5, 1, 1)


def test_the_train_loss_is_the_mean_per_word_since_the_last_evaluation() -> None:
    state = TrainState(config_hash="h")
    assert state.train_loss is None
    state.step_done(EPOCHS, loss=3.0, count=1)
    state.step_done(EPOCHS, loss=1.0, count=3)
    assert state.train_loss == 1.0
    state.record(evaluation(state, 0.5))
    state.step_done(EPOCHS, loss=8.0, count=2)
    assert state.train_loss == 4.0


def test_the_best_is_the_earliest_of_the_highest_and_patience_counts_the_rest() -> None:
    state = TrainState(config_hash="h")
    seen = []
    for value in (0.1, 0.5, 0.5, 0.4):
        state.step_done(EPOCHS, loss=1.0, count=1)
        state.record(evaluation(state, value))
        seen.append((state.best_step, state.evaluations_without_best, end_reason(state, EPOCHS)))
    assert seen == [(1, 0, None), (2, 0, None), (2, 1, None), (2, 2, "early_stopped")]


def test_a_run_that_did_all_its_steps_is_completed() -> None:
    assert end_reason(TrainState(config_hash="h", global_step=8, evaluations_without_best=9), EPOCHS) == "completed"


def test_weights_are_the_best_only_once_they_are_evaluated() -> None:
    assert TrainState(config_hash="h", global_step=4, best_step=4).is_at_best
    assert not TrainState(config_hash="h", global_step=5, best_step=4).is_at_best
    assert not TrainState(config_hash="h", global_step=4, best_step=4, evaluation_due=True).is_at_best


SAME = [
    {"work_dir": "/elsewhere"},
    {"device": "cpu"},
    {"batch_size": 4, "gradient_accumulation_steps": 2},
    {"eval_batch_size": 3},
    {"checkpoint_every": 5},
    {"keep_checkpoints": 5},
    {"hang_timeout": 50},
    {"max_runtime": 5},
    {"logging_steps": 3},
    {"dataset": "renamed"},
]
OTHER = [{"seed": 1}, {"lr": 1e-3}, {"batch_size": 4}, {"epochs": 11}, {"label_smoothing": 0.1}, {"eval_every": 7}]


@pytest.mark.parametrize("options", SAME, ids=str)
def test_places_and_micro_batches_leave_a_run_the_same(options: dict[str, object]) -> None:
    assert config_hash(WordLabelsConfig.model_validate(options), ["f"]) == config_hash(WordLabelsConfig(), ["f"])


@pytest.mark.parametrize("options", OTHER, ids=str)
def test_what_decides_the_weights_makes_another_run(options: dict[str, object]) -> None:
    assert config_hash(WordLabelsConfig.model_validate(options), ["f"]) != config_hash(WordLabelsConfig(), ["f"])


def test_other_pages_make_another_run() -> None:
    assert config_hash(WordLabelsConfig(), ["f"]) != config_hash(WordLabelsConfig(), ["g"])

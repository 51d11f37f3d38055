"""Which evaluations are shown after resumed attempts, and how rows of the original system are folded."""

from datetime import UTC, datetime

import pytest

from receipt_dynamo import Attempt, JobMetric
from receipt_dynamo.metrics_view import OriginalValue, evaluation_from, fold_original_rows, visible
from tests.support import original_system

ID = "07c8c4eb-34cc-4beb-bdc2-0d1a0d77c6ab"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def evaluated(attempt: int | None, step: int | None) -> JobMetric:
    return JobMetric(
        job_id=ID, timestamp=NOON, metric_name="eval_f1", metric_value=0.5, attempt=attempt, global_step=step
    )


def resumed(*steps: int) -> list[Attempt]:
    """Attempts 1, 2, … by the step that each one resumed from."""
    return [
        Attempt(job_id=ID, attempt=number, worker_id="w", started_at=NOON, resume_step=step)
        for number, step in enumerate(steps, start=1)
    ]


@pytest.mark.parametrize(
    ("attempt", "step", "resume_steps", "shown"),
    [
        (1, 100, (0,), True),  # the only attempt
        (1, 100, (0, 100), True),  # inside the checkpoint that attempt 2 resumed from
        (1, 101, (0, 100), False),  # after it: attempt 2 ran the step again
        (2, 101, (0, 100), True),
        (1, 100, (0, 0), False),  # attempt 2 started over
        (1, 50, (0, 100, 50), True),
        (2, 80, (0, 100, 50), False),  # attempt 3 fell back to an earlier checkpoint
        (1, 80, (0, 100, 50), False),  # every later attempt counts, not the next one only
        (3, 80, (0, 100, 50), True),
        (None, 80, (0, 0), True),  # a row of the original system
        (1, None, (0, 0), True),
    ],
)
def test_an_evaluation_is_shown_iff_no_later_attempt_resumed_before_it(
    attempt: int | None, step: int | None, resume_steps: tuple[int, ...], shown: bool
) -> None:
    metric = evaluated(attempt, step)
    assert visible([metric], resumed(*resume_steps)) == ([metric] if shown else [])


def test_visible_evaluations_keep_their_order() -> None:
    history = [evaluated(1, 10), evaluated(1, 20), evaluated(1, 30), evaluated(2, 30), evaluated(2, 40)]
    shown = visible(history, resumed(0, 20))
    assert [(metric.attempt, metric.global_step) for metric in shown] == [(1, 10), (1, 20), (2, 30), (2, 40)]


def row(name: str, value: object, second: int, **place: int) -> OriginalValue:
    at = f"2025-03-01T12:00:{second:02d}"
    stored = {"M": value} if isinstance(value, dict) else {"N": str(value)}
    value_of = evaluation_from(original_system.metric(ID, name, stored, at, **place))
    assert isinstance(value_of, OriginalValue)
    return value_of


def test_the_rows_of_one_step_become_one_evaluation_whose_headline_is_val_f1() -> None:
    support = {"DATE": {"N": "12"}}
    confusion = {"labels": {"L": [{"S": "O"}]}, "matrix": {"L": [{"L": [{"N": "3"}]}]}}
    (metric,) = fold_original_rows(
        ID,
        [
            row("eval_loss", 9.5, 1, step=10),
            row("val_f1", 0.75, 2, step=10, epoch=1),
            row("val_precision", 0.5, 3, step=10),
            row("support", support, 4, step=10),
            row("confusion_matrix", confusion, 5, step=10),
            row("eval_runtime", 3, 6, step=10),
        ],
    )
    assert (metric.metric_name, metric.metric_value) == ("val_f1", 0.75)
    assert (metric.eval_loss, metric.precision, metric.recall) == (9.5, 0.5, None)
    assert (metric.global_step, metric.epoch) == (10, 1)
    assert metric.timestamp == datetime(2025, 3, 1, 12, 0, 2, tzinfo=UTC)
    assert metric.extras == {
        "support": {"DATE": 12},
        "confusion_matrix": {"labels": ["O"], "matrix": [[3]]},
        "eval_runtime": 3,
    }


def test_a_step_without_val_f1_is_no_evaluation_so_a_loss_never_wins() -> None:
    rows = [row("train_loss", 99, 1, step=5), row("val_f1", 0.25, 2, step=10), row("eval_loss", 7, 3, step=10)]
    assert [metric.metric_value for metric in fold_original_rows(ID, rows)] == [0.25]


def test_rows_without_a_step_are_grouped_by_epoch_and_else_by_time() -> None:
    rows = [
        row("val_f1", 0.25, 1, epoch=1),
        row("eval_loss", 3, 2, epoch=1),
        row("val_f1", 0.5, 3),
        row("eval_loss", 2, 3),
        row("eval_loss", 1, 4),
    ]
    folded = fold_original_rows(ID, rows)
    assert [(metric.metric_value, metric.eval_loss) for metric in folded] == [(0.25, 3), (0.5, 2)]


def test_a_zero_val_f1_is_an_evaluation() -> None:
    assert [metric.metric_value for metric in fold_original_rows(ID, [row("val_f1", 0, 1, step=1)])] == [0.0]

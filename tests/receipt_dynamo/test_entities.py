"""Records: times, statuses, priorities, budgets and waits."""

import random
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from receipt_dynamo import Attempt, Budgets, InvalidInput, JobError, JobMetric, JobStatus, Machine, Priority, Timing
from receipt_dynamo.entities import FINAL_CAUSES, later, parse_job_id, parse_status

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def metric(**fields: object) -> JobMetric:
    known = {"job_id": "j", "timestamp": NOON, "metric_name": "eval_f1", "metric_value": 0.5}
    return JobMetric.model_validate(known | fields)


def test_a_naive_time_means_utc_and_every_time_ends_up_in_utc() -> None:
    naive = datetime.fromisoformat("2026-05-01T12:00:00")
    paris = datetime(2026, 5, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    assert metric(timestamp=naive).timestamp == NOON
    assert metric(timestamp=paris).timestamp.tzinfo is UTC


def test_records_are_frozen_and_refuse_unknown_fields() -> None:
    with pytest.raises(ValidationError):
        metric().metric_value = 1.0
    with pytest.raises(ValidationError):
        metric(f1=0.5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_headline_of_an_evaluation_is_finite(value: float) -> None:
    with pytest.raises(ValidationError):
        metric(metric_value=value)


def test_a_job_is_claimable_or_running_or_final() -> None:
    claimable = {status for status in JobStatus if status.is_claimable}
    final = {status for status in JobStatus if status.is_final}
    assert claimable == {JobStatus.PENDING, JobStatus.INTERRUPTED}
    assert final == {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED}
    assert set(JobStatus) - claimable - final == {JobStatus.RUNNING}


def test_critical_jobs_rank_first() -> None:
    ranked = sorted(Priority, key=lambda priority: priority.rank)
    assert ranked == [Priority.CRITICAL, Priority.HIGH, Priority.MEDIUM, Priority.LOW]


@pytest.mark.parametrize("status", ["", "done", "PENDING"])
def test_an_unknown_status_is_a_value_error_that_lists_the_known_ones(status: str) -> None:
    with pytest.raises(InvalidInput, match="interrupted") as refused:
        parse_status(status)
    assert isinstance(refused.value, ValueError)


def test_a_job_id_is_a_uuid_in_one_spelling() -> None:
    spelled = "07C8C4EB-34CC-4BEB-BDC2-0D1A0D77C6AB"
    assert parse_job_id(spelled) == spelled.lower()
    with pytest.raises(InvalidInput, match="not-an-id"):
        parse_job_id("not-an-id")


def test_the_later_event_is_one_microsecond_later() -> None:
    assert later(metric()).timestamp - NOON == timedelta(microseconds=1)


def test_the_cost_of_an_attempt_needs_a_price_and_an_end() -> None:
    attempt = Attempt(job_id="j", attempt=1, worker_id="w", started_at=NOON, machine=Machine(price_per_hour=0.5))
    assert attempt.cost is None
    ended = attempt.model_copy(update={"ended_at": NOON + timedelta(minutes=30)})
    assert ended.cost == pytest.approx(0.25)
    assert ended.model_copy(update={"machine": Machine()}).cost is None


def after(*causes: str, progressed: bool = True) -> Budgets:
    budgets = Budgets()
    for cause in causes:
        if cause == "interruption":
            budgets = budgets.after_interruption(progressed=progressed)
        else:
            budgets = budgets.after_error(cause, progressed=progressed)
    return budgets


def test_a_job_that_progresses_survives_four_errors_and_twenty_interruptions() -> None:
    assert after(*["unknown"] * 4, *["interruption"] * 20).exhausted_by is None
    assert after(*["unknown"] * 5).exhausted_by == "5 errors"
    assert after(*["interruption"] * 21).exhausted_by == "21 interruptions"


def test_a_job_without_progress_is_given_up_after_three_errors_or_five_interruptions_in_a_row() -> None:
    assert after(*["unknown"] * 2, progressed=False).exhausted_by is None
    assert "3 errors in a row" in str(after(*["unknown"] * 3, progressed=False).exhausted_by)
    assert after(*["interruption"] * 4, progressed=False).exhausted_by is None
    assert "5 interruptions in a row" in str(after(*["interruption"] * 5, progressed=False).exhausted_by)


def test_a_new_checkpoint_ends_both_rows_and_gives_no_budget_back() -> None:
    stuck = after("unknown", "unknown", "interruption", progressed=False)
    assert (stuck.errors_in_a_row, stuck.interruptions_in_a_row) == (2, 1)
    moved = stuck.after_interruption(progressed=True)
    assert (moved.errors_in_a_row, moved.interruptions_in_a_row) == (0, 1)
    assert (moved.errors, moved.interruptions) == (2, 2)


@pytest.mark.parametrize("causes", [("out_of_memory",) * 2, ("out_of_memory", "unknown", "out_of_memory")])
def test_running_out_of_memory_twice_is_enough(causes: tuple[str, ...]) -> None:
    assert after(*causes[:-1]).exhausted_by is None
    assert after(*causes).exhausted_by == "running out of memory twice"


@given(st.lists(st.tuples(st.booleans(), st.booleans())))
def test_errors_and_interruptions_are_counted_apart(ends: list[tuple[bool, bool]]) -> None:
    budgets = Budgets()
    for is_error, progressed in ends:
        if is_error:
            budgets = budgets.after_error("unknown", progressed=progressed)
        else:
            budgets = budgets.after_interruption(progressed=progressed)
    errors = sum(is_error for is_error, _ in ends)
    assert (budgets.errors, budgets.interruptions) == (errors, len(ends) - errors)
    assert budgets.errors_in_a_row <= budgets.errors
    assert budgets.interruptions_in_a_row <= budgets.interruptions


def test_causes_that_would_come_again_are_not_retried() -> None:
    assert all(not JobError(cause=cause, message="").is_retryable for cause in FINAL_CAUSES)
    assert JobError(cause="device_error", message="").is_retryable


@pytest.mark.parametrize(("errors", "longest"), [(1, 30), (2, 60), (3, 120), (7, 1800), (60, 1800)])
def test_the_wait_after_an_error_is_jittered_under_a_bound_that_doubles_up_to_half_an_hour(
    errors: int, longest: int
) -> None:
    rng = random.Random(0)
    waits = [Timing().backoff(errors, rng).total_seconds() for _ in range(200)]
    assert 0 <= min(waits) < 0.1 * longest
    assert 0.9 * longest < max(waits) <= longest

"""The attempts of a job as rows: waits, phases, steps, losses, cost. Records in, rows out; no store."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from receipt_dynamo import Attempt, Job, JobStatus, Lease, Machine, Pointer
from receipt_layoutlm.jobs.timeline import Timeline, timeline

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
JOB_ID = "6f6a1c1e-8f57-4d2a-9f0e-2c7a1f0f3b11"


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def a_job(status: str = "running", **more: object) -> Job:
    given = {"job_id": JOB_ID, "name": "mine", "created_at": NOON, "created_by": "me", "job_config": {}, **more}
    return Job.model_validate({"status": JobStatus(status), **given})


def attempt(number: int, start: float, end: float | None, **more: object) -> Attempt:
    given = {"job_id": JOB_ID, "attempt": number, "worker_id": f"worker-{number}", "started_at": at(start), **more}
    return Attempt.model_validate({"ended_at": None if end is None else at(end), **given})


def at_step(step: int, number: int = 1, **more: object) -> Lease:
    pointer = Pointer(attempt=number, global_step=step, manifest_sha256="0" * 64)
    return Lease.model_validate({"job_id": JOB_ID, "attempt": number, "checkpoint": pointer, **more})


def of(*attempts: Attempt, job: Job | None = None, lease: Lease | None = None, now: float = 1000) -> Timeline:
    return timeline(job or a_job(), lease, attempts, at(now))


def test_the_wait_counts_from_the_submission_and_then_from_the_end_of_the_attempt_before() -> None:
    first = attempt(1, 20, 100, outcome="interrupted: spot notice")
    second = attempt(2, 160, 300, outcome="succeeded")

    told = of(first, second, job=a_job("succeeded", ended_at=at(300)))

    assert [row.wait_seconds for row in told.rows] == [20, 60]
    assert [row.running_seconds for row in told.rows] == [80, 140]


def test_running_and_waiting_make_up_the_wall_time_which_stands_still_once_the_job_has_ended() -> None:
    attempts = (attempt(1, 20, 100, outcome="failed: killed"), attempt(2, 160, 300, outcome="succeeded"))

    totals = of(*attempts, job=a_job("succeeded", ended_at=at(300)), now=9000).totals

    assert (totals.wall_seconds, totals.running_seconds, totals.waiting_seconds) == (300, 220, 80)


def test_a_job_that_waits_for_its_next_attempt_goes_on_waiting() -> None:
    totals = of(attempt(1, 20, 100, outcome="interrupted: x"), job=a_job("interrupted"), now=400).totals

    assert (totals.wall_seconds, totals.running_seconds, totals.waiting_seconds) == (400, 80, 320)


def test_a_job_that_was_never_claimed_has_no_rows_and_has_waited_all_the_time() -> None:
    told = of(job=a_job("pending"), now=50)

    assert told.rows == ()
    assert (told.totals.waiting_seconds, told.totals.cost, told.totals.is_at_least) == (50, None, False)


def test_clocks_that_disagree_give_no_negative_times() -> None:
    (row,) = of(attempt(1, -5, -7, outcome="succeeded")).rows

    assert (row.wait_seconds, row.running_seconds) == (0, 0)


def test_a_running_attempt_is_as_far_as_its_worker_last_said_and_costs_what_it_has_cost_so_far() -> None:
    running = attempt(1, 0, None, machine=Machine(instance_type="g5.xlarge", spot=True, price_per_hour=0.36))

    (row,) = of(running, lease=at_step(100, progress=json.dumps(["train", 120, 400, 3.0])), now=1000).rows

    assert (row.last_step, row.is_at_least, row.lost_steps, row.outcome) == (120, True, None, None)
    assert (row.instance_type, row.spot) == ("g5.xlarge", True)
    assert row.cost == pytest.approx(0.1)


def test_costs_are_added_up_where_a_price_is_known() -> None:
    priced = attempt(1, 0, 3600, outcome="interrupted: x", machine=Machine(price_per_hour=0.5))

    told = of(priced, attempt(2, 3600, 7200, outcome="succeeded"))

    assert [row.cost for row in told.rows] == [0.5, None]
    assert told.totals.cost == 0.5


def test_a_rescued_attempt_lost_at_least_the_steps_between_its_last_word_and_where_the_next_one_began() -> None:
    rescued = attempt(1, 0, 200, outcome="lease expired", progress=json.dumps(["train", 120, 400, 3.0]))

    told = of(rescued, attempt(2, 210, None, resume_step=100), lease=at_step(100))

    assert (told.rows[0].last_step, told.rows[0].lost_steps, told.rows[0].is_at_least) == (120, 20, True)
    assert (told.totals.lost_steps, told.totals.is_at_least) == (20, True)


def test_a_rescued_attempt_that_is_the_last_lost_what_lies_beyond_the_stored_checkpoint() -> None:
    progress = json.dumps(["train", 120, 400, 3.0])
    rescued = attempt(2, 0, 200, outcome="lease expired", progress=progress, resume_step=60)

    assert of(rescued, lease=at_step(100, 2)).rows[0].lost_steps == 20
    assert of(rescued, lease=at_step(60, 1)).rows[0].lost_steps == 60


def test_nothing_is_claimed_of_a_rescued_attempt_that_never_said_where_it_was() -> None:
    told = of(attempt(1, 0, 200, outcome="lease expired"), lease=at_step(0))

    assert (told.rows[0].last_step, told.rows[0].lost_steps) == (None, None)
    assert told.totals.is_at_least


def test_what_a_later_fall_back_to_an_earlier_checkpoint_lost_counts_too() -> None:
    first = attempt(1, 0, 100, outcome="interrupted: x", last_step=120, lost_steps=20)
    second = attempt(2, 100, 200, outcome="interrupted: x", last_step=130, lost_steps=0, resume_step=100)

    told = of(first, second, attempt(3, 200, None, resume_step=50), lease=at_step(50, 3))

    assert [row.lost_steps for row in told.rows] == [70, 30, None]  # of 1..120 and of 101..130: all beyond 50


def test_an_attempt_that_ended_itself_is_told_as_it_told_it() -> None:
    phases = {"start": 1.5, "train": 60.0, "upload": 2.0}
    ended = attempt(1, 0, 100, outcome="failed: killed", last_step=120, lost_steps=20, phase_seconds=phases)

    (row,) = of(ended, lease=at_step(100)).rows

    assert (row.last_step, row.lost_steps, row.is_at_least, row.phase_seconds) == (120, 20, False, phases)


def test_the_way_to_the_first_step_is_split_by_phase() -> None:
    phases = {"boot": 200.0, "prepare": 8.0, "start": 11.0, "encode": 20.0, "train": 60.0, "upload": 3.0}

    (row,) = of(attempt(1, 240, 340, outcome="interrupted: x", phase_seconds=phases)).rows

    assert (row.wait_seconds, row.phase_seconds["boot"]) == (240, 200)
    assert row.first_step_seconds == 240 + 8 + 11 + 20  # the boot is part of the wait


def test_an_attempt_that_never_trained_has_no_first_step() -> None:
    (row,) = of(attempt(1, 0, 5, outcome="interrupted: x", phase_seconds={"prepare": 1.0, "start": 2.0})).rows

    assert row.first_step_seconds is None

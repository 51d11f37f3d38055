"""Why a job is where it is: for each state what the stored facts say, and nothing that they do not."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from receipt_dynamo import (
    Attempt,
    Budgets,
    FleetRows,
    Job,
    JobError,
    JobQueue,
    JobStatus,
    Lease,
    Machine,
    Pointer,
    ServedQueue,
    Timing,
)
from receipt_layoutlm.jobs.why import why
from receipt_layoutlm.jobs.why_facts import Facts, facts_of
from receipt_layoutlm.jobs.wording import clock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
JOB_ID = "6f6a1c1e-8f57-4d2a-9f0e-2c7a1f0f3b11"


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def hour(seconds: float) -> str:
    return clock(at(seconds), NOON)


def a_job(status: str, **more: object) -> Job:
    given = {"job_id": JOB_ID, "name": "mine", "created_at": NOON, "created_by": "me", **more}
    return Job.model_validate(
        {"status": JobStatus(status), "job_config": {"config_version": 1, "batch_size": 8}, **given}
    )


def attempt(number: int = 1, start: float = 10, end: float | None = None, **more: object) -> Attempt:
    given = {"job_id": JOB_ID, "attempt": number, "worker_id": f"worker-{number}", "started_at": at(start), **more}
    return Attempt.model_validate({"ended_at": None if end is None else at(end), **given})


def pointer(step: int, number: int = 1) -> Pointer:
    return Pointer(attempt=number, global_step=step, manifest_sha256="0" * 64)


def unheld(number: int = 0, **more: object) -> Lease:
    return Lease.model_validate({"job_id": JOB_ID, "attempt": number, **more})


def held(number: int = 1, *, renewed: float = 10, **more: object) -> Lease:
    given = {"lease_token": "token", "worker_id": f"worker-{number}", "expires_at": at(renewed + 90)}
    return unheld(number, **{**given, **more})


def told(
    job: Job, lease: Lease | None, *attempts: Attempt, now: float = 60, ahead: int = 0, first: Job | None = None
) -> str:
    return why(Facts(job, lease, attempts, ahead, first, Timing(), at(now)))


DEVICE_ERROR = JobError(cause="device_error", message="CUDA error: an illegal\nmemory access")
FAILED_ONCE = Budgets(errors=1, errors_in_a_row=1)


def test_a_job_for_which_no_machine_comes_is_told_why_and_by_which_fleet() -> None:
    job = a_job("pending")
    served = ServedQueue(
        queue="default",
        fleet="night",
        seen_at=at(1200),
        unfilled_since=at(10),
        trouble="no machine came at 2026-01-01 12:19 UTC, because of a quota",
    )
    text = why(Facts(job, unheld(), (), 0, None, Timing(), at(1260), served))
    assert "Fleet night has ordered machines, and none has come since" in text
    assert "on-demand" not in text
    moved = why(Facts(a_job("pending", moved_at=at(20)), unheld(), (), 0, None, Timing(), at(60)))
    assert "It was moved to the queue of on-demand machines at" in moved and "goes back" in moved
    assert "no machine came at 2026-01-01 12:19 UTC, because of a quota." in text
    assert "Fleet" not in why(Facts(job, unheld(), (), 0, None, Timing(), at(1260)))


def test_what_a_fleet_saw_long_ago_is_not_told(queue: JobQueue) -> None:
    job = queue.submit(name="mine", config={"config_version": 1}, created_by="me")
    rows = FleetRows(queue.client)
    seen = ServedQueue(queue="default", fleet="night", seen_at=queue.now(), trouble="a quota")
    rows.put_served(seen)
    assert facts_of(queue, job.job_id).served == seen
    rows.put_served(seen.model_copy(update={"seen_at": queue.now() - timedelta(minutes=31)}))
    assert facts_of(queue, job.job_id).served is None


# pending


def test_a_job_that_nobody_took_is_next_in_line_when_nothing_is_before_it() -> None:
    assert told(a_job("pending"), unheld()) == (
        f"mine is pending: no worker has claimed it since it was submitted at {hour(0)} (1 min 00 s ago)."
        " It is first in queue default: the next free worker claims it (`layoutlm-cli worker run` starts one)."
        " Attempt 1 starts from the beginning."
    )


def test_a_job_in_another_queue_names_the_worker_that_would_take_it() -> None:
    assert "`layoutlm-cli worker run --queue 'gpu 1'` starts one" in told(a_job("pending", queue="gpu 1"), unheld())


def test_a_job_behind_others_says_how_many_and_which_is_first() -> None:
    first = a_job("interrupted", name="urgent", priority="high", created_at=at(-30))

    text = told(a_job("pending"), unheld(), ahead=2, first=first)

    assert (
        "2 due jobs are ahead of it in queue default, by priority and then by age;"
        f" the first is urgent (priority high, submitted {hour(-30)}). Its own priority is medium."
    ) in text
    assert "1 due job is ahead of it" in told(a_job("pending"), unheld(), ahead=1, first=first)


def test_a_job_that_was_submitted_with_a_checkpoint_says_where_it_starts() -> None:
    text = told(a_job("pending"), unheld(checkpoint=pointer(70, 0)))

    assert "Attempt 1 resumes from the checkpoint at step 70, with which it was submitted." in text


def test_a_job_that_this_version_cannot_run_says_so() -> None:
    text = told(a_job("pending", job_config={"config_version": 9}), unheld())

    assert "does not know its config_version 9" in text
    assert "config_version" not in told(a_job("pending"), unheld())


def test_a_job_that_waits_after_an_error_says_what_happened_until_when_and_what_comes_then() -> None:
    job = a_job("pending", attempt=2, error=DEVICE_ERROR, not_before=at(101), budgets=FAILED_ONCE)
    first = attempt(1, 10, 30, outcome="interrupted: spot notice", last_step=50, lost_steps=0)
    second = attempt(2, 31, 59, outcome="failed: device_error", last_step=150, lost_steps=30)

    text = told(job, unheld(2, checkpoint=pointer(120, 2)), first, second)

    assert text == (
        f"mine is pending: attempt 2 failed at {hour(59)}: the device (a GPU, for example) reported an error"
        ": CUDA error: an illegal memory access."
        f" It is retried at {hour(101)}, in 41 s, or as soon after that as a worker is free;"
        f" `layoutlm-cli job cancel {JOB_ID}` prevents that."
        " Attempt 3 resumes from the checkpoint at step 120 (lost: 30 steps of attempt 2)."
        " Attempts: 2 (1 interrupted, 1 failed)."
        " The job survives at most 3 more errors and 20 more interruptions."
    )


def test_once_the_wait_is_over_the_job_is_in_line_again() -> None:
    job = a_job("pending", attempt=1, error=DEVICE_ERROR, not_before=at(50), budgets=FAILED_ONCE)

    text = told(job, unheld(1), attempt(1, 10, 40, outcome="failed: device_error"))

    assert "attempt 1 failed" in text and "It is first in queue default" in text
    assert "tried again" not in text


def test_after_running_out_of_memory_the_next_attempt_runs_with_half_the_micro_batch() -> None:
    error = JobError(cause="out_of_memory", message="CUDA out of memory")
    budgets = Budgets(errors=1, errors_in_a_row=1, out_of_memory=1)
    job = a_job("pending", attempt=1, error=error, not_before=at(50), budgets=budgets)
    ended = attempt(1, 10, 40, outcome="failed: out_of_memory")

    text = told(job, unheld(1), ended)

    assert "Attempt 2 starts from the beginning and runs with half the micro-batch and twice the accumulation" in text
    assert "It fails after running out of memory once more." in text
    smallest = job.model_copy(update={"job_config": {"config_version": 1, "batch_size": 1}})
    assert "half" not in told(smallest, unheld(1), ended)


def test_a_job_on_its_last_error_says_so() -> None:
    ended = attempt(4, 10, 40, outcome="failed: killed")
    job = a_job("pending", attempt=4, error=DEVICE_ERROR, not_before=at(99))

    last_at_all = job.model_copy(update={"budgets": Budgets(errors=4, errors_in_a_row=1)})
    last_in_a_row = job.model_copy(update={"budgets": Budgets(errors=2, errors_in_a_row=2)})

    assert "survives at most 0 more errors" in told(last_at_all, unheld(4), ended)
    assert "It fails after one more error." in told(last_at_all, unheld(4), ended)
    assert "It fails after one more error before a new checkpoint." in told(last_in_a_row, unheld(4), ended)


def test_a_retried_job_says_that_somebody_put_it_back() -> None:
    job = a_job("pending", attempt=3, error=DEVICE_ERROR)

    text = told(job, unheld(3, checkpoint=pointer(5, 2)), attempt(3, 10, 40, outcome="failed: device_error"))

    assert text.startswith("mine is pending: it was retried by a person after attempt 3 failed: the device")
    assert "resumes from the checkpoint at step 5" in text


# interrupted


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        (
            attempt(1, 10, 40, outcome="interrupted: spot notice", lost_steps=2, last_step=9),
            "worker worker-1 released attempt 1 (spot notice)",
        ),
        (
            attempt(1, 10, 40, outcome="lease expired", progress=json.dumps(["train", 9, 20, 1.0])),
            "the lease of worker worker-1 on attempt 1 expired and the job was requeued",
        ),
    ],
)
def test_an_interrupted_job_says_what_ended_the_attempt_and_where_it_goes_on(ended: Attempt, reason: str) -> None:
    job = a_job("interrupted", attempt=1, budgets=Budgets(interruptions=1, interruptions_in_a_row=1))

    text = told(job, unheld(1, checkpoint=pointer(7)), ended)

    assert text.startswith(f"mine is interrupted, which is not an error: {reason} at {hour(40)}.")
    at_least = "at least " if ended.outcome == "lease expired" else ""
    assert f"Attempt 2 resumes from the checkpoint at step 7 (lost: {at_least}2 steps of attempt 1)." in text
    assert "survives at most 4 more errors and 19 more interruptions" in text


def test_an_interruption_that_cost_nothing_says_so() -> None:
    ended = attempt(1, 10, 40, outcome="interrupted: asked to stop", lost_steps=0, last_step=7)

    assert "step 7 (no steps lost)." in told(a_job("interrupted", attempt=1), unheld(1, checkpoint=pointer(7)), ended)


def test_what_a_silent_worker_did_is_not_guessed() -> None:
    text = told(a_job("interrupted", attempt=1), unheld(1), attempt(1, 10, 40, outcome="lease expired"))

    assert "Attempt 2 starts from the beginning." in text and "lost" not in text


def test_the_last_interruption_that_is_survived_is_named() -> None:
    job = a_job("interrupted", attempt=4, budgets=Budgets(interruptions=4, interruptions_in_a_row=4))

    text = told(job, unheld(4), attempt(4, 10, 40, outcome="interrupted: x"))

    assert "It fails after one more interruption before a new checkpoint." in text


# running


def test_a_running_job_says_who_holds_it_how_far_it_is_and_what_is_safe() -> None:
    machine = Machine(instance_type="g5.xlarge", spot=True, region="us-east-1")
    lease = held(renewed=56, progress=json.dumps(["train", 120, 400, 3.5]), checkpoint=pointer(100))

    assert told(a_job("running", attempt=1), lease, attempt(machine=machine)) == (
        f"mine is running: worker worker-1 (g5.xlarge, spot, us-east-1) has held attempt 1 since {hour(10)} (50 s ago),"
        f" and last renewed its lease at {hour(56)} (4 s ago)."
        " Last reported: training, step 120 of 400, epoch 3.5, 30 %."
        " The last checkpoint is at step 100: if this worker is lost, so are at least 20 steps."
    )


def test_a_job_that_was_just_claimed_has_told_nothing_yet() -> None:
    text = told(a_job("running", attempt=1), held(renewed=10), attempt(), now=12)

    assert "and has not renewed its lease yet." in text
    assert "It has not reported progress yet." in text
    assert "It has no checkpoint yet: if this worker is lost, it starts from the beginning." in text
    assert "should renew" not in text and "survives" not in text


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (["encode", 0, 0, 0.0], "encoding pages, step 0 of 0, epoch 0."),
        (["evaluate", 50, 200, 1.0], "evaluating, step 50 of 200, epoch 1, 25 %."),
    ],
)
def test_a_running_job_says_what_it_is_doing(progress: list[object], words: str) -> None:
    assert words in told(a_job("running", attempt=1), held(progress=json.dumps(progress)), attempt())


def test_a_cancel_is_told_with_what_follows_from_it() -> None:
    text = told(a_job("running", attempt=1), held(renewed=50, cancel_requested=True), attempt())

    assert "A cancel was requested: the worker sees it at its next renewal and stops" in text


def test_a_worker_that_misses_renewals_is_told_before_its_lease_runs_out() -> None:
    text = told(a_job("running", attempt=1), held(renewed=10), attempt(), now=60)

    assert f"It should renew every 15 s, so the worker may be in trouble; its lease expires at {hour(100)}." in text
    assert f"an idle worker can rescue the job from {hour(130)} on, in 1 min 10 s, or" in text


def test_a_lease_that_ran_out_says_from_when_on_the_job_is_rescued_and_what_comes_then() -> None:
    job, lease = a_job("running", attempt=1), held(renewed=10, checkpoint=pointer(7))

    in_grace, after_it = told(job, lease, attempt(), now=112), told(job, lease, attempt(), now=131)

    assert (
        f"Its lease expired at {hour(100)} (12 s ago): the worker died, hangs, or cannot reach the table." in in_grace
    )
    assert f"an idle worker can rescue the job from {hour(130)} on, in 18 s, or `layoutlm-cli rescue`" in in_grace
    assert "can rescue the job now, or `layoutlm-cli rescue`" in after_it
    assert "which watches the expired lease for 1 min 30 s before;" in after_it
    assert "it is then interrupted, and the next free worker resumes at step 7." in after_it


def test_a_rescue_ends_a_job_that_was_to_be_cancelled_or_has_no_interruption_left() -> None:
    spent = Budgets(interruptions=4, interruptions_in_a_row=4)
    silent = held(renewed=10)

    cancelled = told(a_job("running", attempt=1), held(cancel_requested=True), attempt(), now=200)
    failed = told(a_job("running", attempt=5, budgets=spent), held(5), attempt(5), now=200)
    progressed = told(a_job("running", attempt=1, budgets=spent), held(checkpoint=pointer(3)), attempt(), now=200)

    assert "it is then cancelled, as requested." in cancelled
    assert "it then fails, because its interruptions are used up." in failed
    assert "it is then interrupted" in progressed  # a new checkpoint ends the row
    assert "starts from the beginning" in told(a_job("running", attempt=1), silent, attempt(), now=200)


def test_a_running_job_says_how_the_attempt_before_ended_and_that_it_runs_with_half_the_micro_batch() -> None:
    error = JobError(cause="out_of_memory", message="CUDA out of memory")
    budgets = Budgets(errors=1, errors_in_a_row=1, out_of_memory=1)
    job = a_job("running", attempt=2, error=error, budgets=budgets)

    text = told(job, held(2, renewed=50), attempt(1, 10, 20, outcome="failed: out_of_memory"), attempt(2, 25))

    assert "Attempt 1 before it failed: it ran out of memory: CUDA out of memory." in text
    assert "This attempt runs with half the micro-batch" in text
    assert "Attempts: 2 (1 failed, 1 running)." in text


def test_an_error_of_long_ago_is_not_told_as_that_of_the_attempt_before() -> None:
    job = a_job("running", attempt=3, error=DEVICE_ERROR, budgets=FAILED_ONCE)
    attempts = (
        attempt(1, 10, 20, outcome="failed: device_error"),
        attempt(2, 25, 30, outcome="lease expired"),
        attempt(3, 35),
    )

    text = told(job, held(3, renewed=50), *attempts)

    assert "CUDA" not in text
    assert "Before that, the lease of worker worker-2 on attempt 2 expired" in text


@pytest.mark.parametrize(
    ("job", "lease"),
    [
        (a_job("running", attempt=1), unheld(1)),
        (a_job("pending"), held(1)),
        (a_job("interrupted", attempt=1), held(2)),
        (a_job("pending", attempt=0), unheld(1)),
    ],
)
def test_facts_from_two_sides_of_a_transition_are_not_told_as_one_state(job: Job, lease: Lease) -> None:
    assert told(job, lease) == "mine is changing state right now: ask again."


# ended


def test_a_succeeded_job_says_why_it_ended_how_good_it_is_and_where_the_model_lies() -> None:
    results = {
        "stop_reason": "early_stopped",
        "metric_name": "eval_f1",
        "metric_value": 0.91234,
        "best_global_step": 300,
        "best_uri": "s3://bucket/runs/x/attempt-002/best/",
    }
    attempts = (attempt(1, 10, 20, outcome="lease expired"), attempt(2, 25, 50, outcome="succeeded"))

    assert told(a_job("succeeded", attempt=2, results=results, ended_at=at(50)), unheld(2), *attempts) == (
        f"mine succeeded at {hour(50)} (10 s ago): early stopping ended it."
        " Its best evaluation: eval_f1 0.9123 at step 300."
        " Its model is at s3://bucket/runs/x/attempt-002/best/;"
        f" `layoutlm-cli job pull {JOB_ID} --to model-{JOB_ID[:8]}` downloads it."
        " Attempts: 2 (1 cut off when its lease expired, 1 succeeded)."
    )


def test_a_job_that_used_up_its_errors_says_which_budget_and_what_to_type() -> None:
    budgets = Budgets(errors=3, errors_in_a_row=3)
    job = a_job("failed", attempt=3, error=DEVICE_ERROR, budgets=budgets, ended_at=at(50))
    attempts = [attempt(number, 10, 20, outcome="failed: device_error") for number in (1, 2, 3)]

    assert told(job, unheld(3, checkpoint=pointer(40)), *attempts) == (
        f"mine failed at {hour(50)} (10 s ago): the device (a GPU, for example) reported an error"
        ": CUDA error: an illegal memory access."
        " It was given up after 3 errors in a row without a new checkpoint."
        " Attempts: 3 (3 failed)."
        f" `layoutlm-cli job logs {JOB_ID}` shows its events."
        f" `layoutlm-cli job retry {JOB_ID}` resumes it from step 40 with its budgets reset."
    )


def test_a_cause_that_would_come_again_is_not_retried_and_names_the_pages() -> None:
    error = JobError(cause="bad_data", message="no words", page_ids=tuple(f"page-{number}" for number in range(7)))

    text = told(a_job("failed", attempt=1, error=error), unheld(1), attempt(1, 10, 20, outcome="failed: bad_data"))

    assert "a page cannot be used for training: no words." in text
    assert "Pages involved: page-0, page-1, page-2, page-3, page-4, and 2 more." in text
    assert "It was not retried, because the error would recur." in text
    assert "then submit a new job; `layoutlm-cli job show" in text and "job retry" not in text


def test_a_job_out_of_time_goes_on_as_a_new_job_with_more_time() -> None:
    error = JobError(cause="max_runtime", message="3600 s were used")

    text = told(a_job("failed", attempt=1, error=error), unheld(1, checkpoint=pointer(9)), attempt(1, 10, 20))

    assert f"`layoutlm-cli train --resume {JOB_ID} --max-runtime 3600` resumes from step 9 with more time." in text


def test_a_job_that_was_interrupted_too_often_says_it_once() -> None:
    error = JobError(cause="interruptions", message="given up after 5 interruptions in a row without a new checkpoint")
    budgets = Budgets(interruptions=5, interruptions_in_a_row=5)

    text = told(a_job("failed", attempt=5, error=error, budgets=budgets), unheld(5), attempt(5, 1, 2, outcome="x"))

    assert text.count("given up after") == 1
    assert f"`layoutlm-cli job retry {JOB_ID}` resumes it from the beginning" in text


@pytest.mark.parametrize(
    ("attempts", "words"),
    [
        ((), "No worker had claimed it."),
        ((attempt(1, 10, 50, outcome="cancelled"),), "Worker worker-1 stopped attempt 1."),
        ((attempt(1, 10, 50, outcome="cancelled: lease expired"),), "on attempt 1 had expired, so a rescue ended it."),
        ((attempt(1, 10, 40, outcome="lease expired"),), "No worker held it: it was waiting for attempt 2."),
        ((attempt(1, 10, 40, outcome="failed: hang"),), "No worker held it: it was waiting for attempt 2."),
    ],
)
def test_a_cancelled_job_says_who_ended_it(attempts: tuple[Attempt, ...], words: str) -> None:
    number = len(attempts)

    text = told(a_job("cancelled", attempt=number, ended_at=at(50)), unheld(number, cancel_requested=True), *attempts)

    assert text.startswith(f"mine was cancelled on request at {hour(50)} (10 s ago).")
    assert words in text


def test_a_job_of_the_original_system_is_told_as_one_that_is_only_read() -> None:
    done, open_ = told(a_job("succeeded", results={"metric_value": 0.9}), None), told(a_job("running"), None)

    assert done.startswith("mine belongs to the original system; its status is succeeded.")
    assert "metric_value 0.9000" in done
    assert "Its rows do not say whether a worker still runs it" in open_


def test_a_long_message_does_not_flood_the_paragraph() -> None:
    error = JobError(cause="unknown", message="word " * 10_000)

    assert len(told(a_job("failed", error=error), unheld())) < 1000

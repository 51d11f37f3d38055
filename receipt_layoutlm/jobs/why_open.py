"""Explains a job that has not ended: its place in the queue, its worker, and the next event with its time."""

import shlex
from collections.abc import Iterator

from receipt_dynamo import Attempt, Job, JobStatus, Lease
from receipt_layoutlm.config_documents import missing_support
from receipt_layoutlm.jobs.timeline import timeline
from receipt_layoutlm.jobs.why_facts import Facts, final_events, renewed_at, rescue_at, status_after_rescue
from receipt_layoutlm.jobs.wording import ago, cause, clock, count, cut, duration, position_text
from receipt_layoutlm.run.progress import LeaseProgress
from receipt_layoutlm.worker.cost_limit import spent

ENDINGS = {"lease expired": "cut off when its lease expired", None: "without an end"}


def explain_pending(facts: Facts, lease: Lease) -> Iterator[str]:
    """Never claimed, retried by a person, or waiting after an error."""
    job = facts.job
    if job.attempt == 0:
        submitted = ago(job.created_at, facts.now)
        yield f"{job.name} is pending: no worker has claimed it since it was submitted at {submitted}."
    elif job.budgets.errors == 0:  # an error is counted, and a retry resets the count
        reason = f": {cause(job.error)}" if job.error else ""
        yield f"{job.name} is pending: it was retried by a person after attempt {job.attempt} failed{reason}."
    else:
        yield f"{job.name} is pending: attempt {job.attempt} failed{_at_its_end(facts)}: {cause(job.error)}."
    yield from _waiting(facts, lease)


def explain_interrupted(facts: Facts, lease: Lease) -> Iterator[str]:
    """Released by its worker, or rescued."""
    last = facts.last_attempt
    reason = _interruption(last) if last else "its worker released it"
    yield f"{facts.job.name} is interrupted, which is not an error: {reason}{_at_its_end(facts)}."
    yield from _waiting(facts, lease)


def _interruption(attempt: Attempt) -> str:
    if attempt.outcome == "lease expired":
        return f"the lease of worker {attempt.worker_id} on attempt {attempt.attempt} expired and the job was requeued"
    reason = (attempt.outcome or "").partition(": ")[2]
    return f"worker {attempt.worker_id} released attempt {attempt.attempt}" + (f" ({cut(reason)})" if reason else "")


def _at_its_end(facts: Facts) -> str:
    ended = facts.last_attempt.ended_at if facts.last_attempt else None
    return f" at {clock(ended, facts.now)}" if ended else ""


def _waiting(facts: Facts, lease: Lease) -> Iterator[str]:
    yield _place_in_queue(facts)
    if facts.job.max_cost is not None:
        dollars = spent(facts.attempts, facts.now)
        yield (
            f"Its attempts cost {dollars:.2f} of at most {facts.job.max_cost:g} dollars so far, and only a worker that"
            " knows its price claims it: a machine of a fleet, or `layoutlm-cli worker run --price-per-hour 0.35`."
        )
    yield from _missing_machines(facts)
    job, pointer = facts.job, lease.checkpoint
    if (missing := missing_support(job.job_config)) is not None:
        yield f"This version does not know its {missing}: only a worker of another version claims it."
    if pointer is None:
        start = "starts from the beginning"
    else:
        origin = ", with which it was submitted" if pointer.attempt == 0 else ""
        start = f"resumes from the checkpoint at step {pointer.global_step}{origin}"
    rows = timeline(job, lease, facts.attempts, facts.now).rows
    last, lost = rows[-1] if rows else None, ""
    if last is not None and last.lost_steps:
        at_least = "at least " if last.is_at_least else ""
        lost = f" (lost: {at_least}{count(last.lost_steps, 'step')} of attempt {last.attempt})"
    elif last is not None and last.lost_steps == 0 and not last.is_at_least:
        lost = " (no steps lost)"
    half_batch = f" and {text}" if (text := _half_batch(job)) else ""
    yield f"Attempt {job.attempt + 1} {start}{lost}{half_batch}."
    yield from _budgets(facts)


def _place_in_queue(facts: Facts) -> str:
    job, due = facts.job, facts.job.not_before
    if due is not None and due > facts.now:
        wait = duration((due - facts.now).total_seconds())
        if job.attempt == 0:
            return (
                f"It waits for its --not-before, {clock(due, facts.now)}, in {wait}; no worker claims it earlier, and"
                f" `layoutlm-cli job cancel {job.job_id}` prevents it."
            )
        return (
            f"It is retried at {clock(due, facts.now)}, in {wait}, or as soon after that as a worker is free;"
            f" `layoutlm-cli job cancel {job.job_id}` prevents that."
        )
    if facts.first is None:
        option = "" if job.queue == "default" else f" --queue {shlex.quote(job.queue)}"
        return (
            f"It is first in queue {job.queue}: the next free worker claims it"
            f" (`layoutlm-cli worker run{option}` starts one)."
        )
    jobs = "1 due job is" if facts.ahead == 1 else f"{facts.ahead} due jobs are"
    first = (
        f"{facts.first.name} (priority {facts.first.priority}, submitted {clock(facts.first.created_at, facts.now)})"
    )
    return (
        f"{jobs} ahead of it in queue {job.queue}, by priority and then by age; the first is {first}."
        f" Its own priority is {job.priority}."
    )


def _missing_machines(facts: Facts) -> Iterator[str]:
    """Why the fleet of its queue has no machine for it, as the scaler saw it last."""
    served = facts.served
    if facts.job.moved_at is not None:
        since = ago(facts.job.moved_at, facts.now)
        yield f"It was moved to the queue of on-demand machines at {since}, and goes back if none of them comes either."
    if served is None:
        return
    if served.unfilled_since is not None:
        since = ago(served.unfilled_since, facts.now)
        yield f"Fleet {served.fleet} has ordered machines, and none has come since {since}."
    if served.trouble:
        yield f"Fleet {served.fleet} at {clock(served.seen_at, facts.now)}: {served.trouble}."


def _half_batch(job: Job) -> str:
    if job.budgets.out_of_memory == 0 or job.job_config.get("batch_size") == 1:
        return ""
    return "runs with half the micro-batch and twice the accumulation, because an earlier attempt ran out of memory"


def explain_running(facts: Facts, lease: Lease) -> Iterator[str]:
    """The holder of the lease, its progress, and the rescue if it stops renewing."""
    job, attempt = facts.job, next((each for each in facts.attempts if each.attempt == lease.attempt), None)
    machine = f" ({text})" if attempt and (text := machine_text(attempt)) else ""
    since = f" since {ago(attempt.started_at, facts.now)}" if attempt else ""
    renewal, renewed = "", renewed_at(lease, facts.timing)
    if renewed is not None and attempt and renewed <= attempt.started_at:  # a claim counts as the first renewal
        renewal = ", and has not renewed its lease yet"
    elif renewed is not None:
        renewal = f", and last renewed its lease at {ago(renewed, facts.now)}"
    yield f"{job.name} is running: worker {lease.worker_id}{machine} has held attempt {lease.attempt}{since}{renewal}."
    if len(facts.attempts) > 1:
        previous = facts.attempts[-2]
        if previous.outcome == f"failed: {job.error.cause if job.error else ''}":  # later attempts keep the error
            yield f"Attempt {previous.attempt} before it failed: {cause(job.error)}."
        elif previous.outcome and not previous.outcome.startswith("failed"):
            yield f"Before that, {_interruption(previous)}."
    progress, pointer = LeaseProgress.parse(lease.progress), lease.checkpoint
    if progress is None:
        yield "It has not reported progress yet."
    else:
        yield f"Last reported: {position_text(progress)}."
    if half_batch := _half_batch(job):
        yield f"This attempt {half_batch}."
    if pointer is None:
        yield "It has no checkpoint yet: if this worker is lost, it starts from the beginning."
    else:
        beyond = max(0, progress.step - pointer.global_step) if progress else 0
        loss = f": if this worker is lost, so are at least {count(beyond, 'step')}" if beyond else ""
        yield f"The last checkpoint is at step {pointer.global_step}{loss}."
    if lease.cancel_requested:
        yield (
            "A cancel was requested: the worker sees it at its next renewal and stops, and the job ends as cancelled."
        )
    yield from _missing_renewals(facts, lease)
    if not lease.cancel_requested:
        yield from _budgets(facts)


def machine_text(attempt: Attempt) -> str:
    """g5.xlarge, spot, us-east-1: as far as it is known."""
    machine = attempt.machine
    kind = None if machine.spot is None else ("spot" if machine.spot else "on demand")
    return ", ".join(text for text in (machine.instance_type, kind, machine.region) if text)


def _missing_renewals(facts: Facts, lease: Lease) -> Iterator[str]:
    """Once two renewals are missing: the end of the lease, and the rescue that follows."""
    renewed, rescued_from = renewed_at(lease, facts.timing), rescue_at(lease, facts.timing)
    if renewed is None or rescued_from is None or lease.expires_at is None:
        return
    if (facts.now - renewed).total_seconds() <= 2 * facts.timing.renew_seconds:
        return
    if lease.expires_at < facts.now:
        expired = ago(lease.expires_at, facts.now)
        yield f"Its lease expired at {expired}: the worker died, hangs, or cannot reach the table."
    else:
        yield (
            f"It should renew every {duration(facts.timing.renew_seconds)}, so the worker may be in trouble;"
            f" its lease expires at {clock(lease.expires_at, facts.now)}."
        )
    left = (rescued_from - facts.now).total_seconds()
    when = "now" if left < 0 else f"from {clock(rescued_from, facts.now)} on, in {duration(left)}"
    start = f"resumes at step {lease.checkpoint.global_step}" if lease.checkpoint else "starts from the beginning"
    consequence = {
        JobStatus.CANCELLED: "it is then cancelled, as requested",
        JobStatus.FAILED: "it then fails, because its interruptions are used up",
        JobStatus.INTERRUPTED: f"it is then interrupted, and the next free worker {start}",
    }[status_after_rescue(facts.job, lease)]
    watched = duration(facts.timing.lease_seconds)
    yield (
        f"Unless it renews first, an idle worker can rescue the job {when}, or `layoutlm-cli rescue`, which watches the"
        f" expired lease for {watched} before; {consequence}."
    )


def _budgets(facts: Facts) -> Iterator[str]:
    """How the attempts ended, and the budgets left. Nothing while nothing went wrong."""
    used = facts.job.budgets
    if len(facts.attempts) <= 1 and not used.errors and not used.interruptions:
        return
    yield attempts_text(facts)
    errors = count(max(0, used.max_errors - 1 - used.errors), "more error")
    interruptions = count(max(0, used.max_interruptions - used.interruptions), "more interruption")
    yield f"The job survives at most {errors} and {interruptions}."
    if events := final_events(facts):
        yield f"It fails after {', or after '.join(events)}."


def attempts_text(facts: Facts) -> str:
    """Attempts: 3 (1 failed, 1 interrupted, 1 running)."""
    ends: dict[str, int] = {}
    for each in facts.attempts:
        is_held = each.outcome is None and facts.job.status is JobStatus.RUNNING and each is facts.attempts[-1]
        end = "running" if is_held else ENDINGS.get(each.outcome) or str(each.outcome).partition(":")[0]
        ends[end] = ends.get(end, 0) + 1
    return f"Attempts: {len(facts.attempts)} ({', '.join(f'{number} {end}' for end, number in ends.items())})."

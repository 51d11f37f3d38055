"""Why a job that has not ended is where it is: what it waits for, who holds it, what comes next and when."""

import shlex
from collections.abc import Iterator

from receipt_dynamo import Attempt, Job, JobStatus, Lease
from receipt_layoutlm.config import is_known_version
from receipt_layoutlm.jobs.timeline import timeline
from receipt_layoutlm.jobs.why_facts import Facts, last_straws, renewed_at, rescue_at, status_after_rescue
from receipt_layoutlm.jobs.wording import ago, cause, clock, count, cut, duration
from receipt_layoutlm.run.progress import LeaseProgress

PHASES = {"encode": "encoding the pages", "train": "training", "evaluate": "evaluating"}
ENDINGS = {"lease expired": "cut off when its lease ran out", None: "without an end"}


def pending(facts: Facts, lease: Lease) -> Iterator[str]:
    """Never claimed, put back by a person, or waiting after an error."""
    job = facts.job
    if job.attempt == 0:
        submitted = ago(job.created_at, facts.now)
        yield f"{job.name} is pending: no worker has taken it since it was submitted at {submitted}."
    elif job.budgets.errors == 0:  # an error counts, a retry makes nothing of all that counted
        reason = f": {cause(job.error)}" if job.error else ""
        yield f"{job.name} is pending: a retry put it back after it had failed with attempt {job.attempt}{reason}."
    else:
        yield f"{job.name} is pending: attempt {job.attempt} failed{_at_its_end(facts)}: {cause(job.error)}."
    yield from _waiting(facts, lease)


def interrupted(facts: Facts, lease: Lease) -> Iterator[str]:
    """A worker left, or fell silent."""
    last = facts.last_attempt
    reason = _interruption(last) if last else "its worker left"
    yield f"{facts.job.name} is interrupted, which is no error: {reason}{_at_its_end(facts)}."
    yield from _waiting(facts, lease)


def _interruption(attempt: Attempt) -> str:
    who = f"worker {attempt.worker_id} with attempt {attempt.attempt}"
    if attempt.outcome == "lease expired":
        return f"{who} fell silent until its lease ran out, and the job was taken away from it"
    reason = (attempt.outcome or "").partition(": ")[2]
    return f"{who} had to leave" + (f" ({cut(reason)})" if reason else "")


def _at_its_end(facts: Facts) -> str:
    ended = facts.last_attempt.ended_at if facts.last_attempt else None
    return f" at {clock(ended, facts.now)}" if ended else ""


def _waiting(facts: Facts, lease: Lease) -> Iterator[str]:
    job = facts.job
    yield _when_it_is_due(facts)
    if not is_known_version(job.job_config):
        version = job.job_config.get("config_version")
        yield f"Its config_version {version} is not known here: only a worker of another version takes it."
    yield _start(facts, lease)
    yield from budgets(facts)


def _when_it_is_due(facts: Facts) -> str:
    job, due = facts.job, facts.job.not_before
    if due is not None and due > facts.now:
        wait = duration((due - facts.now).total_seconds())
        return (
            f"It is tried again at {clock(due, facts.now)}, in {wait}, or as soon after as a worker is free,"
            f" unless `layoutlm-cli job cancel {job.job_id}` ends it before."
        )
    if facts.first is None:
        option = "" if job.queue == "default" else f" --queue {shlex.quote(job.queue)}"
        return (
            f"No due job of queue {job.queue} is before it, so the next worker that asks gets it"
            f" (`layoutlm-cli worker run{option}` starts one)."
        )
    jobs = "1 due job is" if facts.ahead == 1 else f"{facts.ahead} due jobs are"
    first = (
        f"{facts.first.name} (priority {facts.first.priority}, submitted {clock(facts.first.created_at, facts.now)})"
    )
    return (
        f"{jobs} before it in queue {job.queue}, by priority and then by age; the first is {first}."
        f" Its own priority is {job.priority}."
    )


def _start(facts: Facts, lease: Lease) -> str:
    number, pointer = facts.job.attempt + 1, lease.checkpoint
    if pointer is None:
        begins = f"Attempt {number} starts at the beginning"
    else:
        given = ", with which it was submitted" if pointer.attempt == 0 else ""
        begins = f"Attempt {number} goes on from the checkpoint at step {pointer.global_step}{given}"
    return begins + _lost(facts) + _half_batch(facts.job, " and runs") + "."


def _lost(facts: Facts) -> str:
    """What the last attempt did beyond the place where the next one begins."""
    rows = timeline(facts.job, facts.lease, facts.attempts, facts.now).rows
    if not rows or rows[-1].lost_steps is None:
        return ""
    row = rows[-1]
    if not row.lost_steps:
        return "" if row.is_at_least else " (no step is lost)"
    return f" (lost: {'at least ' if row.is_at_least else ''}{count(row.lost_steps, 'step')} of attempt {row.attempt})"


def _half_batch(job: Job, verb: str) -> str:
    if job.budgets.out_of_memory == 0 or job.job_config.get("batch_size") == 1:
        return ""
    return f"{verb} with half the micro-batch and twice the accumulation, because memory ran out before"


def running(facts: Facts, lease: Lease) -> Iterator[str]:
    """Who holds it, how far it is, and what happens when the worker stays silent."""
    yield f"{facts.job.name} is running: {_holder(facts, lease)}."
    yield from _what_was_before(facts)
    yield from _how_far(facts, lease)
    if lease.cancel_requested:
        yield (
            "A cancel was asked for: with its next renewal the worker learns of it and stops, and the job ends as"
            " cancelled."
        )
    yield from _silence(facts, lease)
    if not lease.cancel_requested:
        yield from budgets(facts)


def _holder(facts: Facts, lease: Lease) -> str:
    attempt = next((each for each in facts.attempts if each.attempt == lease.attempt), None)
    machine = f" ({text})" if attempt and (text := machine_text(attempt)) else ""
    since = f" since {ago(attempt.started_at, facts.now)}" if attempt else ""
    renewed = renewed_at(lease, facts.timing)
    if renewed is None:
        told = ""
    elif attempt and renewed <= attempt.started_at:  # a claim counts as the first renewal
        told = ", and has not renewed its lease yet"
    else:
        told = f", and last renewed its lease at {ago(renewed, facts.now)}"
    return f"worker {lease.worker_id}{machine} holds attempt {lease.attempt}{since}{told}"


def machine_text(attempt: Attempt) -> str:
    """g5.xlarge, spot, us-east-1: as far as it is known."""
    machine = attempt.machine
    kind = None if machine.spot is None else ("spot" if machine.spot else "on demand")
    return ", ".join(text for text in (machine.instance_type, kind, machine.region) if text)


def _what_was_before(facts: Facts) -> Iterator[str]:
    if len(facts.attempts) < 2:
        return
    ended = facts.attempts[-2]
    if ended.outcome == f"failed: {facts.job.error.cause if facts.job.error else ''}":  # later attempts keep the error
        yield f"Attempt {ended.attempt} before it failed: {cause(facts.job.error)}."
    elif ended.outcome and not ended.outcome.startswith("failed"):
        yield f"Before it {_interruption(ended)}."


def _how_far(facts: Facts, lease: Lease) -> Iterator[str]:
    position, pointer = LeaseProgress.parse(lease.progress), lease.checkpoint
    if position is None:
        yield "How far it is was not told yet."
    else:
        share = f" ({position.step / position.total:.0%})" if position.total > 0 else ""
        doing = PHASES.get(position.phase, cut(position.phase))
        step = f"step {position.step} of {position.total}{share}, epoch {position.epoch:g}"
        yield f"It last said that it was {doing}, at {step}."
    if half := _half_batch(facts.job, "This attempt runs"):
        yield f"{half}."
    if pointer is None:
        yield "It has no checkpoint yet: without this worker it would start at the beginning."
    else:
        beyond = max(0, position.step - pointer.global_step) if position else 0
        again = f": without this worker at least {count(beyond, 'step')} would be lost" if beyond else ""
        yield f"The last checkpoint is at step {pointer.global_step}{again}."


def _silence(facts: Facts, lease: Lease) -> Iterator[str]:
    """Once two renewals are missing: until when the lease holds, who takes the job away, and what comes then."""
    renewed, rescued_from = renewed_at(lease, facts.timing), rescue_at(lease, facts.timing)
    if renewed is None or rescued_from is None or lease.expires_at is None:
        return
    if (facts.now - renewed).total_seconds() <= 2 * facts.timing.renew_seconds:
        return
    if lease.expires_at < facts.now:
        expired = ago(lease.expires_at, facts.now)
        yield f"Its lease ran out at {expired}: the worker died, hangs, or cannot reach the table."
    else:
        yield (
            f"It should renew every {duration(facts.timing.renew_seconds)}, so the worker may be in trouble;"
            f" its lease runs out at {clock(lease.expires_at, facts.now)}."
        )
    left = (rescued_from - facts.now).total_seconds()
    when = "now" if left < 0 else f"from {clock(rescued_from, facts.now)} on, in {duration(left)}"
    yield (
        f"Unless it renews before, an idle worker or `layoutlm-cli rescue` can take the job away {when};"
        f" {_after_rescue(facts.job, lease)}."
    )


def _after_rescue(job: Job, lease: Lease) -> str:
    begins = f"goes on at step {lease.checkpoint.global_step}" if lease.checkpoint else "starts at the beginning"
    return {
        JobStatus.CANCELLED: "the job is then cancelled, as was asked for",
        JobStatus.FAILED: "the job has then failed, because its interruptions are used up",
        JobStatus.INTERRUPTED: f"the job is then interrupted, and the next free worker {begins}",
    }[status_after_rescue(job, lease)]


def budgets(facts: Facts) -> Iterator[str]:
    """How the attempts went, and what the job survives. Nothing while nothing went wrong."""
    used = facts.job.budgets
    if len(facts.attempts) <= 1 and not used.errors and not used.interruptions:
        return
    yield attempts_text(facts)
    errors = count(max(0, used.max_errors - 1 - used.errors), "more error")
    interruptions = count(max(0, used.max_interruptions - used.interruptions), "more interruption")
    yield f"The job survives at most {errors} and {interruptions}."
    if straws := last_straws(facts):
        yield f"It fails with {', or with '.join(straws)}."


def attempts_text(facts: Facts) -> str:
    """Attempts: 3 (1 failed, 1 interrupted, 1 running)."""
    ends: dict[str, int] = {}
    for each in facts.attempts:
        is_held = each.outcome is None and facts.job.status is JobStatus.RUNNING and each is facts.attempts[-1]
        end = "running" if is_held else ENDINGS.get(each.outcome) or str(each.outcome).partition(":")[0]
        ends[end] = ends.get(end, 0) + 1
    return f"Attempts: {len(facts.attempts)} ({', '.join(f'{number} {end}' for end, number in ends.items())})."

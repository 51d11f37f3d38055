"""Explains the state of a job in one paragraph; each sentence follows from stored facts."""

from collections.abc import Iterator

from receipt_dynamo import JobStatus, Lease
from receipt_dynamo.entities import FINAL_CAUSES
from receipt_layoutlm.jobs.rerun import rerun_command
from receipt_layoutlm.jobs.why_facts import Facts, is_moving
from receipt_layoutlm.jobs.why_open import attempts_text, explain_interrupted, explain_pending, explain_running
from receipt_layoutlm.jobs.wording import ago, cause, cut, stop_reason
from receipt_layoutlm.worker.cost_limit import retry_command, spent

SHOWN_PAGES = 5


def why(facts: Facts) -> str:
    """One paragraph. It contains stored texts as they are: clean it before printing it to a terminal."""
    job = facts.job
    if facts.lease is None:
        sentences = [
            f"{job.name} belongs to the original system; its status is {job.status}.",
            "It is read-only here: no worker claims it and no command changes it.",
        ]
        if not job.status.is_final:
            sentences.append("Its rows do not say whether a worker still runs it.")
        if job.error:
            sentences.append(f"Its error: {cause(job.error)}.")
        return " ".join([*sentences, *_best(facts)])
    if is_moving(facts):
        return f"{job.name} is changing state right now: ask again."
    return " ".join([*_STATES[job.status](facts, facts.lease), *_newest_alert(facts)])


def _newest_alert(facts: Facts) -> Iterator[str]:
    """Unless the paragraph says the same: that of the present state."""
    alert = facts.alert
    if alert is None or (alert.occasion == str(facts.job.attempt) and facts.job.status.is_final):
        return
    yield f"Its newest alert, {alert.level}, at {ago(alert.raised_at, facts.now)}: {cut(alert.message)}."


def _explain_succeeded(facts: Facts, _lease: Lease) -> Iterator[str]:
    job, results = facts.job, facts.job.results or {}
    reason = results.get("stop_reason")
    because = f": {stop_reason(reason)}" if reason else ""
    yield f"{job.name} succeeded{_when_ended(facts)}{because}."
    yield from _best(facts)
    if isinstance(remedy := results.get("remedy"), dict) and remedy:
        yield f"The next thing to try: `layoutlm-cli {rerun_command(job, remedy)}`."
    if results.get("best_uri"):
        pull = f"layoutlm-cli job pull {job.job_id} --to model-{job.job_id[:8]}"
        yield f"Its model is at {results['best_uri']}; `{pull}` downloads it."
    if facts.attempts:
        yield attempts_text(facts)


def _best(facts: Facts) -> Iterator[str]:
    results = facts.job.results or {}
    value, step = results.get("metric_value"), results.get("best_global_step")
    if isinstance(value, int | float):
        at = "" if step is None else f" at step {step}"
        yield f"Its best evaluation: {results.get('metric_name', 'metric_value')} {value:.4f}{at}."


def _explain_failed(facts: Facts, lease: Lease) -> Iterator[str]:
    job, error = facts.job, facts.job.error
    yield f"{job.name} failed{_when_ended(facts)}: {cause(error)}."
    if error and error.page_ids:
        more = len(error.page_ids) - SHOWN_PAGES
        pages = ", ".join(map(cut, error.page_ids[:SHOWN_PAGES])) + (f", and {more} more" if more > 0 else "")
        yield f"Pages involved: {pages}."
    if error and error.cause == "cost_limit":
        yield "Its checkpoint is kept."
    elif error and error.cause in FINAL_CAUSES:
        yield "It was not retried, because the error would recur."
    elif job.budgets.exhausted_by is not None and (error is None or error.cause != "interruptions"):
        yield f"It was given up after {job.budgets.exhausted_by}."
    if facts.attempts:
        yield attempts_text(facts)
    yield f"`layoutlm-cli job logs {job.job_id}` shows its events."
    start = f"from step {lease.checkpoint.global_step}" if lease.checkpoint else "from the beginning"
    if error and error.cause == "cost_limit":
        yield f"{retry_command(job.job_id, spent(facts.attempts, facts.now))} resumes it {start}."
    elif error and error.cause == "max_runtime" and lease.checkpoint:
        runtime = job.job_config.get("max_runtime")
        seconds = f"{2 * runtime:g}" if isinstance(runtime, int | float) else "3600"
        yield f"`layoutlm-cli train --resume {job.job_id} --max-runtime {seconds}` resumes {start} with more time."
    elif error and error.cause in FINAL_CAUSES:
        yield f"Fix the cause, then submit a new job; `layoutlm-cli job show {job.job_id}` shows this one's options."
    else:
        yield f"`layoutlm-cli job retry {job.job_id}` resumes it {start} with its budgets reset."


def _explain_cancelled(facts: Facts, lease: Lease) -> Iterator[str]:
    last = facts.last_attempt
    yield f"{facts.job.name} was cancelled on request{_when_ended(facts)}."
    if last is None:
        yield "No worker had claimed it."
    elif last.outcome == "cancelled":
        yield f"Worker {last.worker_id} stopped attempt {last.attempt}."
    elif last.outcome == "cancelled: lease expired":
        yield f"The lease of worker {last.worker_id} on attempt {last.attempt} had expired, so a rescue ended it."
    else:
        yield f"No worker held it: it was waiting for attempt {last.attempt + 1}."
    if facts.attempts:
        yield attempts_text(facts)
    if lease.checkpoint:
        yield f"Its last checkpoint is at step {lease.checkpoint.global_step}."


def _when_ended(facts: Facts) -> str:
    return f" at {ago(facts.job.ended_at, facts.now)}" if facts.job.ended_at else ""


_STATES = {
    JobStatus.PENDING: explain_pending,
    JobStatus.INTERRUPTED: explain_interrupted,
    JobStatus.RUNNING: explain_running,
    JobStatus.SUCCEEDED: _explain_succeeded,
    JobStatus.FAILED: _explain_failed,
    JobStatus.CANCELLED: _explain_cancelled,
}

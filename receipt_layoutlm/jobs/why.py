"""Why a job is where it is, in one paragraph of plain words; each sentence follows from what is stored."""

from collections.abc import Iterator

from receipt_dynamo import JobStatus, Lease
from receipt_dynamo.entities import FINAL_CAUSES
from receipt_layoutlm.jobs.why_facts import Facts, is_moving
from receipt_layoutlm.jobs.why_open import attempts_text, interrupted, pending, running
from receipt_layoutlm.jobs.wording import ago, cause, cut

MOST_PAGES = 5  # named in the paragraph
STOP_REASONS = {"completed": "all epochs were trained", "early_stopped": "it had stopped getting better"}


def why(facts: Facts) -> str:
    """One paragraph. It holds texts of the store as they are: clean it before a terminal sees it."""
    return " ".join(_sentences(facts))


def _sentences(facts: Facts) -> Iterator[str]:
    if facts.lease is None:
        yield from _original(facts)
    elif is_moving(facts):
        yield f"{facts.job.name} is changing its state at this moment: ask again."
    else:
        yield from _STATES[facts.job.status](facts, facts.lease)


def _succeeded(facts: Facts, _lease: Lease) -> Iterator[str]:
    job, results = facts.job, facts.job.results or {}
    reason = results.get("stop_reason")
    because = f", because {STOP_REASONS.get(str(reason), cut(str(reason)))}" if reason else ""
    yield f"{job.name} has succeeded: it ended{_when_ended(facts)}{because}."
    yield from _best(facts)
    if results.get("best_uri"):
        yield f"Its model is at {results['best_uri']}; `layoutlm-cli job pull {job.job_id} --to model` downloads it."
    if facts.attempts:
        yield attempts_text(facts)


def _best(facts: Facts) -> Iterator[str]:
    results = facts.job.results or {}
    value, step = results.get("metric_value"), results.get("best_global_step")
    if isinstance(value, int | float):
        at = "" if step is None else f" at step {step}"
        yield f"Its best evaluation: {results.get('metric_name', 'metric_value')} {value:.4f}{at}."


def _failed(facts: Facts, lease: Lease) -> Iterator[str]:
    job, error = facts.job, facts.job.error
    yield f"{job.name} has failed{_when_ended(facts)}: {cause(error)}."
    if error and error.page_ids:
        yield f"Pages involved: {_pages(error.page_ids)}."
    if error and error.cause in FINAL_CAUSES:
        yield "It was not tried again, because that would come again."
    elif job.budgets.exhausted_by is not None and (error is None or error.cause != "interruptions"):
        yield f"It was given up after {job.budgets.exhausted_by}."
    if facts.attempts:
        yield attempts_text(facts)
    yield f"`layoutlm-cli job logs {job.job_id}` shows its events."
    yield _what_to_type(facts, lease)


def _what_to_type(facts: Facts, lease: Lease) -> str:
    job = facts.job
    name = job.error.cause if job.error else ""
    begins = f"from step {lease.checkpoint.global_step}" if lease.checkpoint else "from the beginning"
    if name == "max_runtime" and lease.checkpoint:
        return f"`layoutlm-cli train --resume {job.job_id} --max-runtime SECONDS` goes on {begins} with more time."
    if name in FINAL_CAUSES:
        return "Correct the cause, then submit it anew with `layoutlm-cli train`."
    return f"`layoutlm-cli job retry {job.job_id}` lets it go on {begins}, with nothing used up."


def _pages(page_ids: tuple[str, ...]) -> str:
    more = len(page_ids) - MOST_PAGES
    return ", ".join(map(cut, page_ids[:MOST_PAGES])) + (f", and {more} more" if more > 0 else "")


def _cancelled(facts: Facts, lease: Lease) -> Iterator[str]:
    job, last = facts.job, facts.last_attempt
    yield f"{job.name} was cancelled{_when_ended(facts)}, because that was asked for."
    if last is None:
        yield "No worker had taken it."
    elif last.outcome == "cancelled":
        yield f"Worker {last.worker_id} stopped attempt {last.attempt} for it."
    elif last.outcome == "cancelled: lease expired":
        yield f"Worker {last.worker_id} with attempt {last.attempt} had fallen silent, so a rescue ended it."
    else:
        yield f"No worker held it then: it waited for attempt {last.attempt + 1}."
    if facts.attempts:
        yield attempts_text(facts)
    if lease.checkpoint:
        yield f"Its last checkpoint is at step {lease.checkpoint.global_step}."


def _original(facts: Facts) -> Iterator[str]:
    job = facts.job
    yield f"{job.name} belongs to the original system, and its status is {job.status}."
    yield "Here it can be read; no worker takes it, and nothing changes it."
    if not job.status.is_final:
        yield "Whether anything still works on it cannot be told from what is stored."
    if job.error:
        yield f"Its error: {cause(job.error)}."
    yield from _best(facts)


def _when_ended(facts: Facts) -> str:
    return f" at {ago(facts.job.ended_at, facts.now)}" if facts.job.ended_at else ""


_STATES = {
    JobStatus.PENDING: pending,
    JobStatus.INTERRUPTED: interrupted,
    JobStatus.RUNNING: running,
    JobStatus.SUCCEEDED: _succeeded,
    JobStatus.FAILED: _failed,
    JobStatus.CANCELLED: _cancelled,
}

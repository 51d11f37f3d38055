"""End of a job for people: its result, where its files are, and the commands that follow."""

import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from receipt_dynamo import Job, JobQueue, JobStatus, JsonObject
from receipt_layoutlm.cli.tables import clean, reached_text
from receipt_layoutlm.config import ConfigError
from receipt_layoutlm.jobs.why_facts import lease_or_none
from receipt_layoutlm.jobs.wording import cause, clock
from receipt_layoutlm.paths import given_work_dir, local_work_dir, worker_work_dir
from receipt_layoutlm.references import safe_name

EXIT_CODES = {JobStatus.SUCCEEDED: 0, JobStatus.FAILED: 100, JobStatus.CANCELLED: 103}
NOT_FINISHED = 101


@dataclass(frozen=True)
class EndedJob:
    """A job that has ended, or whose attempt on this machine has; and the folder of its run, if that is here."""

    job: Job
    folder: Path | None


def ended_here(job: Job, environ: Mapping[str, str]) -> EndedJob:
    """The job with the folder of its newest attempt, looked up in the work folders that a worker of this user has."""
    chosen = job.job_config.get("work_dir")
    folders = [given_work_dir(environ), Path(str(chosen)) if chosen else None]
    with suppress(ConfigError):  # the name of a job of the original system may be no name of a file
        for folder in filter(None, [*folders, local_work_dir(environ), worker_work_dir()]):
            link = folder / safe_name(job.name)
            if link.resolve().parent.name == job.job_id:  # the name may be another job's by now
                return EndedJob(job, link)
    return EndedJob(job, None)


def exit_code(status: JobStatus | None) -> int:
    """0 succeeded, 100 failed, 103 cancelled, 101 not finished."""
    return NOT_FINISHED if status is None else EXIT_CODES.get(status, NOT_FINISHED)


def ended_text(queue: JobQueue, job: Job, folder: Path | None = None) -> str:
    """Result and next commands of a job whose attempt, or which itself, has ended.

    `folder` is its run directory, if that is on this machine.
    """
    results, short, name = job.results or {}, job.job_id[:8], clean(job.name)
    facts = [(str(job.status), f"{name} ({short}){_reason(queue, job)}")]
    if job.status is JobStatus.SUCCEEDED:
        facts.append(("model", str(results.get("best_uri", ""))))
    if folder is not None:
        facts.append(("folder", str(folder)))
    width = max(len(title) for title, _ in facts)
    lines = [f"{title:{width}}  {clean(text)}" for title, text in facts if text]
    return "\n".join([*lines, "next:", *(f"  layoutlm-cli {command}" for command in _next(queue, job))])


def ended_document(job: Job, folder: Path | None = None) -> JsonObject:
    """The job as JSON, with its run directory if that is on this machine."""
    return {**job.model_dump(mode="json"), "folder": None if folder is None else str(folder)}


def _reason(queue: JobQueue, job: Job) -> str:
    results = job.results or {}
    if job.status is JobStatus.SUCCEEDED:
        return f": {reached_text(results)}"
    if job.status is JobStatus.FAILED:
        return f": {cause(job.error)}"
    lease = lease_or_none(queue, job.job_id)
    start = f"its checkpoint of step {lease.checkpoint.global_step}" if lease and lease.checkpoint else "the beginning"
    if job.status is JobStatus.PENDING and job.error is not None:
        at = f" at {clock(job.not_before, queue.now())}" if job.not_before else ""
        return f": its attempt failed: {cause(job.error)}; it is tried again{at} from {start}"
    if job.status.is_claimable:
        return f": the next worker continues from {start}"
    return ""


def _next(queue: JobQueue, job: Job) -> list[str]:
    """Commands after the program's name."""
    short = job.job_id[:8]
    if job.status is JobStatus.SUCCEEDED:
        return [f"job show {short}", f"job pull {short} --to model-{short}"]
    if job.status is JobStatus.CANCELLED:
        return [f"job why {short}"]
    if job.status.is_claimable:
        how = "run --once" if job.is_due(queue.now()) else "run"  # which waits until it is due
        return [f"worker {how}{queue_option(job)}", f"job why {short}"]
    return [f"job why {short}", f"job logs {short}"]


def queue_option(job: Job) -> str:
    """The option with which a worker claims the job; empty for the default queue."""
    return "" if job.queue == "default" else f" --queue {shlex.quote(job.queue)}"

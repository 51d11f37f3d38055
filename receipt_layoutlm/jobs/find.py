"""Finds a job by id, name, @last, @best or id prefix."""

import re

from receipt_dynamo import DynamoClient, Job, JobStatus, JsonObject, NotFound
from receipt_dynamo.entities import parse_job_id
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.run.comparability import stamp_of

PREFIX_LIMIT = 100  # newest jobs of each status in which an id prefix is looked up


class AmbiguousJob(UserError):
    """More than one job matches; the text lists them."""


def find_job(client: DynamoClient, reference: str) -> Job:
    """The newest job of a name, the job of an id or id prefix, `@last` or `@best`. Raises AmbiguousJob, NotFound."""
    if reference == "@last":
        if last := client.list_jobs(limit=1):
            return last[0]
        raise NotFound("the store has no job yet: submit one with 'layoutlm-cli train'")
    if reference == "@best":
        return _best(client)
    if re.fullmatch(r"[0-9a-fA-F-]{32,36}", reference):
        return client.get_job(parse_job_id(reference))
    if named := client.list_jobs_by_name(reference, limit=1):
        return named[0]
    prefix, jobs = reference.lower(), list[Job]()
    if re.fullmatch(r"[0-9a-f-]{4,35}", prefix):
        for status in JobStatus:
            newest = client.list_jobs_by_status(status, limit=PREFIX_LIMIT)
            jobs += [job for job in newest if job.job_id.startswith(prefix)]
    if len(jobs) > 1:
        listed = ", ".join(f"{job.job_id} ({job.name})" for job in jobs)
        raise AmbiguousJob(f"{reference!r} matches more than one id: {listed}")
    if not jobs:
        raise NotFound(f"no job {reference!r}: 'layoutlm-cli job list' shows names and ids")
    return jobs[0]


def _best(client: DynamoClient) -> Job:
    """The highest score among the jobs comparable with the newest succeeded one; the earlier job wins a tie."""
    scored = [
        (job_id, score, results)
        for job_id, results in client.iter_results(JobStatus.SUCCEEDED)
        if (score := score_of(results)) is not None
    ]
    if not scored:
        raise NotFound("no job has succeeded with a score yet: 'layoutlm-cli job list' lists all jobs")
    stamp = stamp_of(scored[0][2])
    if stamp is None:
        newest = client.get_job(scored[0][0])
        raise NotFound(
            f"the newest succeeded job, {newest.name}, has no comparability stamp, so it is unknown which "
            "jobs are comparable with it: name a job, or use 'layoutlm-cli job compare'"
        )
    comparable = [(job_id, score) for job_id, score, results in scored if stamp_of(results) == stamp]
    best, _ = max(reversed(comparable), key=lambda each: each[1])
    return client.get_job(best)


def metric_value(job: Job) -> float | None:
    """The headline score of a job that has ended, if it has one."""
    return score_of(job.results or {})


def score_of(results: JsonObject) -> float | None:
    """The headline score in a job's results."""
    value = results.get("metric_value")
    return float(value) if isinstance(value, int | float) else None

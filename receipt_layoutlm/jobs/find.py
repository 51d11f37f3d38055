"""Finds a job by id, name, @last, @best or id prefix."""

import re

from receipt_dynamo import DynamoClient, Job, JobStatus, NotFound
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
        raise NotFound("the store has no job yet: `layoutlm-cli train --help` shows how to submit one")
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
        raise NotFound(f"no job {reference!r}: `layoutlm-cli job list` shows names and ids")
    return jobs[0]


def _best(client: DynamoClient) -> Job:
    """The highest score among the jobs comparable with the newest succeeded one; the earlier job wins a tie."""
    scored = [job for job in client.list_jobs_by_status(JobStatus.SUCCEEDED) if metric_value(job) is not None]
    if not scored:
        raise NotFound("no job has succeeded with a score yet: `layoutlm-cli job list` lists all jobs")
    stamp = stamp_of(scored[0].results)
    if stamp is None:
        raise NotFound(
            f"the newest succeeded job, {scored[0].name}, has no comparability stamp, so it is unknown which "
            "jobs are comparable with it: name one of `layoutlm-cli job list`"
        )
    comparable = [job for job in scored if stamp_of(job.results) == stamp]
    return max(reversed(comparable), key=lambda job: metric_value(job) or 0.0)


def metric_value(job: Job) -> float | None:
    """The headline score of a job that has ended, if it has one."""
    return job.score

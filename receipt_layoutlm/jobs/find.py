"""A job by the ways a person names it: id, name, @last, @best, or the beginning of an id."""

import re

from receipt_dynamo import DynamoClient, Job, JobStatus, NotFound
from receipt_dynamo.entities import parse_job_id
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.run.comparability import stamp_of

PREFIX_LIMIT = 100  # newest jobs of each status among which a beginning of an id is looked up


class AmbiguousJob(UserError):
    """Several jobs match; the text lists them."""


def find_job(client: DynamoClient, reference: str) -> Job:
    """The newest job of that name, the job of that id or beginning of one, `@last` or `@best`. Raises NotFound."""
    if reference == "@last":
        return _last(client)
    if reference == "@best":
        return _best(client)
    if re.fullmatch(r"[0-9a-fA-F-]{32,36}", reference):
        return client.get_job(parse_job_id(reference))
    named = client.list_jobs_by_name(reference, limit=1)
    return named[0] if named else _by_prefix(client, reference)


def _last(client: DynamoClient) -> Job:
    jobs = client.list_jobs(limit=1)
    if not jobs:
        raise NotFound("the store has no job yet: submit one with 'layoutlm-cli train'")
    return jobs[0]


def _best(client: DynamoClient) -> Job:
    """Of the jobs whose scores may be compared with the newest succeeded one's, that with the highest.

    A tie stays with the earlier job.
    """
    scored = [job for job in client.list_jobs_by_status(JobStatus.SUCCEEDED) if metric_value(job) is not None]
    if not scored:
        raise NotFound("no job has succeeded with a score yet: 'layoutlm-cli job list' shows what there is")
    stamp = stamp_of(scored[0].results)
    if stamp is None:
        raise NotFound(
            f"the newest succeeded job, {scored[0].name}, has no comparability stamp, so nothing tells with which "
            "jobs it may be compared: name a job, or 'layoutlm-cli job compare' some"
        )
    alike = [job for job in scored if stamp_of(job.results) == stamp]
    return max(reversed(alike), key=lambda job: metric_value(job) or 0.0)


def metric_value(job: Job) -> float | None:
    """The headline score of a job that has ended, where there is one."""
    value = (job.results or {}).get("metric_value")
    return float(value) if isinstance(value, int | float) else None


def _by_prefix(client: DynamoClient, prefix: str) -> Job:
    found: list[Job] = []
    if re.fullmatch(r"[0-9a-f-]{4,35}", prefix.lower()):
        for status in JobStatus:
            newest = client.list_jobs_by_status(status, limit=PREFIX_LIMIT)
            found += [job for job in newest if job.job_id.startswith(prefix.lower())]
    if len(found) > 1:
        listed = ", ".join(f"{job.job_id} ({job.name})" for job in found)
        raise AmbiguousJob(f"{prefix!r} is the beginning of several ids: {listed}")
    if not found:
        raise NotFound(f"no job {prefix!r}: 'layoutlm-cli job list' shows names and ids")
    return found[0]

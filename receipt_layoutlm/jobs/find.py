"""Finds a job by id, name, @last, @best, @STAGE or id prefix."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from receipt_dynamo import DynamoClient, Job, JobStatus, NotFound
from receipt_dynamo.entities import parse_job_id, score_of
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.run.comparability import stamp_of
from receipt_layoutlm.run.scores import headline_of, shared_headline, stored_score
from receipt_layoutlm.suggestions import nearest_name

PREFIX_LIMIT = 100  # newest jobs of each status in which an id prefix, or a similar name, is looked up
BEST = "@best"


class AmbiguousJob(UserError):
    """More than one job matches; the text lists them."""


def find_job(client: DynamoClient, reference: str) -> Job:
    """The newest job of a name, the job of an id or id prefix, `@last`, `@best`, or the one in use as `@production`.

    Raises AmbiguousJob, NotFound.
    """
    if reference == "@last":
        if last := client.list_jobs(limit=1):
            return last[0]
        raise NotFound("the store has no job yet: `layoutlm-cli train --help` shows how to submit one")
    if reference == BEST:
        return best_job(client).job
    if stage := re.fullmatch(r"@([a-z][a-z0-9-]{0,31})", reference):
        if in_use := client.list_promotions(stage[1], limit=1):
            return client.get_job(in_use[0].job_id)
        raise NotFound(none_in_use(stage[1]))
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
        near = nearest_name(reference, {job.name for job in client.list_jobs(limit=PREFIX_LIMIT)})
        meant = f"; did you mean {near}?" if near else ""
        raise NotFound(f"no job {reference!r}: `layoutlm-cli job list` shows names and ids{meant}")
    return jobs[0]


def none_in_use(stage: str) -> str:
    """The answer to a question about a stage without a model."""
    return f"no model is in use as @{stage}: `layoutlm-cli model promote` brings that of a job into use"


def find_job_to(client: DynamoClient, reference: str, is_meant: Callable[[Job], bool]) -> Job:
    """As find_job, for a command that changes the job: of several jobs of a name, the only one that is meant.

    Raises AmbiguousJob if several are; without any it is the newest, whose state the command refuses.
    """
    job = find_job(client, reference)
    if reference.startswith("@") or job.name != reference:
        return job
    meant = [each for each in client.list_jobs_by_name(reference) if is_meant(each)]
    if len(meant) > 1:
        listed = ", ".join(
            f"{each.job_id} ({each.status}, created {each.created_at:%Y-%m-%d %H:%M} UTC)" for each in meant
        )
        raise AmbiguousJob(f"{len(meant)} jobs are called {reference}: name one by its id: {listed}")
    return meant[0] if meant else job


@dataclass(frozen=True)
class BestJob:
    """The job that @best stands for; `comparable` counts it and those whose scores may be compared with its score."""

    job: Job
    metric_name: str
    metric_value: float
    comparable: int
    scored: int

    @property
    def text(self) -> str:
        """One line for people."""
        of_jobs = f"the best of {self.comparable} comparable jobs" if self.comparable > 1 else "the only comparable job"
        others = self.scored - self.comparable
        left_out = f"; {others} more with a score are not comparable with the newest" if others else ""
        return (
            f"@best is {self.job.name} ({self.job.job_id}): {self.metric_name} {self.metric_value:.4f}, "
            f"{of_jobs}{left_out}"
        )


def best_job(client: DynamoClient) -> BestJob:
    """The highest score among the jobs comparable with the newest succeeded one; the earlier job wins a tie.

    Jobs that were selected by different metrics are ranked by one that all of them have. Reads keys and results of all
    succeeded jobs, and the whole row of the best one. Raises NotFound.
    """
    scored = [
        (job_id, results)
        for job_id, results in client.iter_results(JobStatus.SUCCEEDED)
        if score_of(results) is not None
    ]
    if not scored:
        raise NotFound("no job has succeeded with a score yet: `layoutlm-cli job list` lists all jobs")
    newest_id, newest = scored[0]
    if (stamp := stamp_of(newest)) is None:
        raise NotFound(
            f"the newest succeeded job, {client.get_job(newest_id).name}, has no comparability stamp, so it is unknown "
            "which jobs are comparable with it: name one of `layoutlm-cli job list`"
        )
    comparable = [(job_id, results) for job_id, results in scored if stamp_of(results) == stamp]
    metric = shared_headline([results for _, results in comparable]) or headline_of(newest)
    ranked = [(job_id, score) for job_id, results in comparable if (score := stored_score(results, metric)) is not None]
    best_id, score = max(reversed(ranked), key=lambda each: each[1])
    return BestJob(client.get_job(best_id), metric, score, len(ranked), len(scored))


def metric_value(job: Job) -> float | None:
    """The headline score of a job that has ended, if it has one."""
    return job.score

"""What a queue has to do: jobs that can be claimed now and jobs that run, each counted once, and who waits longest."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from receipt_dynamo import DynamoClient, Job, JobQueue, JobStatus, NotFound
from receipt_layoutlm.config import is_known_version


@dataclass(frozen=True)
class Hints:
    """What is known beside the indexes, which lag behind: jobs just rescued, and ids of jobs just made claimable."""

    rescued: Sequence[Job] = ()
    named: Sequence[str] = ()


@dataclass(frozen=True)
class QueueWork:
    """`waiting` are due, in claim order as far as the index knows; both parts as they were at `read_at`."""

    waiting: Sequence[Job]
    running: int
    read_at: datetime


def read_work(queue: JobQueue, name: str, most: int, hints: Hints, now: datetime) -> QueueWork:
    """Read at most `most` due entries of a queue, and count its running jobs. Raises StoreError.

    A job that is not due, or whose config only a newer worker knows, counts not: it would buy a machine for nothing.
    """
    running = {job.job_id for job in queue.client.iter_jobs_by_status(JobStatus.RUNNING) if job.queue == name}
    moved = {job.job_id: job for job in hints.rescued}
    known = (moved.get(job.job_id, job) for job in queue.due_jobs(name))  # the index may lag behind a rescue
    waiting = {job.job_id: job for job in itertools.islice(_claimable(known, name, now), most)}
    newest = itertools.islice(dict.fromkeys(reversed(hints.named)), most)
    for job in _claimable(itertools.chain(moved.values(), _named(queue.client, newest, waiting)), name, now):
        if len(waiting) >= most:
            break
        waiting.setdefault(job.job_id, job)
    return QueueWork(tuple(waiting.values()), len(running - waiting.keys() - moved.keys()), now)


def _claimable(jobs: Iterable[Job], name: str, now: datetime) -> Iterator[Job]:
    for job in jobs:
        is_due = job.not_before is None or job.not_before <= now
        if job.status.is_claimable and job.queue == name and is_due and is_known_version(job.job_config):
            yield job


def _named(client: DynamoClient, job_ids: Iterable[str], listed: dict[str, Job]) -> Iterator[Job]:
    """The jobs of these ids as they are stored; one that was listed, or is gone, is left out."""
    for job_id in job_ids:
        if job_id not in listed:
            try:
                yield client.get_job(job_id, consistent=True)
            except NotFound:
                continue


def waiting_since(client: DynamoClient, job: Job) -> datetime:
    """When a job that can be claimed became so: submitted, given back by its last attempt, or due after an error."""
    since = job.created_at
    if job.attempt:
        with contextlib.suppress(NotFound):
            since = client.get_attempt(job.job_id, job.attempt).ended_at or since
    return max(since, job.not_before) if job.not_before else since

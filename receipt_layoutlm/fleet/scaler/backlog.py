"""What a queue has to do: jobs that can be claimed now and jobs that run, each counted once, and who waits longest."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

from receipt_dynamo import DynamoClient, Job, JobQueue, Lease, NotFound
from receipt_layoutlm.config import is_known_version
from receipt_layoutlm.fleet.names import instance_of

CLOCKS_APART = timedelta(minutes=1)  # a retry is due at once, by the clock of whoever asked for it


@dataclass(frozen=True)
class Hints:
    """What is known beside the queue's index, which lags behind: what runs, what was just rescued or made claimable."""

    held: Sequence[tuple[Job, Lease]] = ()
    rescued: Sequence[Job] = ()
    named: Sequence[str] = ()


@dataclass(frozen=True)
class QueueWork:
    """`waiting` are due, in claim order as far as the index knows; both parts as they were at `read_at`."""

    waiting: Sequence[Job]
    running: int  # on machines of the group
    read_at: datetime


def read_work(queue: JobQueue, name: str, instances: Set[str], most: int, hints: Hints, now: datetime) -> QueueWork:
    """Read at most `most` due entries of a queue, and count the jobs that run on these instances. Raises StoreError.

    A job that is not due, or whose config only a newer worker knows, counts not: it would buy a machine for nothing.
    Nor does one that runs elsewhere, on somebody's laptop: its worker needs no machine.
    """
    running = {lease.job_id for _, lease in hints.held if instance_of(lease.worker_id) in instances}
    moved = {job.job_id: job for job in hints.rescued}
    # the index may lag behind a rescue
    known = (moved.get(job.job_id, job) for job in queue.due_jobs(name, page=most))
    waiting = {job.job_id: job for job in itertools.islice(_claimable(known, name, now), most)}
    newest = itertools.islice(dict.fromkeys(reversed(hints.named)), most)
    soon = now + CLOCKS_APART
    for job in _claimable(itertools.chain(moved.values(), _named(queue.client, newest, waiting)), name, soon):
        if len(waiting) >= most:
            break
        waiting.setdefault(job.job_id, job)
    return QueueWork(tuple(waiting.values()), len(running - waiting.keys() - moved.keys()), now)


def _claimable(jobs: Iterable[Job], name: str, now: datetime) -> Iterator[Job]:
    for job in jobs:
        if job.status.is_claimable and job.queue == name and job.is_due(now) and is_known_version(job.job_config):
            yield job


def _named(client: DynamoClient, job_ids: Iterable[str], listed: dict[str, Job]) -> Iterator[Job]:
    """The jobs of these ids as they are stored; one that was listed, or is gone, is left out."""
    for job_id in job_ids:
        if job_id not in listed:
            try:
                yield client.get_job(job_id, consistent=True)
            except NotFound:
                continue


def waiting_since(client: DynamoClient, job: Job, last_attempt: int) -> datetime:
    """When a job could be claimed again after its last attempt (0: it had none): submitted, given back, or due after
    an error or a retry. Raises StoreError."""
    since = job.created_at
    if last_attempt:
        with contextlib.suppress(NotFound):
            since = client.get_attempt(job.job_id, last_attempt).ended_at or since
    return max(since, job.not_before) if job.not_before else since

"""The invariants of docs/protocol.md, checked against what is stored about jobs that have ended."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from receipt_dynamo import Attempt, DynamoClient, Job, JobLog, JobMetric, JobStatus, Lease, NotFound

Claim = tuple[str, int, str]  # job, attempt, token
CLOCKS_APART = timedelta(seconds=2)  # of two processes that follow the server's Date header, which has whole seconds


@dataclass(frozen=True)
class Stored:
    """Everything that is stored about a job."""

    job: Job
    lease: Lease
    attempts: tuple[Attempt, ...]
    shown: tuple[JobMetric, ...]
    rows: tuple[JobMetric | JobLog, ...]  # of every attempt


def read_stored(client: DynamoClient, job_id: str) -> Stored:
    """Raises NotFound."""
    return Stored(
        client.get_job(job_id, consistent=True),
        client.get_lease(job_id),
        tuple(client.list_attempts(job_id)),
        tuple(client.list_job_metrics(job_id)),
        (*client.list_all_job_metrics(job_id), *client.list_job_logs(job_id)),
    )


def violations(
    client: DynamoClient,
    queue: str,
    job_ids: Iterable[str],
    claims: Collection[Claim],
    cancelled: Collection[str],
    steps: int,
) -> Iterator[str]:
    """Each broken invariant of the jobs of a queue, in a line.

    `claims` are those that workers were given, `cancelled` the jobs whose cancel was acknowledged, and `steps` the
    evaluations of a whole job.
    """
    given = Counter((job_id, attempt) for job_id, attempt, _ in set(claims))
    for (job_id, attempt), count in given.items():
        if count > 1:
            yield f"job {job_id}: attempt {attempt} was given to {count} claims (invariant 1)"
    queued = {job.job_id for job in client.iter_queue(queue)}
    for job_id in job_ids:
        try:
            stored = read_stored(client, job_id)
        except NotFound as error:
            yield f"job {job_id}: an accepted job is gone: {error}"
            continue
        yield from (f"job {job_id}: {text}" for text in _of_job(stored, steps, job_id in cancelled))
        if job_id in queued and stored.job.status.is_final:
            yield f"job {job_id}: it is {stored.job.status} and in the queue (invariant 11)"


def _of_job(stored: Stored, steps: int, is_cancelled: bool) -> Iterator[str]:
    job, lease, attempts = stored.job, stored.lease, stored.attempts
    if not job.status.is_final:
        yield f"it is {job.status}: every accepted job reaches a final state"
        return
    if lease.lease_token is not None:
        yield f"it is {job.status}, and its lease is held (invariant 2)"
    if [attempt.attempt for attempt in attempts] != list(range(1, job.attempt + 1)):
        yield "its attempts are not numbered without a gap (invariant 1)"
    if is_cancelled and job.status is not JobStatus.CANCELLED:
        yield f"its cancel was acknowledged, and it is {job.status} (invariant 7)"
    yield from _late_rows(stored)
    if job.status is JobStatus.SUCCEEDED:
        shown = [metric.global_step for metric in stored.shown]
        if shown != list(range(1, steps + 1)):
            yield f"the shown evaluations are of the steps {shown}, not 1 to {steps} (invariant 5)"
    for attempt in attempts:
        if attempt.ended_at is None:
            yield f"attempt {attempt.attempt} has no end"


def _late_rows(stored: Stored) -> Iterator[str]:
    """Rows of an attempt that are dated clearly after the next one began: its writer had lost the lease."""
    begins: Mapping[int, Attempt] = {attempt.attempt: attempt for attempt in stored.attempts}
    for row in stored.rows:
        following = begins.get((row.attempt or 0) + 1)
        if following is not None and row.timestamp > following.started_at + CLOCKS_APART:
            yield f"a row of attempt {row.attempt} was stored after attempt {following.attempt} began (invariant 4)"

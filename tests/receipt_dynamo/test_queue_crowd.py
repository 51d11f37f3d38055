"""Threads and processes claim from one queue at once: every job is claimed, and none twice."""

import multiprocessing
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from receipt_dynamo import DynamoClient, JobQueue, JobStatus
from tests.receipt_dynamo.protocol_crowd import Claim, claim_all

pytestmark = pytest.mark.engine

JOBS, THREADS, PROCESSES = 120, 16, 2


def crowd(endpoint: str, table: str, share: float) -> dict[str, list[Claim]]:
    """The claims of threads here and of processes beside, by worker."""
    names = [f"thread-{number}" for number in range(THREADS)] + [f"process-{number}" for number in range(PROCESSES)]
    spawn = multiprocessing.get_context("spawn")
    with ThreadPoolExecutor(THREADS) as threads, ProcessPoolExecutor(PROCESSES, mp_context=spawn) as processes:
        works = {
            name: (processes if name.startswith("process") else threads).submit(
                claim_all, endpoint, table, name, share, number
            )
            for number, name in enumerate(reversed(names))  # the processes first: they take a while to begin
        }
        return {name: work.result() for name, work in works.items()}


@pytest.mark.parametrize("share", [0.0, 0.2], ids=["no faults", "a fifth of the requests goes wrong"])
def test_a_crowd_of_threads_and_processes_claims_every_job_once(
    dynamo_endpoint: str, table_name: str, share: float
) -> None:
    client = DynamoClient(table_name, endpoint_url=dynamo_endpoint)
    queue = JobQueue(client)
    ids = [queue.submit(name=f"job-{number}", config={}, created_by="me").job_id for number in range(JOBS)]

    claims = crowd(dynamo_endpoint, table_name, share)

    given = {job_id: (name, token) for name, taken in claims.items() for job_id, _attempt, token in taken}
    counts = Counter(job_id for taken in claims.values() for job_id, _attempt, _token in taken)
    assert (set(counts), set(counts.values())) == (set(ids), {1})
    for job_id in ids:
        (attempt,) = client.list_attempts(job_id)
        lease = client.get_lease(job_id)
        assert (attempt.attempt, lease.attempt) == (1, 1)
        assert (attempt.worker_id, lease.lease_token) == given[job_id]
    assert len(client.list_jobs_by_status(JobStatus.RUNNING)) == JOBS
    assert list(client.iter_queue()) == []

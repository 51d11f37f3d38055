"""Measures the queue on the local engine: a crowd of claimers, a look at jobs that are not due, and short lists.

    python bench/claims.py [--jobs 320] [--waiting 10000] [--ended 10000]

Prints claims a second and transactions a claim for 1 and for 16 claimers (threads with clients of their own), and the
requests and read units of single questions. Needs the dev and local extras; some minutes.
"""

import argparse
import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import boto3

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.protocol_breaks import engine
from receipt_dynamo import DynamoClient, Job, JobQueue, JobStatus, utcnow
from receipt_dynamo import items as rows
from receipt_layoutlm import infra
from receipt_layoutlm.jobs.find import find_job
from receipt_layoutlm.local.engines import ACCESS_KEY, SECRET_KEY

CLAIMERS = 16
CONFIG = {"config_version": 1, "options": "x" * 1500}  # as long as a real one
RESULTS = {"metric_name": "eval_f1", "metric_value": 0.5, "comparability": "a", "per_label": "x" * 1500}
WRITES_PER_BATCH = 25


@dataclass
class Meter:
    """Requests and consumed units of one client since the last `reset`."""

    client: DynamoClient
    requests: Counter[str] = field(default_factory=Counter)
    units: float = 0.0

    def __post_init__(self) -> None:
        events = self.client.raw.meta.events
        events.register(
            "provide-client-params.dynamodb", lambda params, **_: params | {"ReturnConsumedCapacity": "TOTAL"}
        )
        events.register("before-send.dynamodb", self._sent)
        events.register("after-call.dynamodb", self._called)

    def _sent(self, event_name: str, **_: object) -> None:
        self.requests[event_name.rpartition(".")[2]] += 1

    def _called(self, parsed: dict[str, Any], **_: object) -> None:
        consumed = parsed.get("ConsumedCapacity") or []
        for each in consumed if isinstance(consumed, list) else [consumed]:
            self.units += each.get("CapacityUnits", 0.0)

    def of(self, question: Callable[[], object]) -> str:
        self.requests.clear()
        self.units = 0.0
        began = time.perf_counter()
        question()
        sent = ", ".join(f"{count} {name}" for name, count in self.requests.items())
        return f"{self.units:g} units, {sent}, {(time.perf_counter() - began) * 1000:.0f} ms"


def new_table(endpoint: str) -> str:
    name = f"table-{uuid.uuid4().hex}"
    admin = boto3.client("dynamodb", endpoint_url=endpoint)
    infra.create_table(admin, name)
    admin.update_table(TableName=name, StreamSpecification={"StreamEnabled": False})
    return name


def crowd(endpoint: str, jobs: int, claimers: int) -> str:
    """All jobs are claimed by so many claimers at once."""
    table = new_table(endpoint)
    queue = JobQueue(DynamoClient(table, endpoint_url=endpoint))
    for number in range(jobs):
        queue.submit(name=f"job-{number}", config=CONFIG, created_by="bench")
    meters = [Meter(DynamoClient(table, endpoint_url=endpoint)) for _ in range(claimers)]

    def claim_all(meter: Meter) -> int:
        claimed, own = 0, JobQueue(meter.client)
        while own.claim("bench") is not None:
            claimed += 1
        return claimed

    began = time.perf_counter()
    with ThreadPoolExecutor(claimers) as threads:
        claimed = sum(threads.map(claim_all, meters))
    seconds = time.perf_counter() - began
    transactions = sum(meter.requests["TransactWriteItems"] for meter in meters)
    assert claimed == jobs, (claimed, jobs)
    return (
        f"{claimers:2} claimers: {claimed / seconds:6.1f} claims/s, {transactions / claimed:.2f} transactions a claim"
    )


def put_all(client: DynamoClient, jobs: Iterator[rows.JobItem]) -> None:
    batch: list[Any] = []
    for item in jobs:
        batch.append({"PutRequest": {"Item": item.serialize()}})
        if len(batch) == WRITES_PER_BATCH:
            client.raw.batch_write_item(RequestItems={client.table_name: batch})
            batch = []
    if batch:
        client.raw.batch_write_item(RequestItems={client.table_name: batch})


def made(count: int, status: JobStatus, **more: Any) -> Iterator[Job]:
    now = utcnow()
    for number in range(count):
        yield Job(
            job_id=str(uuid.uuid4()),
            name=f"job-{number}",
            status=status,
            created_at=now - timedelta(seconds=count - number),
            created_by="bench",
            job_config=CONFIG,
            **more,
        )


def waiting(count: int, keys: str) -> Iterator[rows.JobItem]:
    """Jobs in backoff for a day, with the keys of now, or with those of versions before."""
    due = utcnow() + timedelta(days=1)
    for job in made(count, JobStatus.PENDING, not_before=due):
        item = rows.job_item(job)
        if keys == "new":
            item.gsi3_sk = rows.later_sk(job.priority, due, job.job_id)
        yield item


def questions(endpoint: str, waiting_jobs: int, ended: int) -> Iterator[str]:
    for keys in ("old", "new"):
        client = DynamoClient(new_table(endpoint), endpoint_url=endpoint)
        put_all(client, waiting(waiting_jobs, keys))
        meter, claim = Meter(client), partial(JobQueue(client).claim, "bench")
        for look in ("first", "each later"):
            yield f"{look} look at {waiting_jobs} jobs that are not due, {keys} keys: {meter.of(claim)}"
    client = DynamoClient(new_table(endpoint), endpoint_url=endpoint)
    per_status = ended // 2
    put_all(client, (rows.job_item(job) for job in made(per_status, JobStatus.FAILED)))
    put_all(client, (rows.job_item(job) for job in made(per_status, JobStatus.SUCCEEDED, results=RESULTS)))
    meter = Meter(client)
    for name, question in (
        ("@last", lambda: find_job(client, "@last")),
        ("job list --limit 10 --status failed", lambda: client.list_jobs_by_status("failed", 10)),
        ("an id prefix", lambda: find_job(client, client.list_jobs_by_status("failed", 1)[0].job_id[:8])),
        ("list_jobs_by_status without a limit", lambda: client.list_jobs_by_status("failed")),
    ):
        yield f"{name} among {ended} jobs: " + meter.of(question)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=320)
    parser.add_argument("--waiting", type=int, default=10_000)
    parser.add_argument("--ended", type=int, default=10_000)
    given = parser.parse_args(arguments)
    os.environ.update(AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY, AWS_DEFAULT_REGION="us-east-1")
    with engine() as endpoint:
        for claimers in (1, CLAIMERS, 1, CLAIMERS):
            print(crowd(endpoint, given.jobs, claimers), flush=True)
        for line in questions(endpoint, given.waiting, given.ended):
            print(line, flush=True)


if __name__ == "__main__":
    main()

"""Connections after a fork: each process has its own, and a reply to another request is refused."""

import io
import json
import multiprocessing
import os
from collections.abc import Callable
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from urllib3 import HTTPResponse

from receipt_dynamo import DynamoClient, FleetRows, JobQueue, Lease, Pointer, ReceiptClient, WrongReply
from receipt_dynamo.receipts import ValidationStatus
from receipt_layoutlm.storage.bucket import Bucket
from tests.support.jobs import claim, submit

FORK = multiprocessing.get_context("fork")
CHILDREN, READS = 6, 8
OTHER = "00000000-0000-4000-8000-000000000000"


def in_a_fork(action: Callable[[], object]) -> object:
    """What an action returns in a forked process."""
    reader, writer = FORK.Pipe(duplex=False)

    def child() -> None:
        writer.send(action())

    process = FORK.Process(target=child)
    process.start()
    try:
        assert reader.poll(60)
        return reader.recv()
    finally:
        process.join()


@pytest.mark.engine
def test_forked_processes_read_their_own_jobs_and_nobody_elses(queue: JobQueue) -> None:
    ids = [submit(queue, f"job-{number}").job_id for number in range(CHILDREN)]
    queue.client.list_jobs()  # the parent has an open connection
    start, answers = FORK.Barrier(CHILDREN), FORK.SimpleQueue()

    def child(number: int) -> None:
        start.wait()
        answers.put([queue.client.get_job(ids[number]).job_id == ids[number] for _ in range(READS)])

    processes = [FORK.Process(target=child, args=(number,)) for number in range(CHILDREN)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * CHILDREN
    assert [answers.get() for _ in processes] == [[True] * READS] * CHILDREN


@pytest.mark.engine
def test_a_forked_process_writes_through_a_connection_of_its_own(queue: JobQueue) -> None:
    submit(queue)
    lease = claim(queue)
    pointer = Pointer(attempt=1, global_step=5, manifest_sha256="a" * 64)
    stored = in_a_fork(lambda: queue.record_checkpoint(lease, pointer, None).checkpoint)
    assert stored == queue.client.get_lease(lease.job_id).checkpoint == pointer


def _underlying(holder: Any) -> int:
    """Identity of the botocore client behind one that stands for it, after a use of it."""
    assert holder.meta.service_model
    return id(holder._client)


HOLDERS: dict[str, Callable[[DynamoClient], Any]] = {
    "client": lambda client: client.raw,
    "writer": lambda client: client.writer._client,
    "reader": lambda client: client.reader._client,
    "receipts": lambda client: ReceiptClient(client)._bulk._client,
    "bulk reads": lambda client: ReceiptClient(client)._bulk._reader._client,
    "fleet rows": lambda client: FleetRows(client)._client.raw,
    "queue": lambda client: JobQueue(client).client.raw,
    "bucket": lambda _client: Bucket("a-bucket").raw,
    "uploads": lambda _client: Bucket("a-bucket")._target.client,
}


@pytest.mark.parametrize("name", HOLDERS)
def test_every_holder_of_a_connection_opens_another_after_a_fork(name: str) -> None:
    holder = HOLDERS[name](DynamoClient("a-table"))
    here = _underlying(holder)
    assert _underlying(holder) == here
    there = in_a_fork(lambda: (_underlying(holder) != here, holder._pid == os.getpid(), holder._client is not None))
    assert there == (True, True, True)
    assert _underlying(holder) == here


def test_a_bucket_in_a_fork_still_refuses_to_repeat_an_upload_that_was_given_up() -> None:
    raw: Any = Bucket("a-bucket").raw

    def refuses() -> int:
        handlers = raw.meta.events._emitter._handlers.prefix_search("needs-retry.s3")
        return sum(handler.__name__ == "_refuse_to_repeat" for handler in handlers if hasattr(handler, "__name__"))

    assert refuses() == in_a_fork(refuses) == 1


def test_the_connection_of_a_fork_tells_the_servers_time_too() -> None:
    client = DynamoClient("a-table")
    raw: Any = client.raw

    def followers() -> int:
        handlers = raw.meta.events._emitter._handlers.prefix_search("after-call.dynamodb")
        return sum(getattr(handler, "__self__", None) is client.clock for handler in handlers)

    assert followers() == in_a_fork(followers) == 1


# replies to other requests


def job_row(job_id: str) -> dict[str, Any]:
    return {"PK": {"S": f"JOB#{job_id}"}, "SK": {"S": "JOB"}}


ASKED = "07c8c4eb-34cc-4beb-bdc2-0d1a0d77c6ab"
CASES: dict[str, tuple[dict[str, Any], Callable[[DynamoClient], object]]] = {
    "one job": ({"Item": job_row(OTHER)}, lambda client: client.get_job(ASKED)),
    "the lease of a job": ({"Item": job_row(ASKED)}, lambda client: client.get_lease(ASKED)),
    "logs of another job": (
        {"Items": [{"PK": {"S": f"JOB#{OTHER}"}, "SK": {"S": "LOG#2026"}}]},
        lambda client: client.list_job_logs(ASKED),
    ),
    "metrics for logs": (
        {"Items": [{"PK": {"S": f"JOB#{ASKED}"}, "SK": {"S": "METRIC#2026"}}]},
        lambda client: client.list_job_logs(ASKED),
    ),
    "jobs of another status": (
        {"Items": [{**job_row(OTHER), "GSI1PK": {"S": "STATUS#failed"}, "GSI1SK": {"S": "CREATED#2026"}}]},
        lambda client: client.list_jobs_by_status("succeeded"),
    ),
    "results of another status": (
        {"Items": [{"PK": {"S": f"JOB#{OTHER}"}, "GSI1PK": {"S": "STATUS#failed"}, "GSI1SK": {"S": "CREATED#2026"}}]},
        lambda client: list(client.iter_results("succeeded")),
    ),
    "labels of another status": (
        {"Items": [{"PK": {"S": "IMAGE#1"}, "SK": {"S": "x"}, "GSI3PK": {"S": "VALIDATION_STATUS#INVALID"}}]},
        lambda client: list(ReceiptClient(client).iter_labels_by_status(ValidationStatus.VALID)),
    ),
    "receipts that were not asked for": (
        {"Responses": {"a-table": [{"PK": {"S": "IMAGE#2"}, "SK": {"S": "RECEIPT#00001"}}]}},
        lambda client: ReceiptClient(client).get_receipts([("1", 1)]),
    ),
    "the answer to another's write": (
        {"Attributes": job_row(OTHER)},
        lambda client: JobQueue(client).renew(_held(ASKED)),
    ),
}


def _held(job_id: str) -> Lease:
    return Lease(job_id=job_id, attempt=1, lease_token="t")


@pytest.mark.parametrize("case", CASES)
def test_a_reply_to_another_request_is_refused(case: str) -> None:
    reply, read = CASES[case]
    client = DynamoClient("a-table", endpoint_url="http://127.0.0.1:9")

    def answer(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        raw = HTTPResponse(body=io.BytesIO(json.dumps(reply).encode()), preload_content=False)
        return AWSResponse(request.url, 200, {"x-amzn-requestid": "ANSWERED"}, raw)

    client.raw.meta.events.register_first("before-send.dynamodb", answer)
    with pytest.raises(WrongReply, match=r"asked for .* got .*open a DynamoClient in each"):
        read(client)

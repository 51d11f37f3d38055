"""Answers of a gateway before the table are waited for like an outage, and nothing that they say is believed."""

import logging
import random
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from receipt_dynamo import DynamoClient, JobQueue, JobStatus, NotFound, StoreUnavailable, WriteTimeout
from receipt_dynamo.bulk import Bulk
from receipt_dynamo.gateway import GatewayAnswer
from receipt_dynamo.items import job_key
from tests.support.gateway import PAGES, Answer, Gateway, each_page, gateway_to
from tests.support.stores import Clock
from tests.support.wire import Patience, retry_at_once

pytestmark = pytest.mark.engine

FOR_LONG = 1000


@pytest.fixture
def gateway(dynamo_endpoint: str) -> Iterator[Gateway]:
    with gateway_to(dynamo_endpoint) as gateway:
        yield gateway


@pytest.fixture
def client(table_name: str, gateway: Gateway) -> DynamoClient:
    """Through the gateway; only its patience's clock moves, by its waits."""
    client = DynamoClient(table_name, endpoint_url=gateway.endpoint)
    client.raw.meta.events.register_first("needs-retry.dynamodb", retry_at_once)
    return client


@pytest.fixture
def patience(client: DynamoClient) -> Patience:
    return Patience(client)


@pytest.fixture
def queue(client: DynamoClient, patience: Patience, clock: Clock) -> JobQueue:
    return JobQueue(client, now=clock, rng=random.Random(0))


@each_page
def test_a_job_runs_to_its_end_through_a_gateway_that_answers_every_other_request_itself(
    queue: JobQueue, gateway: Gateway, page: Answer
) -> None:
    def after_pages(action: Callable[[], object]) -> object:
        gateway.answer(page, times=3)
        return action()

    job = queue.submit(name="a-job", config={}, created_by="tests")
    lease = after_pages(lambda: queue.claim("worker-1"))
    assert lease is not None
    after_pages(lambda: queue.renew(lease, "step 3"))  # type: ignore[arg-type]
    assert after_pages(lambda: queue.client.get_job(job.job_id)).attempt == 1  # type: ignore[attr-defined]
    assert after_pages(lambda: queue.release(lease, "asked to stop")) is JobStatus.INTERRUPTED  # type: ignore[arg-type]

    gateway.answers.clear()
    assert queue.client.get_job(job.job_id).status is JobStatus.INTERRUPTED
    assert queue.client.get_lease(job.job_id).renewals == 1


@each_page
def test_a_read_that_only_a_gateway_answers_ends_as_an_outage_that_names_it(
    queue: JobQueue, gateway: Gateway, patience: Patience, page: Answer
) -> None:
    gateway.answer(page, times=FOR_LONG)

    with pytest.raises(StoreUnavailable, match=rf"HTTP {page.status} .*proxy or a gateway.*HTTPS_PROXY") as raised:
        queue.client.list_jobs_by_status("pending")

    assert "\n" not in str(raised.value) and "come again" not in str(raised.value)
    assert sum(patience.waits) >= 10


def test_a_write_that_only_a_gateway_answers_is_given_up_when_its_patience_ends(
    queue: JobQueue, gateway: Gateway, patience: Patience
) -> None:
    gateway.answer(Answer(502), times=FOR_LONG)

    with pytest.raises(WriteTimeout, match="gave up after 20 s: HTTP 502"):
        queue.submit(name="a-job", config={}, created_by="tests")

    assert sum(patience.waits[:-1]) < 20 <= sum(patience.waits)


def test_what_the_table_itself_says_is_still_final(queue: JobQueue, gateway: Gateway, patience: Patience) -> None:
    with pytest.raises(NotFound):
        queue.client.get_job("07c8c4eb-34cc-4beb-bdc2-0d1a0d77c6ab")

    assert patience.waits == []
    assert gateway.seen == 1


def test_a_batch_outlasts_a_gateway(client: DynamoClient, gateway: Gateway) -> None:
    bulk = Bulk(client.raw, client.table_name, sleep=lambda _seconds: None)
    row = {**job_key("a-job"), "TYPE": {"S": "a test"}}
    for page in PAGES:
        gateway.answer(page, times=2)
        assert bulk.write([row]) == []
        gateway.answer(page, times=2)
        assert bulk.get([job_key("a-job")]) == [row]


def test_the_date_of_a_gateway_sets_no_clock(
    queue: JobQueue, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    portal = Answer(200, headers=(("Date", "Thu, 01 Jan 2099 00:00:00 GMT"),))
    gateway.answer(portal, times=2)

    with caplog.at_level(logging.WARNING):
        queue.client.list_jobs_by_status("pending")

    assert abs(queue.client.clock.offset) < timedelta(seconds=5)
    assert "clock" not in caplog.text


def test_an_answer_keeps_nothing_of_its_page() -> None:
    answer = GatewayAnswer(status=502, media_type="text/html")

    assert str(answer).startswith("HTTP 502 (text/html) is no answer of AWS but of a proxy or a gateway before it")

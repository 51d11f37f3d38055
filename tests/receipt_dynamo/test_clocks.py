"""No machine's own clock decides: times are the server's, and only a lease that was seen to stand still is taken."""

import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.httpsession import URLLib3Session

from receipt_dynamo import DynamoClient, JobQueue, JobStatus, Lease
from receipt_dynamo.lease_watch import LeaseWatch, Sighting
from receipt_dynamo.server_clock import ServerClock
from tests.support.jobs import claim, claimed, submit
from tests.support.stores import Clock

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTES = [-10.0, -2.0, 2.0, 10.0]
LEASE = Lease(job_id="7f1ab7f0-4c0b-4c53-bd46-40ce8f5f4b4a", attempt=2, lease_token="t", renewals=7)


def test_the_servers_date_corrects_a_clock_that_is_off_and_leaves_one_that_agrees() -> None:
    wall = Clock(NOON)
    clock = ServerClock(wall)

    clock.learn(NOON, NOON, NOON + SECOND)
    assert clock.offset == timedelta(0)

    clock.learn(NOON + timedelta(seconds=115), NOON, NOON)
    assert abs(clock.offset.total_seconds() - 115.5) <= 0.5
    before = clock.offset
    clock.learn(NOON + timedelta(seconds=116), NOON + SECOND, NOON + SECOND)
    assert clock.offset == before  # so that two times of one process keep their order


def test_a_clock_that_is_off_by_more_than_5_seconds_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = ServerClock(Clock(NOON))
    with caplog.at_level(logging.WARNING):
        clock.learn(NOON + timedelta(seconds=4), NOON, NOON)
        assert caplog.messages == []
        clock.learn(NOON - timedelta(seconds=600), NOON, NOON)
        clock.learn(NOON - timedelta(seconds=900), NOON, NOON)
    (message,) = caplog.messages
    assert "600 s ahead of the table's" in message


def dated(client: DynamoClient, header: str | None) -> None:
    """From now on replies carry this Date header."""

    def send(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        reply = URLLib3Session().send(request)
        del reply.headers["date"]
        if header is not None:
            reply.headers["date"] = header
        return reply

    client.raw.meta.events.register_first("before-send.dynamodb", send)


@pytest.mark.engine
@pytest.mark.parametrize("minutes", MINUTES)
def test_a_client_goes_by_the_dates_of_its_replies(client: DynamoClient, minutes: float) -> None:
    skew = timedelta(minutes=minutes)
    dated(client, format_datetime(datetime.now(UTC) + skew, usegmt=True))

    job = submit(JobQueue(client))  # the first reply
    later = submit(JobQueue(client))

    assert abs((later.created_at - job.created_at) - skew) < timedelta(seconds=10)


@pytest.mark.engine
@pytest.mark.parametrize("header", [None, "", "soon", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_replies_without_a_usable_date_leave_the_machines_clock(client: DynamoClient, header: str | None) -> None:
    dated(client, header)
    client.list_jobs_by_status("pending")
    assert abs(client.now() - datetime.now(UTC)) < timedelta(seconds=10)


@pytest.mark.engine
@pytest.mark.parametrize("minutes", MINUTES)
@pytest.mark.parametrize("skewed", ["worker", "rescuer"])
def test_a_worker_that_renews_keeps_its_job_whatever_the_clocks_say(
    client: DynamoClient, clock: Clock, skewed: str, minutes: float
) -> None:
    """Here no Date header helps: each queue has a clock of its own."""
    wrong = lambda: clock() + timedelta(minutes=minutes)  # noqa: E731
    worker = JobQueue(client, now=wrong if skewed == "worker" else clock)
    rescuer = JobQueue(client, now=wrong if skewed == "rescuer" else clock)
    submit(worker)
    lease = claim(worker)

    for _ in range(40):
        clock.pass_seconds(7.5)
        assert rescuer.rescue() == []
        clock.pass_seconds(7.5)
        lease = worker.renew(lease)

    assert client.get_job(lease.job_id).status is JobStatus.RUNNING


@pytest.mark.engine
def test_a_rescuer_that_has_just_started_takes_a_dead_workers_job_after_a_lease(queue: JobQueue, clock: Clock) -> None:
    lease = claimed(queue)
    clock.pass_seconds(3600)
    rescuer = JobQueue(queue.client, now=clock)

    assert (rescuer.rescue(), [each.job_id for each in rescuer.overdue()]) == ([], [lease.job_id])
    clock.pass_seconds(89)
    assert rescuer.rescue() == []
    clock.pass_seconds(2)
    assert [job.job_id for job in rescuer.rescue()] == [lease.job_id]


@pytest.mark.engine
def test_an_idle_rescuer_takes_a_job_as_soon_as_its_lease_has_run_out_by_30_seconds(
    queue: JobQueue, clock: Clock
) -> None:
    rescuer, lease = JobQueue(queue.client, now=clock), claimed(queue)
    looks = 0
    while not rescuer.rescue():
        clock.pass_seconds(20)
        looks += 1
    assert looks == 6  # every 20 s, and this is the first one after 120 s
    assert queue.client.get_job(lease.job_id).status is JobStatus.INTERRUPTED


def test_a_lease_that_was_renewed_or_claimed_anew_does_not_stand_still() -> None:
    clock = Clock()
    watch, lease = LeaseWatch(clock.monotonic), LEASE
    watch.look([lease])
    clock.pass_seconds(100)
    assert watch.still_seconds(lease) == pytest.approx(100)
    assert watch.still_seconds(lease.model_copy(update={"renewals": 8})) == 0
    assert watch.still_seconds(lease.model_copy(update={"attempt": 3})) == 0


def test_what_an_earlier_process_saw_is_recalled_unless_it_lies_ahead() -> None:
    clock = Clock()
    seen = Sighting(job_id=LEASE.job_id, attempt=2, renewals=7, seen_at=clock.monotonic() - 300)
    watch = LeaseWatch(clock.monotonic)
    watch.recall([seen])
    watch.look([LEASE])
    assert watch.still_seconds(LEASE) == pytest.approx(300)
    assert watch.sightings() == (seen,)

    ahead = LeaseWatch(clock.monotonic)
    ahead.recall([seen.model_copy(update={"seen_at": clock.monotonic() + 300})])
    assert ahead.sightings() == ()

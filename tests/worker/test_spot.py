"""Spot notices and identity from the instance metadata, against a fake IMDSv2 on loopback."""

import http.server
import logging
import threading
from datetime import UTC, datetime, timedelta

import pytest
from botocore.utils import InstanceMetadataFetcher

from receipt_dynamo import JobQueue, JobStatus, Machine
from receipt_layoutlm.worker.context import WorkerContext
from receipt_layoutlm.worker.host.spot import (
    ENDPOINT_VARIABLE,
    GROUP_SECONDS,
    TOKEN_SECONDS,
    InstanceMetadata,
    MetadataUnavailable,
    Notice,
    SpotWatch,
    find_metadata,
)
from receipt_layoutlm.worker.worker import ClaimOptions, run_worker
from tests.support.imds import ROLE, Imds
from tests.support.moto_worker import a_worker, on_host, status, submit
from tests.support.stores import Clock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOBODY = "http://127.0.0.1:9"  # the discard port: refused at once


@pytest.fixture
def metadata(imds: Imds) -> InstanceMetadata:
    return InstanceMetadata(imds.endpoint)


def test_a_spot_instance_says_what_it_is(metadata: InstanceMetadata) -> None:
    assert metadata.identity() == Machine(instance_type="g5.xlarge", region="eu-west-1", spot=True)


def test_an_on_demand_instance_is_not_taken_for_a_spot_instance(imds: Imds, metadata: InstanceMetadata) -> None:
    imds.paths["instance-life-cycle"] = "on-demand"

    assert metadata.identity().spot is False


def test_without_a_notice_there_is_no_interruption_and_no_recommendation(metadata: InstanceMetadata) -> None:
    assert metadata.interruption() is None
    assert metadata.rebalance() is None


def test_a_spot_notice_says_what_happens_and_when(imds: Imds, metadata: InstanceMetadata) -> None:
    imds.interrupt(NOON + timedelta(minutes=2), "stop")

    assert metadata.interruption() == Notice("stop", NOON + timedelta(minutes=2))


def test_a_rebalance_recommendation_says_since_when(imds: Imds, metadata: InstanceMetadata) -> None:
    imds.recommend_rebalance(NOON)

    assert metadata.rebalance() == NOON


def test_one_token_serves_many_looks(imds: Imds, metadata: InstanceMetadata) -> None:
    for _ in range(5):
        metadata.interruption()

    assert (imds.tokens_given, imds.refused) == (1, 0)


def test_a_token_is_renewed_before_it_runs_out(imds: Imds) -> None:
    clock = Clock()
    imds.monotonic = clock.monotonic
    metadata = InstanceMetadata(imds.endpoint, monotonic=clock.monotonic)
    metadata.interruption()

    clock.pass_seconds(TOKEN_SECONDS - 60)
    metadata.interruption()

    assert (imds.tokens_given, imds.refused) == (2, 0)


def test_a_refused_token_is_replaced_and_the_look_repeated(imds: Imds, metadata: InstanceMetadata) -> None:
    imds.interrupt(NOON)
    metadata.interruption()
    imds.tokens.clear()

    assert metadata.interruption() == Notice("terminate", NOON)
    assert (imds.tokens_given, imds.refused) == (2, 1)


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "not json", '{"action": "stop"}', '{"action": "stop", "time": "soon"}']
)
def test_a_notice_that_cannot_be_read_is_an_error_and_not_silence(
    imds: Imds, metadata: InstanceMetadata, text: str
) -> None:
    imds.paths["spot/instance-action"] = text

    with pytest.raises(MetadataUnavailable):
        metadata.interruption()


@pytest.mark.parametrize("endpoint", [NOBODY, "no address", "http://[::1"])
def test_metadata_that_does_not_answer_is_an_error_that_names_the_address(endpoint: str) -> None:
    with pytest.raises(MetadataUnavailable, match="does not answer"):
        InstanceMetadata(endpoint).identity()


def test_a_server_error_is_metadata_that_does_not_answer(imds: Imds, metadata: InstanceMetadata) -> None:
    imds.is_broken = True

    with pytest.raises(MetadataUnavailable, match="status 500"):
        metadata.interruption()


# the watch


def test_the_watch_sees_a_notice_and_how_long_is_left(imds: Imds, metadata: InstanceMetadata) -> None:
    watch = SpotWatch(metadata, now=lambda: NOON)
    watch.poll()
    assert (watch.interruption, watch.rebalance_recommended, watch.seconds_left()) == (None, False, None)

    imds.interrupt(NOON + timedelta(minutes=2))
    watch.poll()

    assert watch.interruption == Notice("terminate", NOON + timedelta(minutes=2))
    assert watch.seconds_left() == 120


def test_a_recommendation_is_no_interruption(imds: Imds, metadata: InstanceMetadata) -> None:
    imds.recommend_rebalance(NOON)
    watch = SpotWatch(metadata)

    watch.poll()

    assert watch.rebalance_recommended
    assert watch.interruption is None


def test_what_was_seen_once_stays_seen(imds: Imds, metadata: InstanceMetadata) -> None:
    imds.interrupt(NOON)
    imds.recommend_rebalance(NOON)
    watch = SpotWatch(metadata)
    watch.poll()

    imds.paths.clear()
    watch.poll()

    assert watch.interruption == Notice("terminate", NOON)
    assert watch.rebalance_recommended


def test_metadata_that_goes_away_is_said_once_and_watched_on(
    imds: Imds, metadata: InstanceMetadata, caplog: pytest.LogCaptureFixture
) -> None:
    watch = SpotWatch(metadata)
    imds.is_broken = True
    with caplog.at_level(logging.WARNING, "receipt_layoutlm"):
        for _ in range(3):
            watch.poll()
    assert len(caplog.records) == 1

    imds.is_broken = False
    imds.interrupt(NOON)
    watch.poll()

    assert watch.interruption == Notice("terminate", NOON)


def test_the_thread_looks_at_once_and_ends_with_the_block(imds: Imds, metadata: InstanceMetadata) -> None:
    imds.interrupt(NOON)

    with SpotWatch(metadata, poll_seconds=3600) as watch:
        assert imds.asked.wait(10)

    assert watch.interruption == Notice("terminate", NOON)
    assert "spot-watch" not in {thread.name for thread in threading.enumerate()}


# is there any metadata?


def test_metadata_is_found_where_the_environment_says(imds: Imds) -> None:
    found = find_metadata({ENDPOINT_VARIABLE: imds.endpoint + "/"})

    assert found is not None
    assert found.identity().instance_type == "g5.xlarge"


def test_metadata_that_is_switched_off_is_not_asked(imds: Imds) -> None:
    assert find_metadata({ENDPOINT_VARIABLE: imds.endpoint, "AWS_EC2_METADATA_DISABLED": "True"}) is None
    assert imds.tokens_given == 0


def test_a_machine_outside_ec2_has_no_metadata() -> None:
    assert find_metadata({ENDPOINT_VARIABLE: NOBODY}) is None


def test_another_servers_metadata_is_none_of_ec2s() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as other:
        thread = threading.Thread(target=other.handle_request)
        thread.start()

        assert find_metadata({ENDPOINT_VARIABLE: f"http://127.0.0.1:{other.server_address[1]}"}) is None
        thread.join()


# the fake itself


def test_the_fake_gives_boto3_the_keys_of_a_role(imds: Imds) -> None:
    found = InstanceMetadataFetcher(base_url=imds.endpoint, env={}).retrieve_iam_role_credentials()

    assert found["role_name"] == ROLE
    assert found["access_key"].startswith("ASIA")


def test_the_fake_answers_nobody_without_a_token(imds: Imds) -> None:
    assert imds.answer("/latest/meta-data/instance-type", None)[0] == 401
    assert imds.answer("/latest/meta-data/instance-type", "made-up")[0] == 401


# what a worker does about it, and when its group takes the machine away


@pytest.fixture
def place(queue: JobQueue) -> WorkerContext:
    return a_worker(queue)


def test_why_a_worker_ended(imds: Imds, place: WorkerContext) -> None:
    watch = SpotWatch(InstanceMetadata(imds.endpoint), now=lambda: NOON)
    place = on_host(place, spot=watch)
    assert place.end_reason == "idle"
    place.drain.set()
    assert place.end_reason == "drained"
    place.stop.set()
    assert place.end_reason == "stopped"
    imds.interrupt(NOON)
    watch.poll()
    assert place.end_reason == "leaving"


def test_a_machine_that_its_group_takes_away_is_given_up_like_one_with_a_notice(imds: Imds) -> None:
    watch = SpotWatch(InstanceMetadata(imds.endpoint), now=lambda: NOON)
    watch.poll()
    assert watch.interruption is None

    imds.paths["autoscaling/target-lifecycle-state"] = "Terminated"
    watch.poll()

    assert watch.interruption == Notice("terminate by its group", NOON + timedelta(seconds=GROUP_SECONDS))


def test_a_spot_notice_comes_before_what_the_group_wants(imds: Imds) -> None:
    watch = SpotWatch(InstanceMetadata(imds.endpoint), now=lambda: NOON)
    imds.interrupt(NOON + timedelta(minutes=2))
    imds.paths["autoscaling/target-lifecycle-state"] = "Terminated"

    watch.poll()

    assert watch.seconds_left() == 120


@pytest.mark.parametrize("state", ["InService", "Warmed:Running", None])
def test_a_machine_that_its_group_keeps_goes_on(imds: Imds, state: str | None) -> None:
    imds.paths.pop("autoscaling/target-lifecycle-state")
    if state:
        imds.paths["autoscaling/target-lifecycle-state"] = state
    watch = SpotWatch(InstanceMetadata(imds.endpoint))

    watch.poll()

    assert watch.interruption is None


def test_a_worker_whose_machine_its_group_takes_away_claims_nothing(
    imds: Imds, queue: JobQueue, place: WorkerContext
) -> None:
    job = submit(queue)
    imds.paths["autoscaling/target-lifecycle-state"] = "Terminated"
    watch = SpotWatch(InstanceMetadata(imds.endpoint))
    watch.poll()

    run_worker(on_host(place, spot=watch), ClaimOptions(idle_timeout=0))

    assert status(queue, job) is JobStatus.PENDING


def test_after_a_rebalance_recommendation_no_second_job_is_claimed(
    imds: Imds, queue: JobQueue, place: WorkerContext
) -> None:
    first, second = submit(queue), submit(queue)
    imds.recommend_rebalance(NOON)
    watch = SpotWatch(InstanceMetadata(imds.endpoint))
    watch.poll()
    place = on_host(place, spot=watch)

    assert len(run_worker(place, ClaimOptions())) == 1

    assert [status(queue, job) for job in (first, second)].count(JobStatus.PENDING) == 1
    assert place.end_reason == "leaving"

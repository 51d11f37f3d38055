"""The scaler's entry: stored results of a stream record, a schedule and a terminated machine."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import boto3
import pytest

from receipt_dynamo import DynamoClient, FleetRows, Job, JobError, JobQueue, JobStatus, utcnow
from receipt_layoutlm import scaler_lambda
from receipt_layoutlm.fleet.names import worker_id
from receipt_layoutlm.fleet.scaler.lambda_entry import (
    BadSettings,
    LookFailed,
    container_of,
    namespace,
    on_event,
    parse_settings,
)
from tests.support.fleets import FLEET, NO_IMAGES, REGION, StoredGroup, lagging_index, make_group
from tests.support.paths import ROOT
from tests.support.stores import Clock

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = pytest.mark.engine

SCHEDULE = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}
ENDED = {
    "source": "aws.autoscaling",
    "detail-type": "EC2 Instance Terminate Successful",
    "detail": {"AutoScalingGroupName": f"{FLEET}-workers", "EC2InstanceId": "i-0123456789abcdef0"},
}


@dataclass
class Cloud:
    """The environment of the function: a table, and one group on moto."""

    raw: "DynamoDBClient"
    table: str
    settings: str
    queue: JobQueue
    group: StoredGroup

    def submit(self) -> Job:
        return self.queue.submit(name="a-job", config={"config_version": 1}, created_by="me")

    def image(self, job: Job) -> dict[str, object]:
        key = {"PK": {"S": f"JOB#{job.job_id}"}, "SK": {"S": "JOB"}}
        return dict(self.raw.get_item(TableName=self.table, Key=key, ConsistentRead=True)["Item"])

    def stream(self, *images: tuple[dict[str, object] | None, dict[str, object]]) -> dict[str, object]:
        """An event of records with these images before and after."""
        records = [
            {
                "eventSource": "aws:dynamodb",
                "eventName": "INSERT" if old is None else "MODIFY",
                "dynamodb": {"NewImage": new, **({} if old is None else {"OldImage": old})},
            }
            for old, new in images
        ]
        return {"Records": records}

    def published(self) -> dict[str, float]:
        """Sums of the published figures."""
        cloudwatch = boto3.client("cloudwatch", region_name=REGION)
        now = utcnow()
        return {
            name: cloudwatch.get_metric_statistics(
                Namespace=namespace(FLEET),
                MetricName=name,
                StartTime=now - timedelta(hours=1),
                EndTime=now + timedelta(hours=1),
                Period=7200,
                Statistics=["Sum"],
            )["Datapoints"][0]["Sum"]
            for name in {each["MetricName"] for each in cloudwatch.list_metrics(Namespace=namespace(FLEET))["Metrics"]}
        }


@pytest.fixture
def cloud(
    moto_aws: None,
    dynamo: "DynamoDBClient",
    table_name: str,
    dynamo_endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Cloud:
    settings = {
        "fleet": FLEET,
        "table": table_name,
        "groups": [{"name": f"{FLEET}-workers", "queue": "default", "maximum": 4}],
        "slots": 1,
        "max_cost_per_day": 0,
        "ondemand_after": 3,
        "prices": None,
    }
    text = json.dumps(settings)
    monkeypatch.setenv(*NO_IMAGES)
    monkeypatch.setenv("LAYOUTLM_SCALER", text)
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", dynamo_endpoint)
    queue = JobQueue(DynamoClient(table_name, endpoint_url=dynamo_endpoint))
    return Cloud(dynamo, table_name, text, queue, make_group(f"{FLEET}-workers"))


def test_a_record_of_a_submitted_job_starts_a_machine(cloud: Cloud) -> None:
    job = cloud.submit()
    on_event(cloud.stream((None, cloud.image(job))), None)
    assert cloud.group.desired == 1


def test_the_handler_of_earlier_templates_still_works(cloud: Cloud) -> None:
    cloud.submit()
    scaler_lambda.run(SCHEDULE, None)
    assert cloud.group.desired == 1


@pytest.mark.parametrize("event", [SCHEDULE, ENDED, {}], ids=["schedule", "machine ended", "by hand"])
def test_every_other_event_triggers_a_look_too(cloud: Cloud, event: dict[str, object]) -> None:
    cloud.submit()
    cloud.submit()
    on_event(event, None)
    assert cloud.group.desired == 2


def test_a_job_submitted_while_the_last_machine_ends_gets_a_machine_when_it_has_ended(cloud: Cloud) -> None:
    cloud.group.order(1)
    job = cloud.submit()  # the machine has looked at the queue for the last time just before
    on_event(cloud.stream((None, cloud.image(job))), None)
    assert cloud.group.desired == 1  # the machine that ends still counts
    cloud.group.end_an_instance()
    assert cloud.group.desired == 0
    on_event(ENDED, None)
    assert cloud.group.desired == 1


def test_a_stale_record_still_triggers_a_look(cloud: Cloud) -> None:
    old = cloud.submit()
    image = cloud.image(old)
    cloud.queue.cancel(old.job_id)
    cloud.submit()
    cloud.submit()
    on_event(cloud.stream((None, image)), None)
    assert cloud.group.desired == 2


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([{"dynamodb": {"NewImage": {"PK": {"S": "JOB#1"}}}}], id="no job"),
        pytest.param([{"dynamodb": {}}], id="no image"),
        pytest.param([{}], id="nothing"),
        pytest.param("text", id="no list"),
    ],
)
def test_a_record_that_cannot_be_read_does_not_stop_the_look(cloud: Cloud, records: object) -> None:
    cloud.submit()
    on_event({"Records": records}, None)
    assert cloud.group.desired == 1


def test_the_record_counts_before_the_index_lists_its_job(cloud: Cloud) -> None:
    job = cloud.submit()
    lagging_index(container_of(cloud.settings).scaler.queue.client, "GSI3")
    on_event(SCHEDULE, None)
    assert cloud.group.desired == 0
    on_event(cloud.stream((None, cloud.image(job))), None)
    assert cloud.group.desired == 1


# what CloudWatch is told


def test_an_idle_fleet_publishes_nothing(cloud: Cloud) -> None:
    on_event(SCHEDULE, None)
    assert cloud.published() == {}


def test_waiting_and_running_jobs_are_published(cloud: Cloud) -> None:
    cloud.submit()
    cloud.submit()
    cloud.group.order(1)
    assert cloud.queue.claim(worker_id(cloud.group.instances[0], 0)) is not None
    on_event(SCHEDULE, None)
    published = cloud.published()
    assert published.pop("OldestPendingAge") > 0
    assert published.pop("OldestInstanceAge") > 0
    assert published == {"Backlog": 1, "Running": 1}


def test_idle_machines_and_the_age_of_the_oldest_are_published(cloud: Cloud) -> None:
    cloud.group.order(2)
    on_event(SCHEDULE, None)
    published = cloud.published()
    assert published.pop("OldestInstanceAge") > 0
    assert published == {"IdleMachines": 2}


ODD_ROWS = {
    "after the year 9000": ("created_at", {"S": "9999-12-31T23:59:59-23:59"}),
    "before the epoch": ("created_at", {"S": "0001-01-01T00:00:00+00:00"}),
    "nested 100,000 deep": ("job_config", {"S": "[" * 100_000}),
    "a number of 400 digits": ("results", {"S": f'{{"metric_value": {"9" * 400}}}'}),
}


@pytest.mark.parametrize("odd", ODD_ROWS)
def test_a_row_that_cannot_be_read_is_counted_and_stops_neither_look_nor_stream(cloud: Cloud, odd: str) -> None:
    broken, whole = cloud.submit(), cloud.submit()
    name, value = ODD_ROWS[odd]
    image = {**cloud.image(broken), name: value}
    cloud.raw.put_item(TableName=cloud.table, Item=image)  # type: ignore[arg-type]
    told = on_event(cloud.stream((None, image), (None, cloud.image(whole))), None)
    assert (cloud.group.desired, told["unreadable_rows"]) == (1, 1)
    assert cloud.published()["UnreadableRows"] == 1


def test_a_lease_beyond_every_calendar_is_counted_and_the_other_dead_worker_is_rescued(cloud: Cloud) -> None:
    broken, other = (cloud.submit() for _ in range(2))
    long_ago = JobQueue(cloud.queue.client, now=Clock(utcnow() - timedelta(hours=1)))
    assert long_ago.claim("dead-1") and long_ago.claim("dead-2")
    key = {"PK": {"S": f"JOB#{broken.job_id}"}, "SK": {"S": "LEASE"}}
    row = cloud.raw.get_item(TableName=cloud.table, Key=key)["Item"]
    cloud.raw.put_item(TableName=cloud.table, Item={**row, "expires_at": {"S": "9999-12-31T23:59:59+00:00"}})
    on_event(SCHEDULE, None)
    silence = container_of(cloud.settings).scaler
    lease_seconds = silence.queue.timing.lease_seconds
    kept = [
        each.model_copy(update={"seen_at": each.seen_at - lease_seconds}) for each in silence.rows.get_sightings(FLEET)
    ]
    silence.queue.watch.recall(kept)  # the second look, a lease's length later
    silence.rows.put_sightings(FLEET, kept)
    told = on_event(SCHEDULE, None)
    assert told["rescued"] == [other.job_id] and told["unreadable_rows"] == 1


def test_a_job_that_failed_is_counted_once(cloud: Cloud) -> None:
    before, failed = failure(cloud)
    on_event(cloud.stream((before, failed), (failed, failed)), None)
    assert cloud.published() == {"JobsFailed": 1}


def test_a_job_that_failed_is_counted_once_when_the_stream_brings_it_again_after_an_error(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = cloud.stream(failure(cloud))
    with monkeypatch.context() as broken:
        broken.setenv("LAYOUTLM_SCALER", with_a_missing_group(cloud))
        with pytest.raises(LookFailed):
            on_event(event, None)
    on_event(event, None)
    assert cloud.published() == {"JobsFailed": 1}


def failure(cloud: Cloud) -> tuple[dict[str, object], dict[str, object]]:
    """A job that failed, before and after."""
    job = cloud.submit()
    before = cloud.image(job)
    lease = cloud.queue.claim("a-worker")
    assert lease is not None
    cloud.queue.fail(lease, JobError(cause="bad_data", message="no pages"))
    assert cloud.queue.client.get_job(job.job_id).status is JobStatus.FAILED
    return before, cloud.image(job)


def with_a_missing_group(cloud: Cloud) -> str:
    settings = json.loads(cloud.settings)
    settings["groups"].append({"name": "no-such-group", "queue": "default", "maximum": 1})
    return json.dumps(settings)


def test_failures_are_logged_and_raised_after_the_rest_was_done(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYOUTLM_SCALER", with_a_missing_group(cloud))
    cloud.submit()
    with pytest.raises(LookFailed, match="no-such-group"):
        on_event(SCHEDULE, None)
    assert cloud.group.desired == 1
    assert cloud.published()["Backlog"] == 1


def test_the_prices_of_the_settings_meter_the_machines(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = json.loads(cloud.settings)
    monkeypatch.setenv("LAYOUTLM_SCALER", json.dumps({**settings, "prices": {"g5.xlarge": {"on-demand": 3600}}}))
    cloud.group.order(1)  # moto's machines started this second, on demand
    clock = Clock(utcnow())
    on_event(SCHEDULE, None)
    on_event(SCHEDULE, None)
    rows = FleetRows(cloud.queue.client)
    assert 0 < rows.get_cost(FLEET, clock.time.date()).dollars < 60  # a dollar a second


def test_the_metered_cost_has_disk_and_address_in_it(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = json.loads(cloud.settings)
    prices = {"prices": {"g5.xlarge": {"on-demand": 1.0}}, "volume_gigabytes": 730}
    monkeypatch.setenv("LAYOUTLM_SCALER", json.dumps({**settings, **prices}))
    cloud.group.order(1)
    scaler = container_of(os.environ["LAYOUTLM_SCALER"]).scaler
    (machine,) = scaler.instances()
    assert scaler.price(machine) == pytest.approx(1.0 + 0.08 + 0.005)


# settings


@pytest.mark.parametrize("text", [None, "", "{", "{}", '{"fleet": "a", "table": "t", "groups": []}'])
def test_settings_that_cannot_be_read_are_refused(text: str | None) -> None:
    with pytest.raises(BadSettings, match="LAYOUTLM_SCALER"):
        parse_settings(text)


@pytest.mark.parametrize("prices", ["null", '""', "{}"])
def test_settings_without_prices(prices: str) -> None:
    groups = '[{"name": "g", "queue": "q", "maximum": "4"}]'
    settings = parse_settings(f'{{"fleet": "f", "table": "t", "groups": {groups}, "slots": "2", "prices": {prices}}}')
    assert (settings.prices, settings.slots, settings.groups[0].maximum) == (None, 2, 4)


# contents of the zip

LOADED = """
import sys
before = set(sys.modules)
import receipt_layoutlm.fleet.scaler.lambda_entry
print(*sorted(set(sys.modules) - before))
"""
# beside the standard library: botocore comes with the runtime (certifi, dateutil, jmespath, six and urllib3 are its
# own), the others are in the zip
THIRD_PARTY = set(
    "botocore certifi dateutil jmespath urllib3 six pydantic pydantic_core annotated_types "
    "typing_extensions typing_inspection pynamodb receipt_dynamo receipt_layoutlm".split()
)


def test_the_entry_loads_nothing_that_the_zip_does_not_hold() -> None:
    child = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = child.stdout.split()
    tops = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    tops.discard("blinker")  # pynamodb's signals take it where it is installed, as MLflow brings it here
    assert {name for name in tops if not name.startswith("_")} <= THIRD_PARTY

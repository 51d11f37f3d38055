"""A fleet's pause and costs, as they are stored."""

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from receipt_dynamo import DynamoClient, FleetCost, FleetPause, FleetRows
from receipt_layoutlm.fleet.names import instance_of, worker_id
from tests.support.stores import Clock

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DAY = date(2026, 11, 21)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rows(table_name: str, dynamo_endpoint: str, clock: Clock) -> FleetRows:
    return FleetRows(DynamoClient(table_name, endpoint_url=dynamo_endpoint), now=clock)


def a_pause(clock: Clock) -> FleetPause:
    now = clock.time
    return FleetPause(fleet="mine", reason="20 of 20 USD", paused_at=now, until=now + timedelta(hours=3))


def test_a_pause_is_read_back_by_its_own_fleet_alone(rows: FleetRows, clock: Clock) -> None:
    pause = a_pause(clock)
    rows.put_pause(pause)
    assert rows.get_pause("mine") == pause
    assert rows.get_pause("another") is None


def test_a_pause_that_is_over_counts_no_more_though_it_is_still_stored(rows: FleetRows, clock: Clock) -> None:
    rows.put_pause(a_pause(clock))
    clock.pass_seconds(3 * 3600)
    assert rows.get_pause("mine") is None


def test_a_pause_that_a_person_wrote_without_an_end_of_its_row_counts(
    rows: FleetRows, clock: Clock, dynamo: "DynamoDBClient", table_name: str
) -> None:
    pause = a_pause(clock)
    texts = {"PK": "FLEET#mine", "SK": "PAUSE", **pause.model_dump(mode="json", exclude={"fleet"})}
    dynamo.put_item(TableName=table_name, Item={name: {"S": text} for name, text in texts.items()})
    assert rows.get_pause("mine") == pause


def test_a_pause_can_be_replaced_and_lifted_twice(rows: FleetRows, clock: Clock) -> None:
    rows.put_pause(a_pause(clock))
    longer = a_pause(clock).model_copy(update={"until": clock() + timedelta(hours=9)})
    rows.put_pause(longer)
    assert rows.get_pause("mine") == longer
    rows.remove_pause("mine")
    rows.remove_pause("mine")
    assert rows.get_pause("mine") is None


def test_costs_of_a_day_add_up(rows: FleetRows, clock: Clock) -> None:
    assert rows.get_cost("mine", DAY) == FleetCost(fleet="mine", day=DAY)
    assert rows.add_cost(rows.get_cost("mine", DAY), 0.25, clock())
    clock.pass_seconds(300)
    assert rows.add_cost(rows.get_cost("mine", DAY), 0.5, clock.time)
    assert rows.get_cost("mine", DAY) == FleetCost(fleet="mine", day=DAY, dollars=0.75, metered_until=clock.time)
    assert rows.get_cost("mine", DAY + timedelta(days=1)).dollars == 0


def test_of_two_that_meter_the_same_minutes_only_one_counts(rows: FleetRows, clock: Clock) -> None:
    for _ in range(2):  # the first time there is no row, the second there is one
        read = rows.get_cost("mine", DAY)
        clock.pass_seconds(300)
        assert rows.add_cost(read, 0.25, clock())
        assert not rows.add_cost(read, 0.75, clock() + timedelta(seconds=1))
    assert rows.get_cost("mine", DAY).dollars == 0.5


def test_rows_of_a_fleet_leave_the_table_by_themselves_after_they_have_served(
    rows: FleetRows, clock: Clock, dynamo: "DynamoDBClient", table_name: str
) -> None:
    rows.put_pause(a_pause(clock))
    rows.add_cost(rows.get_cost("mine", DAY), 0.25, clock())
    found = dynamo.query(
        TableName=table_name,
        KeyConditionExpression="PK = :p",
        ExpressionAttributeValues={":p": {"S": "FLEET#mine"}},
    )["Items"]
    gone = {item["SK"]["S"]: datetime.fromtimestamp(int(item["time_to_live"]["N"]), UTC) for item in found}
    assert gone["PAUSE"] > a_pause(clock).until
    assert gone["COST#2026-11-21"] > datetime(2026, 12, 21, tzinfo=UTC)


def test_a_worker_of_a_fleet_tells_its_machine_and_no_other_name_does() -> None:
    assert instance_of(worker_id("i-0123456789abcdef0", 3)) == "i-0123456789abcdef0"
    assert worker_id("i-0123456789abcdef0", 0) != worker_id("i-0123456789abcdef0", 0)
    for name in ("laptop-4711-a1b2c3", "i-am-a-host-1-a1b2c3", ""):
        assert instance_of(name) is None

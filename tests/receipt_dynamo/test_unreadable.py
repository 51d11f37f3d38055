"""Rows that another program wrote: lists leave out what cannot be read and say so, and nothing else stops."""

import logging
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest

from receipt_dynamo import (
    Dataset,
    DynamoClient,
    FleetCost,
    FleetPause,
    FleetRows,
    ForgottenPage,
    JobQueue,
    ReceiptClient,
    StoreError,
    UnreadableRow,
    fleet_items,
    items,
)
from receipt_dynamo.receipts import ReceiptWordLabel, ValidationStatus
from receipt_dynamo.unreadable import readable
from tests.support.jobs import NOON, claim, evaluation, submit, summary
from tests.support.stores import Clock

LATER = "2099-01-01T00:00:00"


@pytest.fixture
def client(cloud: DynamoClient) -> DynamoClient:
    return cloud


@pytest.fixture
def queue(client: DynamoClient) -> JobQueue:
    return JobQueue(client, now=Clock(NOON))


def store(client: DynamoClient, pk: str, sk: str, /, **attributes: dict[str, Any]) -> None:
    client.raw.put_item(TableName=client.table_name, Item={**items.key(pk, sk), **attributes})


def break_row(client: DynamoClient, key: dict[str, Any], name: str, value: dict[str, Any] | None) -> None:
    """Overwrite one attribute of a stored row, or remove it."""
    row = client.raw.get_item(TableName=client.table_name, Key=key)["Item"]
    kept: dict[str, Any] = {each: stored for each, stored in row.items() if each != name}
    client.raw.put_item(TableName=client.table_name, Item=kept if value is None else {**kept, name: value})


def original_metric(client: DynamoClient, job_id: str, value: dict[str, Any], **more: dict[str, Any]) -> None:
    fields = {
        "TYPE": {"S": "JOB_METRIC"},
        "metric_name": {"S": "val_f1"},
        "timestamp": {"S": LATER},
        "value": value,
        **more,
    }
    store(client, f"JOB#{job_id}", f"METRIC#val_f1#{LATER}", **fields)


def note(client: DynamoClient, job_id: str, sk: str = f"LOG#{LATER}#note-1") -> None:
    store(client, f"JOB#{job_id}", sk, TYPE={"S": "JOB_LOG"}, message={"S": "started by cron"})


def test_a_note_between_the_events_is_left_out_and_named(queue: JobQueue, caplog: pytest.LogCaptureFixture) -> None:
    submit(queue)
    lease = claim(queue)
    queue.client.add_job_log(lease, summary(lease))
    note(queue.client, lease.job_id)
    assert [row.event for row in queue.client.list_job_logs(lease.job_id)] == ["run_summary"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"1 row skipped: row 'JOB#{lease.job_id}' / 'LOG#{LATER}#note-1' cannot be")


@pytest.mark.parametrize(
    "sk",
    [
        *(f"LOG#{LATER}#note-1", "LOG#~", f"METRIC#val_f1#{LATER}", f"METRIC#{LATER}"),
        *("METRIC#zzz", f"LOG#{LATER}+00:00", f"LOG#{LATER}.000000+00:00"),
    ],
)
def test_the_next_attempt_ignores_the_times_of_rows_that_no_worker_wrote(queue: JobQueue, sk: str) -> None:
    submit(queue)
    lease = claim(queue)
    queue.client.add_job_metric(lease, evaluation(lease, at=NOON))
    for number in range(7):
        note(queue.client, lease.job_id, f"{sk}{'+' * number}")
    assert queue.client.last_event_at(lease.job_id) == NOON


@pytest.mark.parametrize("stored", [{"S": "0.99"}, {"S": " 9.9e-1 "}, {"N": "0.99"}])
def test_a_score_that_was_stored_as_text_is_read(queue: JobQueue, stored: dict[str, Any]) -> None:
    job = submit(queue)
    original_metric(queue.client, job.job_id, stored, epoch={"S": "3"}, step={"S": "9"})
    (metric,) = queue.client.list_job_metrics(job.job_id)
    assert (metric.metric_value, metric.epoch, metric.global_step) == (0.99, 3.0, 9)


ODD_METRICS: dict[str, dict[str, Any]] = {
    "no number": {"value": {"S": "n/a"}},
    "not finite": {"value": {"S": "nan"}},
    "a boolean": {"value": {"BOOL": True}},
    "an epoch in words": {"value": {"N": "1"}, "epoch": {"S": "third"}},
    "a time in words": {"value": {"N": "1"}, "timestamp": {"S": "yesterday"}},
    "no name": {"value": {"N": "1"}, "metric_name": {"NULL": True}},
    "another kind of row": {"value": {"N": "1"}, "TYPE": {"S": "GREETING"}},
}


@pytest.mark.parametrize("odd", ODD_METRICS)
def test_an_odd_metric_row_is_left_out_and_the_others_are_listed(
    queue: JobQueue, odd: str, caplog: pytest.LogCaptureFixture
) -> None:
    submit(queue)
    lease = claim(queue)
    queue.client.add_job_metric(lease, evaluation(lease, f1=0.5))
    original_metric(queue.client, lease.job_id, **ODD_METRICS[odd])
    assert [metric.metric_value for metric in queue.client.list_job_metrics(lease.job_id)] == [0.5]
    assert "1 row skipped" in caplog.text and f"METRIC#val_f1#{LATER}" in caplog.text


BROKEN_JOBS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "a config that is no JSON": ("job_config", {"S": "{"}),
    "a config nested too deeply": ("job_config", {"S": "[" * 100_000}),
    "an unknown status": ("status", {"S": "resting"}),
    "an attempt in words": ("attempt", {"S": "second"}),
    "no name": ("name", None),
    "a time that is none": ("created_at", {"S": "noon"}),
    "budgets of another shape": ("budgets", {"S": '{"errors": "many"}'}),
}


@pytest.mark.parametrize("fault", BROKEN_JOBS)
def test_an_unreadable_job_stops_neither_lists_nor_claims_and_is_named_when_asked_for(
    queue: JobQueue, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken, whole = submit(queue, "broken"), submit(queue, "whole")
    break_row(queue.client, items.job_key(broken.job_id), *BROKEN_JOBS[fault])
    assert [job.job_id for job in queue.client.list_jobs_by_status("pending")] == [whole.job_id]
    assert [job.job_id for job in queue.client.list_jobs_by_name("whole")] == [whole.job_id]
    assert claim(queue).job_id == whole.job_id
    assert queue.rescue() == []
    assert f"JOB#{broken.job_id}" in caplog.text
    with pytest.raises(UnreadableRow, match=f"'JOB#{broken.job_id}' / 'JOB' cannot be read: "):
        queue.client.get_job(broken.job_id)


@pytest.mark.parametrize(
    ("name", "value"),
    [("attempt", {"S": "one"}), ("expires_at", {"S": "soon"}), ("checkpoint", {"M": {}}), ("renewals", None)],
)
def test_an_unreadable_lease_stops_neither_claim_nor_rescue_of_others(
    queue: JobQueue, name: str, value: dict[str, Any] | None
) -> None:
    first, second = submit(queue, "first"), submit(queue, "second")
    break_row(queue.client, items.lease_key(first.job_id), name, value)
    lease = claim(queue)
    assert lease.job_id == second.job_id
    clock = Clock(datetime(2027, 1, 1, tzinfo=UTC))
    late = JobQueue(queue.client, now=clock)
    assert late.rescue() == []  # the first look
    clock.pass_seconds(late.timing.lease_seconds)
    assert [job.job_id for job in late.rescue()] == [second.job_id]
    with pytest.raises(UnreadableRow, match="LEASE"):
        queue.client.get_lease(first.job_id)


def test_a_job_that_is_broken_while_it_runs_does_not_stop_the_rescue_of_others(queue: JobQueue) -> None:
    first, second = submit(queue, "first"), submit(queue, "second")
    claim(queue), claim(queue)
    clock = Clock(datetime(2027, 1, 1, tzinfo=UTC))
    late = JobQueue(queue.client, now=clock)
    held = late.held()
    assert len(late.overdue(held)) == 2  # the first look
    clock.pass_seconds(late.timing.lease_seconds)
    break_row(queue.client, items.job_key(first.job_id), "budgets", {"S": "{"})
    assert [job.job_id for job in late.rescue(held)] == [second.job_id]


def test_an_unreadable_attempt_is_left_out(queue: JobQueue) -> None:
    submit(queue)
    lease = claim(queue)
    store(queue.client, f"JOB#{lease.job_id}", "ATTEMPT#zzz", TYPE={"S": "ATTEMPT"})
    assert [attempt.attempt for attempt in queue.client.list_attempts(lease.job_id)] == [1]


def test_a_snapshot_that_cannot_be_read_does_not_hide_the_others(client: DynamoClient) -> None:
    old, new = (
        Dataset(name="ok", created_at=NOON.replace(hour=hour), fingerprint=f"{hour}" * 10, source="tests")
        for hour in (10, 11)
    )
    client.add_dataset(old, 0)
    client.add_dataset(new, 0)
    break_row(
        client,
        items.key("DATASET#ok", f"SNAPSHOT#{new.created_at.isoformat(timespec='microseconds')}"),
        "counts",
        {"S": '{"a":[]}'},
    )
    assert client.list_datasets() == [old]
    assert client.get_dataset("ok") == old


def test_a_page_stays_excluded_whatever_else_its_row_holds(client: DynamoClient) -> None:
    client.add_forgotten(ForgottenPage(page_id="p1", forgotten_at=NOON, forgotten_by="me"))
    break_row(client, items.forgotten_key("p1"), "forgotten_at", {"N": "1"})
    store(client, "DATASETS", "FORGOTTEN#p2")
    assert [page.page_id for page in client.list_forgotten()] == ["p1", "p2"]


def test_an_unreadable_pause_does_not_stop_a_fleet_and_an_unreadable_cost_is_an_error(
    client: DynamoClient, caplog: pytest.LogCaptureFixture
) -> None:
    rows, day = FleetRows(client, now=lambda: NOON), date(2026, 5, 1)
    until = NOON.replace(hour=20)
    rows.put_pause(FleetPause(fleet="f", reason="r", paused_at=NOON, until=until))
    break_row(client, fleet_items.pause_key("f"), "until", {"S": "never"})
    assert rows.get_pause("f") is None
    assert "FLEET#f" in caplog.text
    assert rows.add_cost(FleetCost(fleet="f", day=day), 2.5, NOON)
    break_row(client, fleet_items.cost_key("f", day), "dollars", {"S": "2.5"})
    assert rows.get_cost("f", day).dollars == 2.5
    break_row(client, fleet_items.cost_key("f", day), "dollars", {"S": "much"})
    with pytest.raises(UnreadableRow, match="COST#2026-05-01"):
        rows.get_cost("f", day)


def test_receipts_and_labels_that_cannot_be_read_are_left_out(client: DynamoClient) -> None:
    receipts = ReceiptClient(client)
    labels = [
        ReceiptWordLabel(
            image_id="i",
            receipt_id=1,
            line_id=1,
            word_id=number,
            label="TOTAL",
            validation_status=ValidationStatus.VALID,
        )
        for number in (1, 2)
    ]
    assert receipts.put(labels=labels) == []
    break_row(
        client,
        items.key("IMAGE#i", "RECEIPT#00001#LINE#00001#WORD#00002#LABEL#TOTAL"),
        "validation_status",
        {"S": "MAYBE"},
    )
    store(client, "IMAGE#i", "RECEIPT#00001", width={"S": "600"}, height={"N": "900"})
    store(client, "IMAGE#i", "RECEIPT#00002", width={"S": "wide"}, height={"N": "900"})
    store(client, "IMAGE#i", "RECEIPT#00003", width={"N": "600"}, height={"N": "0"})  # of which boxes have no share
    store(client, "IMAGE#i", "RECEIPT#00004", width={"S": "9" * 20}, height={"N": "900"})  # more than a page may have
    assert [label.word_id for label in receipts.list_labels("i")] == [1]
    known = receipts.get_receipts([("i", number) for number in (1, 2, 3, 4)])
    assert [(each.receipt_id, each.width) for each in known] == [(1, 600)]
    assert [each.receipt_id for each in receipts.get_image("i").receipts] == [1]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("created_at", {"S": "yesterday"}, "created_at 'yesterday' is no time such as 2026-"),
        ("created_at", {"N": "7"}, "created_at {'N': '7'} is not a text"),
        ("attempt", {"S": "first"}, "attempt 'first' is not a finite number"),
        ("attempt", {"M": {}}, "attempt {'M': {}} is not a number"),
        ("job_config", {"S": "lr=1"}, "job_config 'lr=1' is not JSON"),
        ("status", {"S": "done"}, "status 'done' is none of its values"),
        ("TYPE", {"S": "TASK"}, "TYPE {'S': 'TASK'} is not the type of rows with this key"),
        ("budgets", {"N": "7"}, "budgets 7: Input should be a valid dictionary"),
        ("name", None, "name is missing"),
    ],
)
def test_a_row_that_is_left_out_is_named_with_attribute_value_and_what_is_expected(
    queue: JobQueue, caplog: pytest.LogCaptureFixture, name: str, value: dict[str, Any] | None, reason: str
) -> None:
    job = submit(queue)
    break_row(queue.client, items.job_key(job.job_id), name, value)
    assert queue.client.list_jobs() == []
    (record,) = caplog.records
    assert record.getMessage().partition(" cannot be read: ")[2].startswith(reason)


def test_a_warning_counts_all_rows_and_names_the_first(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_raw: dict[str, Any]) -> int:
        raise ValueError("as expected")

    rows = [items.key("A", f"row-{number}") for number in range(5)]
    assert list(readable(refuse, rows)) == []
    (record,) = caplog.records
    assert record.getMessage().startswith("5 rows skipped: row 'A' / 'row-0' cannot be read: as expected; ")
    assert record.getMessage().endswith("; and 2 more")


@pytest.mark.parametrize("stop", [lambda rows: next(rows), lambda rows: list(rows)])
def test_a_list_that_is_not_read_to_its_end_warns_too(
    stop: Callable[[Any], object], caplog: pytest.LogCaptureFixture
) -> None:
    def refuse_the_first(raw: dict[str, Any]) -> str:
        if raw["SK"]["S"] == "0":
            raise KeyError("x")
        return str(raw["SK"]["S"])

    stop(readable(refuse_the_first, [items.key("A", str(number)) for number in range(9)]))
    assert "1 row skipped" in caplog.text


def test_an_unreadable_row_is_an_error_of_the_store_and_a_value_error() -> None:
    assert issubclass(UnreadableRow, StoreError) and issubclass(UnreadableRow, ValueError)

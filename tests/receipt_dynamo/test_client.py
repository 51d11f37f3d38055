"""DynamoClient against a real engine: complete lists, exact key conditions, fenced events, the original's rows."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import botocore.session
import pytest

from receipt_dynamo import (
    AlreadyExists,
    Dataset,
    DynamoClient,
    InvalidInput,
    JobLog,
    JobQueue,
    Lease,
    LeaseLost,
    NotFound,
    TableNotFound,
    WriteTimeout,
)
from receipt_dynamo.client import resolve_region
from receipt_layoutlm import infra
from tests.support import original_system
from tests.support.frozen_queries import SNIPPET
from tests.support.jobs import NOON, claimed, evaluation, submit
from tests.support.stores import Clock
from tests.support.wire import Patience, Wire, twice

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = pytest.mark.engine

THEIRS = "11111111-2222-4333-8444-555555555555"
NOBODY = "99999999-2222-4333-8444-555555555555"


def event(lease: Lease, *, at: datetime = NOON, seq: int = 1, message: str = "m") -> JobLog:
    return JobLog(
        job_id=lease.job_id,
        timestamp=at,
        level="info",
        event="log",
        message=message,
        attempt=lease.attempt,
        seq=seq,
    )


def store(dynamo: "DynamoDBClient", table: str, *rows: original_system.Raw) -> None:
    for row in rows:
        dynamo.put_item(TableName=table, Item=row)


# what people run


def two_finished_jobs(queue: JobQueue) -> None:
    for name, scores in (("first", (0.25, 0.75)), ("second", ())):
        submit(queue, name)
        lease = queue.claim("w")
        assert lease is not None
        for step, f1 in enumerate(scores):
            queue.client.add_job_metric(lease, evaluation(lease, f1=f1, step=step, seq=step))
        queue.complete(lease, results={}, summary=event(lease, seq=9))


EXPECTED = "second: succeeded\n  Config: {'lr': 6e-05}\nfirst: succeeded\n  Config: {'lr': 6e-05}\n  Best F1: 0.75\n"


def test_the_documented_snippet_runs_unchanged(
    queue: JobQueue,
    table_name: str,
    dynamo_endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    two_finished_jobs(queue)
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", dynamo_endpoint)
    exec(SNIPPET.replace("ReceiptsTable-dc5be22", table_name), {})
    assert capsys.readouterr().out == EXPECTED


def test_the_documented_snippet_runs_unchanged_on_moto(moto_aws: None, capsys: pytest.CaptureFixture[str]) -> None:
    client = DynamoClient("ReceiptsTable-dc5be22")
    infra.create_table(client.raw, client.table_name)
    two_finished_jobs(JobQueue(client, now=Clock(NOON)))
    exec(SNIPPET, {})
    assert capsys.readouterr().out == EXPECTED


def test_the_documented_query_of_the_aws_cli_finds_the_jobs(
    queue: JobQueue, table_name: str, dynamo_endpoint: str
) -> None:
    two_finished_jobs(queue)
    raw = botocore.session.get_session().create_client("dynamodb", endpoint_url=dynamo_endpoint)
    reply = raw.query(
        TableName=table_name,
        IndexName="GSI1",
        KeyConditionExpression="GSI1PK = :status",
        ExpressionAttributeValues={":status": {"S": "STATUS#succeeded"}},
    )
    assert [item["name"]["S"] for item in reply["Items"]] == ["first", "second"]


def test_the_snippet_finds_the_best_of_their_job_and_of_one_with_rows_of_both_kinds(
    queue: JobQueue, dynamo: "DynamoDBClient", table_name: str
) -> None:
    lease = claimed(queue)
    ours = queue.client.add_job_metric(lease, evaluation(lease, f1=0.5))
    for job_id in (THEIRS, lease.job_id):
        store(
            dynamo,
            table_name,
            original_system.job(THEIRS),
            original_system.metric(job_id, "eval_loss", {"N": "9.5"}, "2025-03-01T12:00:01", step=1),
            original_system.metric(job_id, "val_f1", {"N": "0.75"}, "2025-03-01T12:00:02", step=1, epoch=1),
            original_system.metric(job_id, "val_f1", {"N": "0.25"}, "2025-03-01T12:10:00", step=2, epoch=2),
            original_system.metric(job_id, "support", {"M": {"DATE": {"N": "12"}}}, "2025-03-01T12:10:01", step=2),
        )
    (job,) = queue.client.list_jobs_by_status("succeeded")
    theirs = queue.client.list_job_metrics(job.job_id)
    assert [(metric.metric_value, metric.eval_loss) for metric in theirs] == [(0.75, 9.5), (0.25, None)]
    assert theirs[1].extras == {"support": {"DATE": 12}}
    mixed = queue.client.list_job_metrics(lease.job_id)
    assert mixed[-1] == ours
    assert max(mixed, key=lambda metric: metric.metric_value).metric_value == 0.75


# lists


def test_rows_of_others_in_a_status_partition_are_not_even_read(
    queue: JobQueue, wire: Wire, dynamo: "DynamoDBClient", table_name: str
) -> None:
    mine = submit(queue)
    history = [original_system.status_change(THEIRS, "pending", f"2025-03-01T12:00:{n:02d}") for n in range(20)]
    machines = [original_system.instance(f"i-{n}", "pending") for n in range(20)]
    store(dynamo, table_name, *history, *machines, original_system.job(THEIRS, status="pending"))
    wire.counted()
    assert [job.job_id for job in queue.client.list_jobs_by_status("pending")] == [mine.job_id, THEIRS]
    assert wire.counted() == {"Query": 1}
    assert (wire.replies[-1]["Count"], wire.replies[-1]["ScannedCount"]) == (2, 2)
    assert "FilterExpression" not in wire.bodies[-1]


def test_lists_are_complete_over_many_pages_and_newest_first(queue: JobQueue, wire: Wire) -> None:
    filler = "x" * 190_000
    names = [f"job-{number}" for number in range(12)]
    for name in names:
        queue.submit(name=name, config={"filler": filler}, created_by="me")
    wire.counted()
    assert [job.name for job in queue.client.list_jobs_by_status("pending")] == names[::-1]
    assert wire.counted()["Query"] >= 3
    assert [job.name for job in queue.client.list_jobs_by_status("pending", limit=2)] == names[:-3:-1]
    assert wire.counted() == {"Query": 1}


def test_iterators_ask_for_a_page_only_when_it_is_needed(queue: JobQueue, wire: Wire) -> None:
    for number in range(9):
        queue.submit(name=f"job-{number}", config={"filler": "x" * 190_000}, created_by="me")
    wire.counted()
    jobs = queue.client.iter_jobs_by_status("pending")
    assert wire.counted() == {}
    assert next(jobs).name == "job-8"
    assert wire.counted() == {"Query": 1}
    assert len(list(jobs)) == 8
    assert wire.counted()["Query"] >= 1


def test_logs_and_metrics_come_complete_and_in_time_order(client: DynamoClient, queue: JobQueue) -> None:
    lease = claimed(queue)
    for seq in (3, 1, 2, 0):
        at = NOON + timedelta(seconds=seq)
        client.add_job_log(lease, event(lease, at=at, seq=seq, message="x" * 300_000))
        client.add_job_metric(lease, evaluation(lease, at=at, step=seq, seq=seq))
    assert [log.seq for log in client.list_job_logs(lease.job_id)] == [0, 1, 2, 3]
    assert [log.seq for log in client.list_job_logs(lease.job_id, limit=2)] == [0, 1]
    assert [metric.seq for metric in client.list_job_metrics(lease.job_id)] == [0, 1, 2, 3]


def test_jobs_are_found_by_name_over_all_statuses_and_by_age(client: DynamoClient, queue: JobQueue) -> None:
    first, second = submit(queue, "same"), submit(queue, "same")
    other = submit(queue, "other")
    queue.cancel(first.job_id)
    assert [job.job_id for job in client.list_jobs_by_name("same")] == [second.job_id, first.job_id]
    assert [job.job_id for job in client.list_jobs_by_name("same", limit=1)] == [second.job_id]
    assert [job.job_id for job in client.list_jobs()] == [other.job_id, second.job_id, first.job_id]
    assert [job.job_id for job in client.list_jobs(limit=1)] == [other.job_id]
    assert client.list_jobs_by_name("nobody") == []


MALFORMED: list[Callable[[DynamoClient], object]] = [
    lambda client: client.list_jobs_by_status("done"),
    lambda client: client.iter_jobs_by_status("done"),
    lambda client: client.list_jobs_by_status("pending", limit=0),
    lambda client: client.list_jobs_by_status("pending", limit=-1),
    lambda client: client.list_jobs_by_status("pending", limit=True),
    lambda client: client.list_jobs(limit=True),
    lambda client: client.list_jobs_by_name("a", limit=True),
    lambda client: client.list_job_logs(NOBODY, limit=True),
    lambda client: client.list_job_logs(NOBODY, limit=1.0),
    lambda client: client.list_jobs(limit=0),
    lambda client: client.list_jobs_by_name("a", limit=0),
    lambda client: client.list_job_logs(NOBODY, limit=0),
    lambda client: client.get_job("7"),
    lambda client: client.get_lease("7"),
    lambda client: client.get_attempt("7", 1),
    lambda client: client.list_attempts("7"),
    lambda client: client.list_job_metrics("7"),
    lambda client: client.list_job_logs("7"),
    lambda client: JobQueue(client).cancel("7"),
    lambda client: JobQueue(client).submit(name="", config={}, created_by="me"),
    lambda client: JobQueue(client).submit(name="a", config={}, created_by="me", priority="urgent"),
    lambda client: JobQueue(client).submit(name="a", config={"lr": float("nan")}, created_by="me"),
]


@pytest.mark.parametrize("ask", MALFORMED)
def test_malformed_questions_are_typed_errors_and_value_errors(
    client: DynamoClient, ask: Callable[[DynamoClient], object]
) -> None:
    with pytest.raises(InvalidInput) as refused:
        ask(client)
    assert isinstance(refused.value, ValueError)


def test_what_is_not_there_is_named(client: DynamoClient, dynamo_endpoint: str) -> None:
    with pytest.raises(NotFound, match=NOBODY):
        client.get_job(NOBODY)
    with pytest.raises(NotFound, match="read-only"):
        client.get_lease(NOBODY)
    with pytest.raises(NotFound, match="attempt 3"):
        client.get_attempt(NOBODY, 3)
    assert (client.list_job_metrics(NOBODY), client.list_job_logs(NOBODY)) == ([], [])
    elsewhere = DynamoClient("no-such-table", endpoint_url=dynamo_endpoint)
    with pytest.raises(TableNotFound, match="no-such-table"):
        elsewhere.get_job(NOBODY)
    with pytest.raises(TableNotFound, match="infra"):
        elsewhere.list_jobs_by_status("pending")


# jobs of the original system


def test_jobs_of_the_original_system_are_readable_and_nothing_changes_them(
    queue: JobQueue, dynamo: "DynamoDBClient", table_name: str
) -> None:
    running, waiting, done = (THEIRS[:-1] + digit for digit in "123")
    waits = original_system.job(waiting, status="pending")
    waits |= {"GSI3PK": {"S": "QUEUE#default"}, "GSI3SK": {"S": f"0#2025#{waiting}"}}  # even if it were queued
    rows = [original_system.job(running, status="running"), waits, original_system.job(done)]
    store(dynamo, table_name, *rows)
    for job_id in (running, waiting):
        with pytest.raises(NotFound, match="read-only"):
            queue.cancel(job_id)
    assert queue.claim("w") is None
    assert queue.claim_job(waiting, "w") is None
    assert queue.rescue() == []
    with pytest.raises(NotFound, match="read-only"):
        queue.delete(done)
    stored = dynamo.scan(TableName=table_name)["Items"]
    assert sorted(stored, key=lambda row: row["PK"]["S"]) == rows
    assert {job.job_id for job in queue.client.list_jobs()} == {running, waiting, done}


def test_logs_of_the_original_system_are_listed(
    client: DynamoClient, dynamo: "DynamoDBClient", table_name: str
) -> None:
    store(dynamo, table_name, *(original_system.log(THEIRS, f"m{n}", f"2025-03-01T12:00:0{n}") for n in range(3)))
    logs = client.list_job_logs(THEIRS)
    assert [(log.level, log.message) for log in logs] == [("info", "m0"), ("info", "m1"), ("info", "m2")]


# events under the fence


def test_two_events_of_one_time_move_apart_by_a_microsecond(client: DynamoClient, queue: JobQueue) -> None:
    lease = claimed(queue)
    stored = [client.add_job_log(lease, event(lease, seq=seq)) for seq in range(3)]
    assert [log.timestamp - NOON for log in stored] == [timedelta(microseconds=n) for n in range(3)]
    assert client.list_job_logs(lease.job_id) == stored
    metrics = [client.add_job_metric(lease, evaluation(lease, seq=seq, step=seq)) for seq in range(2)]
    assert client.list_job_metrics(lease.job_id) == metrics
    assert client.last_event_at(lease.job_id) == NOON + timedelta(microseconds=2)


def test_the_same_event_is_stored_once(client: DynamoClient, queue: JobQueue) -> None:
    lease = claimed(queue)
    first = client.add_job_metric(lease, evaluation(lease))
    assert client.add_job_metric(lease, evaluation(lease)) == first
    client.add_job_log(lease, event(lease))
    client.add_job_log(lease, event(lease))
    assert len(client.list_all_job_metrics(lease.job_id)) == 1
    assert len(client.list_job_logs(lease.job_id)) == 1


def test_evaluations_after_a_time_are_the_newer_ones(client: DynamoClient, queue: JobQueue) -> None:
    lease = claimed(queue)
    first, second = (client.add_job_metric(lease, evaluation(lease, seq=seq)) for seq in (1, 2))

    assert client.list_all_job_metrics(lease.job_id, after=first.timestamp) == [second]
    assert client.list_all_job_metrics(lease.job_id, after=second.timestamp) == []


@twice
def test_an_event_whose_reply_is_lost_is_stored_exactly_once(
    client: DynamoClient, queue: JobQueue, wire: Wire, times: int
) -> None:
    lease, patience = claimed(queue), Patience(client)
    wire.lose_reply("TransactWriteItems", times=times)
    assert client.add_job_metric(lease, evaluation(lease)).timestamp == NOON
    wire.lose_reply("TransactWriteItems", times=times)
    assert client.add_job_log(lease, event(lease)).timestamp == NOON
    assert len(patience.waits) == 2 * (times - 1)
    assert len(client.list_all_job_metrics(lease.job_id)) == len(client.list_job_logs(lease.job_id)) == 1


def test_an_event_applied_behind_a_conflict_is_stored_exactly_once(
    client: DynamoClient, queue: JobQueue, wire: Wire
) -> None:
    lease, patience = claimed(queue), Patience(client)
    wire.lose_reply("TransactWriteItems")
    wire.refuse("TransactWriteItems", "TransactionCanceledException", reasons=("TransactionConflict", "None"))
    assert client.add_job_metric(lease, evaluation(lease)).timestamp == NOON
    assert len(patience.waits) == 1
    assert len(client.list_all_job_metrics(lease.job_id)) == 1


def test_an_event_gives_up_after_a_while_of_conflicts(client: DynamoClient, queue: JobQueue, wire: Wire) -> None:
    lease, patience = claimed(queue), Patience(client)
    wire.refuse(
        "TransactWriteItems", "TransactionCanceledException", reasons=("None", "TransactionConflict"), times=1000
    )
    with pytest.raises(WriteTimeout):
        client.add_job_metric(lease, evaluation(lease))
    assert 20 <= sum(patience.waits) < 21
    assert client.list_all_job_metrics(lease.job_id) == []


def test_a_foreign_lease_stores_no_event(client: DynamoClient, queue: JobQueue) -> None:
    lease = claimed(queue)
    for forged in (
        lease.model_copy(update={"lease_token": NOBODY}),
        lease.model_copy(update={"attempt": 2}),
        lease.model_copy(update={"lease_token": None}),
    ):
        with pytest.raises(LeaseLost):
            client.add_job_metric(forged, evaluation(lease))
        with pytest.raises(LeaseLost):
            client.add_job_log(forged, event(lease))
    assert client.list_all_job_metrics(lease.job_id) == client.list_job_logs(lease.job_id) == []


def test_the_newest_event_may_be_a_metric_or_a_log_or_nothing(client: DynamoClient, queue: JobQueue) -> None:
    lease = claimed(queue)
    assert client.last_event_at(lease.job_id) is None
    client.add_job_log(lease, event(lease, at=NOON))
    client.add_job_metric(lease, evaluation(lease, at=NOON + timedelta(seconds=1)))
    assert client.last_event_at(lease.job_id) == NOON + timedelta(seconds=1)
    client.add_job_log(lease, event(lease, at=NOON + timedelta(seconds=2), seq=2))
    assert client.last_event_at(lease.job_id) == NOON + timedelta(seconds=2)


# datasets


def test_datasets_are_created_once_and_found_by_name_and_fingerprint(client: DynamoClient) -> None:
    old = Dataset(name="sroie", created_at=NOON, fingerprint="abc", source="x")
    new = old.model_copy(update={"created_at": NOON + timedelta(seconds=1), "fingerprint": "def"})
    other = old.model_copy(update={"name": "sample", "created_at": NOON + timedelta(seconds=2)})
    for dataset in (old, new, other):
        client.add_dataset(dataset, 0)
    with pytest.raises(AlreadyExists, match="sroie"):
        client.add_dataset(old, 0)
    assert client.list_datasets() == [other, new, old]
    assert (client.get_dataset("sroie"), client.get_dataset("sroie", "ab")) == (new, old)
    with pytest.raises(NotFound, match="sroie@x"):
        client.get_dataset("sroie", "x")


# several clients, regions


def test_two_clients_on_two_tables_keep_apart_in_threads_too(
    make_table: Callable[[], str], dynamo_endpoint: str
) -> None:
    queues = [JobQueue(DynamoClient(make_table(), endpoint_url=dynamo_endpoint)) for _ in range(2)]

    def work(number: int) -> str:
        queue, name = queues[number % 2], f"table-{number % 2}"
        job = submit(queue, name)
        lease = queue.claim_job(job.job_id, "w")
        assert lease is not None
        queue.client.add_job_metric(lease, evaluation(lease, f1=number / 100))
        queue.complete(lease, results={"number": number}, summary=event(lease, seq=2))
        return job.job_id

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(work, range(24)))
    for side, queue in enumerate(queues):
        jobs = queue.client.list_jobs_by_status("succeeded")
        assert {job.job_id for job in jobs} == set(ids[side::2])
        assert {job.name for job in jobs} == {f"table-{side}"}
        for job in jobs:
            (metric,) = queue.client.list_job_metrics(job.job_id)
            assert job.results == {"number": round(metric.metric_value * 100)}


def test_the_region_is_the_argument_then_the_environment_then_the_profile_then_us_east_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    assert resolve_region() == "us-east-1"
    profile = tmp_path / "config"
    profile.write_text("[default]\nregion = eu-west-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(profile))
    assert resolve_region() == "eu-west-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    assert resolve_region() == "eu-west-2"
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    assert resolve_region() == "eu-west-3"
    assert resolve_region("ap-south-1") == "ap-south-1"
    assert DynamoClient("t", region="ap-south-1").raw.meta.region_name == "ap-south-1"
    assert DynamoClient("t").raw.meta.region_name == "eu-west-3"


def test_every_client_has_short_timeouts_and_two_attempts(client: DynamoClient) -> None:
    config = client.raw.meta.config
    assert (config.connect_timeout, config.read_timeout) == (3, 5)
    assert config.retries["total_max_attempts"] == 2

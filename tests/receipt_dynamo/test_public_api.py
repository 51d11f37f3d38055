"""The package as a person uses it from Python: wrong arguments, one-line records, the embedded table."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import receipt_dynamo
from receipt_dynamo import (
    Attempt,
    Dataset,
    DynamoClient,
    FleetRows,
    InvalidInput,
    Job,
    JobLog,
    JobMetric,
    JobQueue,
    Lease,
    ReceiptClient,
    StoreUnavailable,
    local_table,
)
from receipt_dynamo.local_table import find_local_table
from receipt_layoutlm import paths
from receipt_layoutlm.local import aws, engines, environment, keys, state
from tests.support.jobs import NOON

ID = "07c8c4eb-34cc-4beb-bdc2-0d1a0d77c6ab"
ANY: Any = object()

WRONG: dict[str, tuple[str, Callable[[DynamoClient], object]]] = {
    "an id": ("get_job: job_id is 7", lambda client: client.get_job(7)),  # type: ignore[arg-type]
    "no id": ("get_lease: job_id is None", lambda client: client.get_lease(None)),  # type: ignore[arg-type]
    "a status": ("status is", lambda client: client.list_jobs_by_status(ANY)),
    "a lazy list": ("status is", lambda client: client.iter_jobs_by_status(ANY)),
    "a limit": ("limit is True", lambda client: client.list_jobs_by_status("failed", limit=True)),
    "a limit of logs": ("limit is True", lambda client: client.list_job_logs(ID, limit=True)),
    "a limit of all": ("limit is True", lambda client: client.list_jobs(limit=True)),
    "a limit by name": ("limit is '3'", lambda client: client.list_jobs_by_name("a", limit="3")),  # type: ignore[arg-type]
    "a name": ("name is 5", lambda client: client.list_jobs_by_name(5)),  # type: ignore[arg-type]
    "an attempt": ("attempt is '1'", lambda client: client.get_attempt(ID, "1")),  # type: ignore[arg-type]
    "a time": ("after is 'noon'", lambda client: client.list_all_job_metrics(ID, after="noon")),  # type: ignore[arg-type]
    "a metric": ("metric is 0.5", lambda client: client.add_job_metric(Lease(job_id=ID, attempt=1), 0.5)),  # type: ignore[arg-type]
    "a dataset": ("name is", lambda client: client.get_dataset(ANY)),
    "a config": (
        "config is 'lr=1'",
        lambda client: JobQueue(client).submit(name="a", config="lr=1", created_by="me"),  # type: ignore[arg-type]
    ),
    "a value of a config": (
        "submit: config is",
        lambda client: JobQueue(client).submit(name="a", config={"lr": {1}}, created_by="me"),  # type: ignore[dict-item]
    ),
    "a tag": (
        "submit: tags is 3",
        lambda client: JobQueue(client).submit(name="a", config={}, created_by="me", tags={"a": 3}),  # type: ignore[dict-item]
    ),
    "a worker": ("worker_id is 3", lambda client: JobQueue(client).claim(3)),  # type: ignore[arg-type]
    "a lease": ("renew: lease is", lambda client: JobQueue(client).renew(ANY)),
    "a fleet": ("fleet is", lambda client: FleetRows(client).get_pause(ANY)),
    "an image": ("image_id is", lambda client: ReceiptClient(client).list_labels(ANY)),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_argument_of_another_type_is_named_before_anything_is_sent(case: str) -> None:
    text, call = WRONG[case]
    with pytest.raises(InvalidInput, match=text) as failure:
        call(DynamoClient("a-table", endpoint_url="http://127.0.0.1:9"))
    assert isinstance(failure.value, ValueError)


@pytest.mark.parametrize("name", [None, "", 5])
def test_a_client_wants_the_name_of_a_table(name: Any) -> None:
    with pytest.raises(InvalidInput, match="table_name is"):
        DynamoClient(name)


def test_a_call_with_a_missing_argument_is_pythons_own_error() -> None:
    with pytest.raises(TypeError, match="job_id"):
        DynamoClient("a-table").get_job()  # type: ignore[call-arg]


DOCUMENT: dict[str, Any] = {"long": "x" * 5000}
SHORT: dict[str, tuple[object, str]] = {
    "a job": (
        Job(
            job_id=ID,
            name="receipts",
            status="succeeded",  # type: ignore[arg-type]
            created_at=NOON,
            created_by="me",
            job_config=DOCUMENT,
            results={"metric_value": 0.75, **DOCUMENT},
        ),
        f"Job(job_id='{ID}', name='receipts', status='succeeded', score=0.75)",
    ),
    "a lease": (
        Lease(job_id=ID, attempt=2, worker_id="w", lease_token="secret"),
        f"Lease(job_id='{ID}', attempt=2, worker_id='w')",
    ),
    "an attempt": (
        Attempt(job_id=ID, attempt=2, worker_id="w", started_at=NOON, outcome="done"),
        f"Attempt(job_id='{ID}', attempt=2, worker_id='w', started_at='2026-05-01T12:00:00+00:00', outcome='done')",
    ),
    "a metric": (
        JobMetric(job_id=ID, timestamp=NOON, metric_name="eval_f1", metric_value=0.5, global_step=9, extras=DOCUMENT),
        f"JobMetric(job_id='{ID}', global_step=9, metric_name='eval_f1', metric_value=0.5)",
    ),
    "a log": (
        JobLog(job_id=ID, timestamp=NOON, level="info", event="e", message="two\nlines " + "y" * 99, data=DOCUMENT),
        f"JobLog(job_id='{ID}', timestamp='2026-05-01T12:00:00+00:00', level='info', event='e', "
        f"message='two lines {'y' * 69}…')",
    ),
    "a dataset": (
        Dataset(name="ok", created_at=NOON, fingerprint="abc", source="tests", labels={"A": 1}),
        "Dataset(name='ok', fingerprint='abc', created_at='2026-05-01T12:00:00+00:00', source='tests')",
    ),
}


@pytest.mark.parametrize("kind", SHORT)
def test_a_record_is_one_line_without_its_documents(kind: str) -> None:
    record, line = SHORT[kind]
    assert repr(record) == str(record) == line


def test_clients_are_one_line_and_take_only_a_client(cloud: DynamoClient) -> None:
    line = f"DynamoClient({cloud.table_name!r}, region='us-east-1')"
    assert [repr(JobQueue(cloud)), repr(ReceiptClient(cloud))] == [f"JobQueue({line})", f"ReceiptClient({line})"]
    for kind in (JobQueue, ReceiptClient):
        with pytest.raises(InvalidInput, match=r"client is 'Table': give a DynamoClient"):
            kind("Table")  # type: ignore[arg-type]


def test_every_error_of_the_store_can_be_imported_from_the_package() -> None:
    from receipt_dynamo import errors

    kinds = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and kind.__module__ == errors.__name__
    }
    assert kinds <= set(receipt_dynamo.__all__)


# the embedded table


def test_the_embedded_table_is_looked_for_where_local_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = (local_table.STATE_VARIABLE, local_table.RECORDS, local_table.KEYS)
    assert names == (paths.STATE_VARIABLE, state.RECORDS, keys.KEYS)
    assert (local_table.TABLE, local_table.REGION) == (aws.LOCAL_TABLE, environment.REGION)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(StoreUnavailable, match=str(paths.state_dir({}))):
        find_local_table({})


def test_an_embedded_table_that_does_not_run_names_the_command_that_starts_it(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"not running: start it with 'layoutlm-cli local up'"):
        DynamoClient.local()
    (tmp_path / state.RECORDS).write_text("{")
    with pytest.raises(StoreUnavailable, match=str(tmp_path)):
        find_local_table({paths.STATE_VARIABLE: str(tmp_path)})


def test_the_endpoint_is_that_of_the_records(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        records = {"chosen": {"dynamodb": "dynoxide"}, "engines": {"dynoxide": {"ports": [port]}}}
        (tmp_path / state.RECORDS).write_text(json.dumps(records))
        (tmp_path / keys.KEYS).write_text('{"access_key": "local1", "secret_key": "secret"}')
        assert find_local_table({paths.STATE_VARIABLE: str(tmp_path)}).endpoint_url == f"http://127.0.0.1:{port}"


@pytest.mark.engine
def test_the_local_client_reads_the_jobs_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        aws.start_engines(tmp_path / "layoutlm-state", ("dynamodb",))
    except engines.EngineUnavailable as error:
        pytest.skip(str(error))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    client = DynamoClient.local()
    job = JobQueue(client).submit(name="a-job", config={}, created_by="me")
    assert [each.job_id for each in DynamoClient.local().list_jobs()] == [job.job_id]

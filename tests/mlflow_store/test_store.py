"""MLflow's tracking store over a table: what its page and its client get to see."""

import pytest

pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'receipt-layoutlm[mlflow]'")

from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException

from receipt_dynamo import DynamoClient, JobError, JobQueue, new_job_id
from receipt_layoutlm.mlflow_store.address import parse_address
from receipt_layoutlm.mlflow_store.plugins import artifact_repository, registry_store
from receipt_layoutlm.mlflow_store.records import FRESH_SECONDS, WHOLE_SECONDS, TableRecords
from receipt_layoutlm.mlflow_store.store import TableStore, artifact_place
from tests.mlflow_store.conftest import URI, Ran
from tests.support import original_system
from tests.support.jobs import claim, evaluation, pointer, submit


@pytest.fixture
def store(cloud: DynamoClient) -> TableStore:
    return TableStore(URI)


def names(store: TableStore, filter_string: str = "", order_by: tuple[str, ...] = ()) -> list[str]:
    everywhere = [each.experiment_id for each in store.search_experiments()]
    runs = store.search_runs(everywhere, filter_string, ViewType.ACTIVE_ONLY, 100, list(order_by))
    return [run.info.run_name for run in runs]


def test_a_dataset_is_an_experiment_unless_the_job_names_another(store: TableStore, ran: Ran) -> None:
    ran("plain", 0.5), ran("tuned", 0.6, experiment="sweep"), ran("bare", 0.4, dataset=None)
    assert sorted(each.name for each in store.search_experiments()) == ["receipts", "sweep", "without dataset"]
    found = store.get_experiment_by_name("sweep")
    assert found is not None
    assert store.get_experiment(found.experiment_id).name == "sweep"
    assert [run.info.run_name for run in store.search_runs([found.experiment_id], "", ViewType.ALL)] == ["tuned"]
    assert store.search_experiments(filter_string="name LIKE 'rec%'")[0].name == "receipts"
    assert store.search_experiments(ViewType.DELETED_ONLY) == []


def test_a_run_has_the_options_the_last_evaluation_and_the_best_score_of_its_job(store: TableStore, ran: Ran) -> None:
    job = ran("first", 0.5, 0.9, 0.8, colour="blue")
    run = store.get_run(job.job_id)
    assert (run.info.run_name, run.info.status, run.info.user_id) == ("first", "FINISHED", "ada")
    assert run.data.params == {"dataset": "receipts@" + "ab" * 32, "lr": "5e-05", "epochs": "3"}
    assert run.data.metrics["f1"] == 0.8
    assert run.data.metrics["best_f1"] == 0.9
    assert run.data.metrics["f1_TOTAL"] == 0.8
    assert run.data.metrics["eval_loss"] == pytest.approx(0.2)
    assert "health" not in run.data.metrics
    assert run.data.tags["colour"] == "blue"
    assert run.data.tags["job.status"] == "succeeded"
    [dataset] = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("receipts", "ab" * 8)


def test_the_history_of_a_metric_has_each_visible_evaluation_once(store: TableStore, queue: JobQueue) -> None:
    submit(queue)
    first = claim(queue)
    for number, step in enumerate((10, 20, 30), start=1):
        queue.client.add_job_metric(first, evaluation(first, f1=step / 100, step=step, seq=number))
        if step == 10:
            first = queue.record_checkpoint(first, pointer(10), None)
    queue.release(first, "spot")
    second = claim(queue)  # resumes from step 10: the evaluations at 20 and 30 are discarded history
    queue.client.add_job_metric(second, evaluation(second, f1=0.7, step=20, seq=9))
    history = store.get_metric_history(second.job_id, "f1")
    assert [(point.step, point.value) for point in history] == [(10, 0.1), (20, 0.7)]
    assert store.get_run(second.job_id).data.metrics["f1"] == 0.7
    assert store.get_metric_history(second.job_id, "unheard_of") == []


def test_the_last_evaluation_of_a_run_is_a_visible_one(store: TableStore, queue: JobQueue) -> None:
    submit(queue)
    lease = claim(queue)
    queue.client.add_job_metric(lease, evaluation(lease, f1=0.3, step=10, seq=1))
    lease = queue.record_checkpoint(lease, pointer(10), None)
    queue.client.add_job_metric(lease, evaluation(lease, f1=0.9, step=20, seq=2))
    queue.release(lease, "spot")
    claim(queue)
    assert store.get_run(lease.job_id).data.metrics["f1"] == 0.3


def test_histories_of_several_runs_come_in_one_reply_and_in_pages(store: TableStore, ran: Ran) -> None:
    one, other = ran("one", 0.1, 0.2, 0.3), ran("other", 0.4)
    bulk = store.get_metric_history_bulk([one.job_id, other.job_id], "f1", 3)
    assert len(bulk) == 3
    assert {each.run_id for each in store.get_metric_history_bulk([one.job_id, other.job_id], "f1", 9)} == {
        one.job_id,
        other.job_id,
    }
    sampled = store.get_metric_history_bulk_interval([one.job_id], "f1", 10, 20, 30)
    assert [each.step for each in sampled] == [20, 30]
    page = store.get_metric_history(one.job_id, "f1", max_results=2)
    rest = store.get_metric_history(one.job_id, "f1", max_results=2, page_token=page.token)
    assert [point.value for point in (*page, *rest)] == [0.1, 0.2, 0.3]


def test_searches_take_mlflows_own_grammar(store: TableStore, ran: Ran) -> None:
    ran("low", 0.2, colour="red"), ran("falling", 0.9, 0.6, colour="blue"), ran("high", 0.5, 0.8, colour="blue")
    assert names(store, "metrics.f1 > 0.5") == ["high", "falling"]
    assert names(store, "metrics.best_f1 >= 0.9") == ["falling"]
    assert names(store, "metrics.eval_loss < 0.3") == ["high"]
    assert names(store, "params.epochs = '1' and tags.colour = 'red'") == ["low"]
    assert names(store, "tags.`job.status` = 'succeeded' and attributes.run_name ILIKE 'HI%'") == ["high"]
    assert names(store, order_by=("metrics.f1 DESC",)) == ["high", "falling", "low"]
    assert names(store, order_by=("metrics.best_f1 DESC",)) == ["falling", "high", "low"]
    assert names(store, order_by=("params.epochs ASC", "attributes.run_name ASC")) == ["low", "falling", "high"]


def test_a_search_is_answered_in_pages(store: TableStore, ran: Ran) -> None:
    for number in range(5):
        ran(f"run-{number}", number / 10)
    [experiment] = store.search_experiments()
    found, token = [], None
    while True:
        page = store.search_runs([experiment.experiment_id], "metrics.f1 > 0", ViewType.ALL, 2, ["metrics.f1"], token)
        found += [run.info.run_name for run in page]
        if not (token := page.token):
            break
    assert found == ["run-1", "run-2", "run-3", "run-4"]


@pytest.mark.parametrize(
    "search",
    [
        "metrics.f1 >",
        "size = 3",
        "metrics.f1 > 'a'",
        "attributes.start_time > 'x'",
        "params.x > 3",
        "'; drop",
        "(",
        "  or",
    ],
)
def test_a_search_that_cannot_be_understood_is_refused(store: TableStore, ran: Ran, search: str) -> None:
    ran("one", 0.5)
    with pytest.raises(MlflowException) as refusal:
        names(store, search)
    assert refusal.value.get_http_status_code() == 400


def test_states_of_jobs_are_states_of_runs(store: TableStore, queue: JobQueue, ran: Ran) -> None:
    ran("done", 0.5)
    broken = submit(queue, "broken")
    queue.fail(claim(queue), JobError(cause="bad_data", message="page 3 has no words"))
    running = submit(queue, "running")
    claim(queue)
    waiting, cancelled = submit(queue, "waiting"), submit(queue, "cancelled", priority="low")
    queue.cancel(cancelled.job_id)
    states = {job.name: store.get_run(job.job_id).info.status for job in (broken, running, waiting, cancelled)}
    assert states == {"broken": "FAILED", "running": "RUNNING", "waiting": "SCHEDULED", "cancelled": "KILLED"}
    assert "page 3 has no words" in store.get_run(broken.job_id).data.tags["mlflow.note.content"]


def test_a_job_of_the_original_system_is_a_run_with_its_history(store: TableStore, cloud: DynamoClient) -> None:
    job_id = new_job_id()
    rows = [
        original_system.job(job_id),
        original_system.metric(job_id, "val_f1", {"N": "0.7"}, "2025-03-01T12:30:00", step=10),
    ]
    for row in rows:
        cloud.raw.put_item(TableName=cloud.table_name, Item=row)
    assert store.get_run(job_id).info.status == "FINISHED"
    assert [(point.step, point.value) for point in store.get_metric_history(job_id, "val_f1")] == [(10, 0.7)]
    assert store.get_run(job_id).data.metrics["val_f1"] == 0.7
    assert artifact_repository(f"{URI.partition('?')[0]}/1/{job_id}/artifacts?region=us-east-1").list_artifacts() == []


CHANGES = {
    "create_experiment": ("x", None, []),
    "delete_experiment": ("1",),
    "rename_experiment": ("1", "x"),
    "set_experiment_tag": ("1", RunTag("a", "b")),
    "create_run": ("1", "me", 0, [], "x"),
    "update_run_info": ("r", "FAILED", 1, "x"),
    "delete_run": ("r",),
    "restore_run": ("r",),
    "log_metric": ("r", Metric("a", 1.0, 0, 0)),
    "log_param": ("r", Param("a", "b")),
    "log_batch": ("r", [], [], []),
    "log_inputs": ("r", [], []),
    "set_tag": ("r", RunTag("a", "b")),
    "delete_tag": ("r", "a"),
    "create_logged_model": ("1",),
    "start_trace": (None,),
    "create_gateway_secret": ("a", {}),
    "register_scorer": ("1", "a", "{}"),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_changes_are_refused_with_the_command_to_use(store: TableStore, change: str) -> None:
    with pytest.raises(MlflowException, match=f"{change} is refused: .*layoutlm-cli") as refusal:
        getattr(store, change)(*CHANGES[change])
    assert refusal.value.get_http_status_code() == 403


def test_what_a_table_has_none_of_is_empty_or_missing(store: TableStore) -> None:
    assert store.search_traces(["1"]) == ([], None)
    assert store.search_logged_models(["1"]) == []
    assert registry_store(URI).search_registered_models() == []
    with pytest.raises(MlflowException) as missing:
        store.get_logged_model("m-1")
    assert missing.value.get_http_status_code() == 404
    with pytest.raises(MlflowException, match="create_registered_model is refused"):
        registry_store(URI).create_registered_model("m")


def test_errors_of_the_table_keep_their_meaning(store: TableStore, cloud: DynamoClient) -> None:
    for run_id, status in (("nonsense", 400), ("0" * 32, 404)):
        with pytest.raises(MlflowException) as refusal:
            store.get_run(run_id)
        assert refusal.value.get_http_status_code() == status
    with pytest.raises(MlflowException, match="no-table") as missing:
        TableStore("receipt-dynamodb://no-table?region=us-east-1").search_experiments()
    assert missing.value.get_http_status_code() == 404


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("receipt-dynamodb://", "names no table"),
        ("receipt-dynamodb://a b", "names no table"),
        ("receipt-dynamodb://T_1?zone=x", "unknown option 'zone'"),
        ("receipt-dynamodb://T_1?region=", "region is empty"),
    ],
)
def test_an_address_that_names_no_table_is_refused_with_an_example(uri: str, text: str) -> None:
    with pytest.raises(MlflowException, match=text):
        parse_address(uri)


def test_an_address_keeps_table_region_and_endpoint() -> None:
    address = parse_address("receipt-dynamodb://Receipts-dc5be22?region=eu-west-1&endpoint=http://127.0.0.1:8000")
    assert (address.table, address.region, address.endpoint) == (
        "Receipts-dc5be22",
        "eu-west-1",
        "http://127.0.0.1:8000",
    )
    assert parse_address(address.uri) == address


def test_artifacts_go_through_the_server_only_where_it_serves_a_table() -> None:
    from mlflow.server.constants import ARTIFACTS_DESTINATION_ENV_VAR, SERVE_ARTIFACTS_ENV_VAR

    address = parse_address(URI)
    served = {SERVE_ARTIFACTS_ENV_VAR: "true", ARTIFACTS_DESTINATION_ENV_VAR: URI}
    assert artifact_place(address, served)("1/r/artifacts") == "mlflow-artifacts:/1/r/artifacts"
    elsewhere = artifact_place(address, {**served, ARTIFACTS_DESTINATION_ENV_VAR: "./mlartifacts"})("1/r/artifacts")
    assert elsewhere == "receipt-dynamodb://the-table/1/r/artifacts?region=us-east-1"
    assert parse_address(elsewhere).path == "1/r/artifacts"


def test_a_look_after_the_first_reads_open_jobs_and_those_that_ended_since(queue: JobQueue, ran: Ran) -> None:
    ran("ended", 0.5)
    now = [0.0]
    records = TableRecords(queue.client, lambda: now[0])
    open_job = submit(queue, "open")
    assert {job.name: job.status for job in records.jobs().values()} == {"ended": "succeeded", "open": "pending"}
    queue.cancel(open_job.job_id)
    ran("newer", 0.6)
    assert len(records.jobs()) == 2  # within FRESH_SECONDS nothing is read
    now[0] += FRESH_SECONDS
    assert {job.name: job.status for job in records.jobs().values()} == {
        "ended": "succeeded",
        "open": "cancelled",
        "newer": "succeeded",
    }
    queue.decide_to_delete(open_job.job_id)
    queue.delete(open_job.job_id)
    now[0] += WHOLE_SECONDS
    assert {job.name for job in records.jobs().values()} == {"ended", "newer"}

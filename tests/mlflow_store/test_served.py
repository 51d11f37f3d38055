"""The whole of it: `layoutlm-cli ui` as a process, MLflow's client over HTTP, and its page in a browser."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'receipt-layoutlm[mlflow]'")

import requests
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from receipt_layoutlm.local import process
from tests.mlflow_store.conftest import evaluated
from tests.support.browser import PROGRAM, browser
from tests.support.mlflow_server import answering
from tests.support.stores import Store

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


class Page(NamedTuple):
    url: str
    runs: tuple[str, str]
    process: "object"


@pytest.fixture
def page(store: Store, dynamo_endpoint: str, s3_endpoint: str, tmp_path: Path) -> Iterator[Page]:
    """`layoutlm-cli ui` over two jobs."""
    config = {"config_version": 1, "dataset": "receipts@" + "ab" * 32, "lr": 5e-05}
    jobs = [
        evaluated(store.queue, name, scores, dict(config), {}, store.bucket.name)
        for name, scores in (("first", [0.5, 0.9]), ("second", [0.4, 0.6]))
    ]
    for job in jobs:
        store.bucket.put_bytes(b'{"a": 1}', f"runs/{job.job_id}/attempt-001/run.json")
    (port,) = process.free_ports(1)
    environ = {
        **os.environ,
        "AWS_ENDPOINT_URL_DYNAMODB": dynamo_endpoint,
        "AWS_ENDPOINT_URL_S3": s3_endpoint,
    }
    command = ["-m", "receipt_layoutlm.cli", "ui", "--no-open", "--port", str(port)]
    table = ["--dynamo-table", store.queue.client.table_name]
    with answering([*command, *table], port, tmp_path, environ) as (url, child):
        yield Page(url, (jobs[0].job_id, jobs[1].job_id), child)


def test_mlflows_client_reads_everything_over_http_and_changes_nothing(page: Page, tmp_path: Path) -> None:
    client = MlflowClient(page.url)
    [experiment] = client.search_experiments()
    assert experiment.name == "receipts"
    found = client.search_runs([experiment.experiment_id], "metrics.f1 > 0.5", order_by=["metrics.f1 DESC"])
    assert [run.info.run_name for run in found] == ["first", "second"]
    assert [point.value for point in client.get_metric_history(page.runs[0], "f1")] == [0.5, 0.9]
    assert [file.path for file in client.list_artifacts(page.runs[0])] == ["run.json"]
    assert Path(client.download_artifacts(page.runs[0], "run.json", str(tmp_path))).read_bytes() == b'{"a": 1}'
    for change in (
        lambda: client.create_run(experiment.experiment_id),
        lambda: client.log_metric(page.runs[0], "f1", 1.0),
        lambda: client.delete_tag(page.runs[0], "job.status"),
        lambda: client.delete_run(page.runs[0]),
    ):
        with pytest.raises(MlflowException, match="is refused: this MLflow shows the jobs of a table"):
            change()
    upload = requests.put(
        f"{page.url}/api/2.0/mlflow-artifacts/artifacts/1/{page.runs[0]}/artifacts/x", b"x", timeout=30
    )
    assert (upload.status_code, "is refused" in upload.text) == (403, True)
    assistant = requests.get(f"{page.url}/ajax-api/3.0/mlflow/assistant/config", timeout=30)
    assert assistant.status_code == 403
    page.process.send_signal(signal.SIGINT)  # type: ignore[attr-defined]
    assert page.process.wait(30) == 130  # type: ignore[attr-defined]


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium: install Debian's package chromium")
def test_the_page_lists_runs_draws_a_metric_of_two_and_shows_a_file(page: Page, tmp_path: Path) -> None:
    experiment = MlflowClient(page.url).search_experiments()[0].experiment_id
    with browser(tmp_path / "profile") as window:
        window.look(1280, 900)
        window.open(f"{page.url}/#/experiments/{experiment}/runs")
        window.wait_for_text("2 matching runs")
        for name in ("first", "second"):
            window.wait_for_text(name)
        runs, shown = json.dumps(page.runs), '&metric="f1"&plot_metric_keys=["f1"]&plot_layout={}&x_axis=step'
        window.open(f'{page.url}/#/metric?runs={runs}&experiments=["{experiment}"]{shown}')
        for legend in ("first (f1)", "second (f1)"):
            window.wait_for_text(legend)
        window.wait_for("!!document.querySelector('.js-plotly-plot canvas, .js-plotly-plot .trace')")
        window.open(f"{page.url}/#/experiments/{experiment}/runs/{page.runs[0]}/artifacts")
        window.wait_for_text("run.json")
        window.click("[...document.querySelectorAll('*')].findLast(each => each.innerText == 'run.json')")
        window.wait_for_text('"a": 1')

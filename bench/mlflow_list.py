"""How long MLflow's server takes to list and to search the runs of a table, and how many requests that costs.

    python bench/mlflow_list.py [--runs 1000]

The table is on a local engine in memory. Its jobs look as workers leave them: all options, results with 15 labels and
their confusion, the last 3 evaluations; 1 of 20 has failed. MLflow's server runs as a process of its own. "Cold" is the
first question to a server that has just started (its imports excluded), "warm" the median of 3 after it. CPU seconds
are those of server and client together, which say more than the clock on a busy machine. Requests are counted in this
process, for the same questions to a store of its own.
"""

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
from fleet_simulation import engine
from mlflow.tracking import MlflowClient

from receipt_dynamo import DynamoClient, Job, JobError, JobMetric, JobStatus
from receipt_dynamo.items import job_item, metric_item
from receipt_layoutlm.config import config_class
from receipt_layoutlm.mlflow_store.address import TableAddress
from receipt_layoutlm.mlflow_store.store import TableStore
from tests.support.mlflow_server import serving

LABELS = [f"LABEL_{number}" for number in range(15)]
START = datetime(2026, 1, 1, tzinfo=UTC)
SEARCH = "metrics.f1 > 0.7 and params.epochs = '10'"
PAGE, MOST = 100, 1000


def fill(client: DynamoClient, runs: int) -> None:
    config = config_class("layoutlm").model_validate({"dataset": "receipts@" + "ab" * 32}).model_dump(mode="json")
    rows = [row for number in range(runs) for row in rows_of(number, config)]
    for start in range(0, len(rows), 25):
        puts: list[Any] = [{"PutRequest": {"Item": row}} for row in rows[start : start + 25]]
        reply = client.raw.batch_write_item(RequestItems={client.table_name: puts})
        assert not reply["UnprocessedItems"]


def rows_of(number: int, config: dict[str, Any]) -> Iterator[Any]:
    job_id, at, f1 = str(UUID(int=number + 1)), START + timedelta(minutes=number), number / 1000 % 1
    table = {label: {"precision": f1, "recall": f1, "f1": f1, "support": 60} for label in LABELS}
    has_failed = number % 20 == 0
    job = Job(
        job_id=job_id,
        name=f"run-{number}",
        status=JobStatus.FAILED if has_failed else JobStatus.SUCCEEDED,
        created_at=at,
        created_by="bench",
        job_config={**config, "seed": number},
        attempt=1,
        started_at=at,
        ended_at=at + timedelta(minutes=9),
        error=JobError(cause="out_of_memory", message="killed") if has_failed else None,
        results=None
        if has_failed
        else {
            "metric_name": "eval_f1",
            "metric_value": f1,
            "best_global_step": 300,
            "global_step": 300 if number % 4 else 400,  # of 1 of 4 the best evaluation was not the last
            "stop_reason": "completed",
            "per_label": table,
            "confusion": {label: dict.fromkeys(LABELS, 7) for label in LABELS},
        },
    )
    yield job_item(job).serialize()
    for step in (100, 200, 300):
        metric = JobMetric(
            job_id=job_id,
            timestamp=at + timedelta(seconds=step),
            metric_name="eval_f1",
            metric_value=f1,
            precision=f1,
            recall=f1,
            per_label=table,
            train_loss=0.1,
            eval_loss=0.2,
            lr=1e-5,
            epoch=step / 100,
            global_step=step,
            attempt=1,
            seq=step,
            extras={"f1": f1, "macro_f1": f1, "field_f1": f1, "ece": 0.1, "balanced_accuracy": f1},
        )
        yield metric_item(metric).serialize()


def questions(client: MlflowClient | TableStore, experiment: str) -> dict[str, Callable[[], int]]:
    def asked(filter_string: str, order: list[str] | None, most: int) -> int:
        if isinstance(client, TableStore):
            return len(client.search_runs([experiment], filter_string, "ACTIVE_ONLY", most, order))
        return len(client.search_runs([experiment], filter_string, max_results=most, order_by=order))

    return {
        "experiments": lambda: len(client.search_experiments()),
        f"list, a page of {PAGE}": lambda: asked("", None, PAGE),
        f"list, {MOST} at once": lambda: asked("", None, MOST),
        f"search by metric, a page of {PAGE}": lambda: asked(SEARCH, ["metrics.f1 DESC"], PAGE),
        f"search by metric, {MOST} at once": lambda: asked(SEARCH, ["metrics.f1 DESC"], MOST),
    }


@contextmanager
def counted(client: DynamoClient) -> Iterator[Counter[str]]:
    requests: Counter[str] = Counter()
    events = client.raw.meta.events

    def count(model: Any, **_: Any) -> None:
        requests[model.name] += 1

    events.register("before-call.dynamodb", count)
    yield requests
    events.unregister("before-call.dynamodb", count)


def seconds(ask: Callable[[], int]) -> tuple[float, float, int]:
    """Seconds by the clock, CPU seconds of this process and its children, and what was found."""
    began, used = time.perf_counter(), cpu_seconds()
    found = ask()
    return time.perf_counter() - began, cpu_seconds() - used, found


def cpu_seconds() -> float:
    own = psutil.Process()
    servers = [each for each in own.children(recursive=True) if "mlflow" in " ".join(each.cmdline())]
    return sum(sum(each.cpu_times()[:2]) for each in (own, *servers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    options = parser.parse_args()
    with engine() as tables:
        client = tables()
        fill(client, options.runs)
        address = TableAddress(client.table_name, endpoint=client.raw.meta.endpoint_url)
        experiment = TableStore(address.uri).search_experiments()[0].experiment_id
        print(f"{'':36} {'cold':>5} {'CPU':>5}  {'warm':>5} {'CPU':>5} {'runs':>5}  requests cold, warm")
        for title in questions(TableStore(address.uri), experiment):
            store = TableStore(address.uri)
            counts = []
            for _ in range(2):
                with counted(store.records.client) as requests:
                    questions(store, experiment)[title]()
                counts.append(sum(requests.values()))
            with serving(address.uri, Path("/tmp")) as url:
                ask = questions(MlflowClient(url), experiment)[title]
                clock, cold, found = seconds(ask)
                again = [seconds(ask) for _ in range(3)]
                warm, warm_cpu = (statistics.median(each[index] for each in again) for index in (0, 1))
            print(
                f"{title:36} {clock:5.2f} {cold:5.2f}  {warm:5.2f} {warm_cpu:5.2f} {found:5}  {counts[0]}, {counts[1]}"
            )


if __name__ == "__main__":
    main()

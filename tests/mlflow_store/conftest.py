"""Jobs that have ended, in a table on moto; without mlflow the tests beside are skipped, with a notice."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from receipt_dynamo import Job, JobMetric, JobQueue, JsonObject, Storage
from tests.support.jobs import NOON, claim, summary

URI = "receipt-dynamodb://the-table?region=us-east-1"
Ran = Callable[..., Job]


def evaluated(
    queue: JobQueue, name: str, f1: list[float], config: JsonObject, tags: dict[str, str], bucket: str
) -> Job:
    """A job that has succeeded: one evaluation a score, the best of which is in its results."""
    job = queue.submit(name=name, config=config, created_by="ada", tags=tags, storage=Storage(bucket=bucket))
    lease = claim(queue)
    for number, score in enumerate(f1, start=1):
        queue.client.add_job_metric(
            lease,
            JobMetric(
                job_id=job.job_id,
                timestamp=NOON + timedelta(seconds=number),
                metric_name="eval_f1",
                metric_value=score,
                per_label={"TOTAL": {"precision": 1.0, "recall": score, "f1": score, "support": 9}},
                eval_loss=1 - score,
                global_step=10 * number,
                epoch=number,
                attempt=lease.attempt,
                seq=number,
                extras={"f1": score, "macro_f1": score / 2, "health": ["a text"]},
            ),
        )
    best = f1.index(max(f1)) + 1
    results: JsonObject = {
        "metric_name": "eval_f1",
        "metric_value": max(f1),
        "best_global_step": 10 * best,
        "global_step": 10 * len(f1),
        "stop_reason": "completed",
        "macro_f1": max(f1) / 2,
        "per_label": {"TOTAL": {"precision": 1.0, "recall": max(f1), "f1": max(f1), "support": 9}},
    }
    queue.complete(lease, results=results, summary=summary(lease, NOON + timedelta(minutes=1)))
    return queue.client.get_job(job.job_id)


@pytest.fixture
def ran(queue: JobQueue) -> Ran:
    """Call it with a name, the scores of the evaluations, options and tags."""

    def run(name: str, *f1: float, dataset: str | None = "receipts@" + "ab" * 32, **tags: str) -> Job:
        config: JsonObject = {"config_version": 1, "dataset": dataset, "lr": 5e-05, "epochs": len(f1), "layers": None}
        return evaluated(queue, name, list(f1), config, tags, "the-bucket")

    return run

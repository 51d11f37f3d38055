"""Records in a notebook: escaped tables, and frames of pandas."""

import sys

import pytest

from receipt_dynamo import JobQueue
from receipt_dynamo.frames import NoPandas
from tests.support.jobs import NOON, claim, evaluation, submit, summary


def test_a_job_and_a_list_of_jobs_are_tables_in_html(queue: JobQueue) -> None:
    job = submit(queue, "<script>alert(1)</script>")
    submit(queue, "second")

    shown = job._repr_html_()
    listed = queue.client.list_jobs()._repr_html_()  # type: ignore[attr-defined]
    assert job.job_id in shown and "<script>" not in shown + listed and "&lt;script&gt;" in listed
    assert listed.count("<tr>") == 3 and "<th>status</th>" in listed and "pending" in listed


def test_frames_have_options_scores_and_tags(queue: JobQueue) -> None:
    pytest.importorskip("pandas")
    job = submit(queue, "one", tags={"team": "a"})
    lease = claim(queue)
    queue.client.add_job_metric(lease, evaluation(lease, f1=0.25, step=10, seq=1, at=NOON))
    queue.client.add_job_metric(lease, evaluation(lease, f1=0.5, step=20, seq=2, at=NOON))
    results = {"metric_name": "eval_f1", "metric_value": 0.5, "per_label": {"DATE": {"f1": 0.75}}}
    queue.complete(lease, results=results, summary=summary(lease))  # type: ignore[arg-type]

    row = queue.client.jobs_frame().loc[job.job_id]
    assert row["params.lr"] == 6e-5 and row["metrics.f1_DATE"] == 0.75 and row["tags.team"] == "a"
    assert (row["status"], row["score"]) == ("succeeded", 0.5)
    assert queue.client.metrics_frame(job.job_id)["f1"].to_dict() == {10: 0.25, 20: 0.5}


def test_frames_of_nothing_are_empty(queue: JobQueue) -> None:
    pytest.importorskip("pandas")
    job = submit(queue)

    assert len(queue.client.metrics_frame(job.job_id)) == 0 and len(queue.client.jobs_frame(limit=1)) == 1


def test_without_pandas_the_fix_is_named(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(NoPandas, match="pip install pandas"):
        queue.client.jobs_frame()

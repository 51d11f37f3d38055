"""layoutlm-cli report, as a person runs it: of jobs in every state, of earlier versions and of the original system."""

import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from receipt_dynamo import DynamoClient, Job, JobError, JobMetric, JobQueue, Lease, Storage, utcnow
from receipt_layoutlm.config_documents import to_document
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.snapshot import read_snapshot
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset, pinned
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Evaluation
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys
from tests.support import original_system
from tests.support.commands import ok, run
from tests.support.runs import events_of

STORAGE = Storage(bucket="the-bucket")


def claimed(queue: JobQueue, run_dir: RunDir, **options: Any) -> tuple[Job, Lease]:
    """A job over the pages of a run, in the hands of a worker."""
    bucket, pages = Bucket("the-bucket"), read_snapshot(run_dir.dataset)
    dataset = add_snapshot(queue.client, bucket, describe_dataset("tiny", pages, "test", utcnow()), pages)
    config = WordLabelsConfig(dataset=pinned(dataset), split="random", val_ratio=0.5, epochs=12, **options)
    document = to_document(config, {"epochs": "flag"})
    job = queue.submit(name="a-run", config=document, created_by="tests", storage=STORAGE)
    lease = queue.claim("worker-1")
    assert lease is not None
    return job, lease


def trained(queue: JobQueue, run_dir: RunDir) -> tuple[Job, Lease]:
    """The same with all that the trainer wrote stored."""
    job, lease = claimed(queue, run_dir)
    bucket, prefix = Bucket("the-bucket"), RunKeys(STORAGE, job.job_id).attempt(1)
    bucket.put_file(run_dir.run_json, prefix + "run.json")
    for path in run_dir.predictions.iterdir():
        bucket.put_file(path, f"{prefix}predictions/{path.name}")
    for number, event in enumerate(each for each in events_of(run_dir) if isinstance(each, Evaluation)):
        row = JobMetric(
            job_id=job.job_id, timestamp=event.time, metric_name=event.metric_name, metric_value=event.metric_value,
            global_step=event.global_step, epoch=event.epoch, attempt=1, seq=number, is_best=event.is_best,
        )  # fmt: skip
        queue.client.add_job_metric(lease, row)
    return job, lease


def fail(queue: JobQueue, lease: Lease) -> None:
    queue.fail(lease, JobError(cause="bad_data", message="the page <b>x</b> is empty"))


def document(*arguments: str) -> Mapping[str, Any]:
    return json.loads(ok("report", *arguments, "--json"))  # type: ignore[no-any-return]


def test_one_file_tells_of_a_run_and_the_next_command_runs(
    queue: JobQueue, finished_run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job, lease = trained(queue, finished_run)
    fail(queue, lease)
    lines = ok("report", "a-run").splitlines()
    assert lines[0].startswith(f"report-{job.job_id[:8]}.html: failed, ")
    text = (tmp_path / f"report-{job.job_id[:8]}.html").read_text()
    assert 'class="drawn"' in text and 'id="cell-' in text and "polyline" in text
    assert "the page &lt;b&gt;x&lt;/b&gt; is empty" in text
    assert lines[-2] == "next:"
    ok(*shlex.split(lines[-1])[1:])


def test_the_json_has_the_figures_of_the_run_its_sets_and_the_digest_of_what_is_stored(
    queue: JobQueue, finished_run: RunDir
) -> None:
    trained(queue, finished_run)
    record = json.loads(finished_run.run_json.read_bytes())
    found = document("a-run")
    best = max(record["evaluations"], key=lambda each: each["metric_value"])
    assert found["schema_version"] == 1
    assert found["best"]["metric_value"] == best["metric_value"]
    assert found["data"]["pages"]["validation"] == record["dataset"]["eval_pages"] == found["judged_pages"]
    assert found["reliability"]["bins"] == best["reliability"]
    assert found["reliability"]["ece"] == best["ece"]
    assert len(found["evaluations"]) == len(record["evaluations"])
    assert {row["attempt"] for row in found["evaluations"]} == {1}
    digests = {row["name"]: row["sha256"] for row in found["artifacts"]}
    assert digests["record of the run"] == hashlib.sha256(finished_run.run_json.read_bytes()).hexdigest()
    assert {row["option"]: (row["value"], row["default"]) for row in found["options"]}["--epochs"] == (12, 10)
    assert found["comparability"]["sha256"] == record["comparability"]["sha256"]


def test_markdown_is_printed_and_a_file_beside_it_only_when_named(
    queue: JobQueue, finished_run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trained(queue, finished_run)
    assert ok("report", "a-run", "--md").startswith("# Report of a-run\n")
    assert list(tmp_path.glob("*.html")) == []
    assert ok("report", "a-run", "--md", "--html", "x.html").startswith("# Report of a-run\n")
    assert (tmp_path / "x.html").exists()


def test_without_texts_no_word_of_a_page_is_in_any_form(queue: JobQueue, finished_run: RunDir, tmp_path: Path) -> None:
    trained(queue, finished_run)
    pages = read_snapshot(finished_run.dataset)
    words = {word for page in pages for word in page.words if len(word) > 5} | {page.page_id for page in pages}
    words |= {page.group for page in pages}
    ok("report", "a-run", "--redact", "--html", str(tmp_path / "r.html"))
    forms = [(tmp_path / "r.html").read_text(), ok("report", "a-run", "--redact", "--json")]
    forms.append(ok("report", "a-run", "--redact", "--md"))
    assert [[word for word in words if word in text] for text in forms] == [[], [], []]
    ok("report", "a-run", "--html", str(tmp_path / "whole.html"))
    assert any(word in (tmp_path / "whole.html").read_text() for word in words)


def test_pictures_of_a_folder_lie_under_the_drawings(queue: JobQueue, finished_run: RunDir, tmp_path: Path) -> None:
    trained(queue, finished_run)
    (tmp_path / "scans").mkdir()
    worst = document("a-run")["worst_pages"][0]["page_id"]
    Image.new("RGB", (300, 400), "white").save(tmp_path / "scans" / f"{worst}.png")
    ok("report", "a-run", "--images", str(tmp_path / "scans"), "--html", str(tmp_path / "r.html"))
    assert (tmp_path / "r.html").read_text().count("data:image/jpeg") == 1


def test_a_stored_report_is_three_files_beside_the_attempt_and_job_show_names_it(
    queue: JobQueue, finished_run: RunDir
) -> None:
    job, lease = trained(queue, finished_run)
    fail(queue, lease)
    assert "report_uri" in json.loads(ok("job", "show", "a-run", "--json"))
    assert json.loads(ok("job", "show", "a-run", "--json"))["report_uri"] is None
    place = f"s3://the-bucket/runs/{job.job_id}/attempt-001/report.html"
    assert ok("report", "a-run", "--store") == f"stored {place}\n"
    keys = [key for key in Bucket("the-bucket").list_keys(f"runs/{job.job_id}/") if "/report." in key]
    assert [key.rpartition(".")[2] for key in keys] == ["html", "json", "md"]
    assert json.loads(Bucket("the-bucket").get_bytes(keys[1]))["job"]["job_id"] == job.job_id
    assert f"report            {place}" in ok("job", "show", "a-run")


def test_the_report_of_an_ended_attempt_lies_beside_it_although_the_next_has_begun(
    queue: JobQueue, finished_run: RunDir
) -> None:
    job, lease = claimed(queue, finished_run)
    queue.release(lease, "asked to stop")
    assert queue.claim("worker-2") is not None
    assert "/attempt-001/report.html" in ok("report", job.job_id, "--store", "--attempt", "1")


@pytest.mark.parametrize("state", ["pending", "running", "interrupted", "cancelled"])
def test_a_job_in_any_state_has_a_report_of_what_there_is(queue: JobQueue, state: str) -> None:
    job = queue.submit(name="a-run", config={"config_version": 1, "lr": 1}, created_by="me", storage=STORAGE)
    if state in ("running", "interrupted"):
        lease = queue.claim("w")
        assert lease is not None
        if state == "interrupted":
            queue.release(lease, "asked to stop")
    if state == "cancelled":
        queue.cancel(job.job_id)
    found = document("a-run")
    assert (found["job"]["status"], found["best"]) == (state, None)
    assert len(found["attempts"]) == (state in ("running", "interrupted"))
    assert bool(found["notes"]) == bool(found["attempts"])


def test_files_that_cannot_be_read_are_told_and_the_rest_is_shown(queue: JobQueue, finished_run: RunDir) -> None:
    job, _ = trained(queue, finished_run)
    bucket, prefix = Bucket("the-bucket"), RunKeys(STORAGE, job.job_id).attempt(1)
    bucket.put_bytes(b"{torn", f"{prefix}run.json")
    for key in list(bucket.list_keys(f"{prefix}predictions/")):
        bucket.put_bytes(b"no gzip", key)
    found = document("a-run")
    assert len(found["notes"]) == 2
    assert found["best"]["metric_value"] > 0 and found["judged_pages"] == 0


def test_a_bucket_that_is_gone_leaves_the_report_of_the_table(queue: JobQueue) -> None:
    storage = Storage(bucket="no-such-bucket")
    queue.submit(name="a-run", config={"config_version": 1}, created_by="me", storage=storage)
    assert any("the bucket cannot be read" in note for note in document("a-run")["notes"])


def test_a_job_of_the_original_system_has_its_scores_and_all_its_options(cloud: DynamoClient) -> None:
    job_id = "6f6a1c1e-8f57-4d2a-9f0e-2c7a1f0f3b11"
    rows = [original_system.job(job_id)]
    for epoch, f1 in ((1, "0.7"), (2, "0.9")):
        at = f"2025-03-01T12:0{epoch}:00"
        rows.append(original_system.metric(job_id, "val_f1", {"N": f1}, at, epoch=epoch))
    for row in rows:
        cloud.raw.put_item(TableName="the-table", Item=row)
    found = document(job_id)
    assert (found["best"]["metric_name"], found["best"]["metric_value"]) == ("val_f1", 0.9)
    assert [point["global_step"] for point in found["evaluations"]] == [1, 2]
    options = {row["option"]: (row["value"], row["default"]) for row in found["options"]}
    assert options["--learning-rate"] == (0.00006, None) and options["--epochs"] == (20, 10)
    assert "--label-smoothing" not in options  # null in the original
    assert found["attempts"] == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--json", "--md"), "give one of the two"),
        (("--json", "--open"), "name one with --html"),
        (("--redact", "--images", "."), "leave out --images"),
        (("--store",), "has no attempt yet"),
    ],
)
def test_options_that_contradict_each_other_are_refused(queue: JobQueue, options: tuple[str, ...], text: str) -> None:
    queue.submit(name="a-run", config={"config_version": 1}, created_by="me", storage=STORAGE)
    result = run("report", "a-run", *options)
    assert result.exit_code == 2 and text in result.stderr


def test_open_hands_the_file_to_the_browser(queue: JobQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.submit(name="a-run", config={"config_version": 1}, created_by="me", storage=STORAGE)
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path / "opened"}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    ok("report", "a-run", "--html", str(tmp_path / "r.html"), "--open")
    assert (tmp_path / "opened").read_text() == f"{(tmp_path / 'r.html').as_uri()}\n"

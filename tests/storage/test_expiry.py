"""What is removed of jobs that ended, and what stays."""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from receipt_dynamo import DynamoClient, Job, JobError, JobLog, JobQueue, JobStatus, Pointer, Storage, utcnow
from receipt_layoutlm.cli import cli
from receipt_layoutlm.run.manifest import write_manifest
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.expiry import SUPERSEDED, BadAge, Leftover, age_of, leftovers, mark_checkpoints, remove
from receipt_layoutlm.storage.keys import RunKeys
from receipt_layoutlm.storage.usage import usage_of
from tests.support.s3_wire import S3Wire
from tests.support.stores import Store

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FILES = {
    "attempt-001/checkpoint-5/model.safetensors": b"1" * 100,
    "attempt-001/checkpoint-5/manifest.json": b"{}",
    "attempt-002/checkpoint-9/model.safetensors": b"2" * 50,  # an upload that broke off: it has no manifest
    "attempt-002/logs/events.jsonl": b"4" * 7,
    "attempt-002/run.json": b"5",
}
BEST = {"attempt-002/best/model.safetensors": b"3" * 28, "attempt-002/best/manifest.json": b"{}"}  # of a success
FIRST, SECOND = (
    Pointer(attempt=attempt, global_step=step, manifest_sha256="0" * 64) for attempt, step in ((1, 5), (2, 9))
)


def files_of(bucket: Bucket, job: Job) -> set[str]:
    run = RunKeys(Storage(bucket=bucket.name), job.job_id).run
    return {key.removeprefix(run) for key in bucket.list_keys(run)}


def with_files(bucket: Bucket, job: Job, folder: Path, files: Mapping[str, bytes] = FILES) -> Job:
    keys = RunKeys(Storage(bucket=bucket.name), job.job_id)
    for name, content in files.items():
        (folder / "file").write_bytes(content)
        bucket.put_file(folder / "file", keys.run + name)
    return job


def ended(
    store: Store, folder: Path, name: str, status: JobStatus, last: Pointer = SECOND, best: Pointer | None = FIRST
) -> Job:
    lease = store.claimed(name)
    job = with_files(store.bucket, store.queue.client.get_job(lease.job_id), folder)
    lease = store.queue.record_checkpoint(lease, last, best)
    if status is JobStatus.SUCCEEDED:
        with_files(store.bucket, job, folder, BEST)
        summary = JobLog(job_id=job.job_id, timestamp=store.clock(), level="info", event="run_summary", message="")
        assert store.queue.complete(lease, results={}, summary=summary) is status
    elif status is JobStatus.CANCELLED:
        store.queue.cancel(job.job_id)
        assert store.queue.acknowledge_cancel(lease) is status
    elif status is JobStatus.FAILED:
        assert store.queue.fail(lease, JobError(cause="bad_data", message="no pages")) is status
    return store.queue.client.get_job(job.job_id)


@pytest.mark.engine
def test_after_a_success_checkpoints_are_marked_to_expire_and_nothing_else_is(
    store: Store, s3: "S3Client", tmp_path: Path
) -> None:
    job = ended(store, tmp_path, "a", JobStatus.SUCCEEDED)
    keys = RunKeys(Storage(bucket=store.bucket.name), job.job_id)
    assert mark_checkpoints(store.bucket, keys) == 3
    for name in FILES | BEST:
        tags = s3.get_object_tagging(Bucket=store.bucket.name, Key=keys.run + name)["TagSet"]
        expected = SUPERSEDED if "/checkpoint-" in name else {}
        assert {tag["Key"]: tag["Value"] for tag in tags} == expected, name


@pytest.mark.engine
@pytest.mark.parametrize("size", [7, 9 << 20], ids=["in one piece", "in parts"])
def test_a_copy_of_a_marked_checkpoint_does_not_expire_and_asks_for_no_right_to_tag(
    store: Store, s3: "S3Client", tmp_path: Path, size: int
) -> None:
    """best/ is such a copy, and a worker's role may tag below checkpoint-*/ alone."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(bytes(size))
    write_manifest(folder, 5)
    store.bucket.put_folder(folder, "from/")
    store.bucket.tag("from/model.safetensors", SUPERSEDED)
    wire = S3Wire(store.bucket)
    store.bucket.copy_folder("from/", "to/", ["model.safetensors"])
    assert "x-amz-copy-source" in wire.headers
    assert "x-amz-tagging" not in wire.headers and "PutObjectTagging" not in wire.sent
    for key, tags in (("from/model.safetensors", 1), ("to/model.safetensors", 0)):
        assert len(s3.get_object_tagging(Bucket=store.bucket.name, Key=key)["TagSet"]) == tags, key


@pytest.mark.engine
def test_a_bucket_that_refuses_the_mark_is_no_error_of_the_job(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = ended(store, tmp_path, "a", JobStatus.SUCCEEDED)
    gone = Bucket("no-such-bucket-of-anybody", endpoint_url=store.bucket.raw.meta.endpoint_url)
    assert mark_checkpoints(gone, RunKeys(Storage(bucket=gone.name), job.job_id)) == 0
    assert "job prune" in caplog.text


@pytest.mark.engine
def test_checkpoints_of_jobs_that_ended_long_ago_go_and_what_they_learned_stays(store: Store, tmp_path: Path) -> None:
    old = ended(store, tmp_path, "old", JobStatus.SUCCEEDED)
    running = ended(store, tmp_path, "running", JobStatus.RUNNING)
    store.clock.pass_seconds(3600)
    young = ended(store, tmp_path, "young", JobStatus.SUCCEEDED)
    found = list(leftovers(store.queue, lambda _name: store.bucket, timedelta(minutes=30)))
    assert [(left.job.name, len(left.folders), left.size) for left in found] == [("old", 2, 152)]
    assert [remove(store.queue, store.bucket, left) for left in found] == [3]
    assert files_of(store.bucket, old) == {name for name in FILES | BEST if "/checkpoint-" not in name}
    assert files_of(store.bucket, running) == set(FILES)
    assert files_of(store.bucket, young) == set(FILES | BEST)


@pytest.mark.engine
@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.CANCELLED])
@pytest.mark.parametrize(
    ("last", "best"), [pytest.param(SECOND, FIRST, id="best"), pytest.param(FIRST, None, id="last, with no best")]
)
def test_the_only_weights_of_a_job_without_success_stay(
    store: Store, tmp_path: Path, status: JobStatus, last: Pointer, best: Pointer | None
) -> None:
    job = ended(store, tmp_path, "a", status, last, best)

    def found() -> list[Leftover]:
        return list(leftovers(store.queue, lambda _name: store.bucket, timedelta(minutes=-1)))

    (left,) = found()
    assert remove(store.queue, store.bucket, left) == 1

    assert files_of(store.bucket, job) == {name for name in FILES if "/checkpoint-9/" not in name}
    assert found() == []


@pytest.mark.engine
def test_a_job_that_never_came_to_a_checkpoint_keeps_none(store: Store, tmp_path: Path) -> None:
    lease = store.claimed()
    with_files(store.bucket, store.queue.client.get_job(lease.job_id), tmp_path)  # all of them torn uploads
    store.queue.fail(lease, JobError(cause="bad_data", message="no pages"))
    (left,) = leftovers(store.queue, lambda _name: store.bucket, timedelta(minutes=-1))
    assert len(left.folders) == 2


@pytest.mark.parametrize(("text", "hours"), [("12h", 12), ("30d", 720), ("2w", 336), ("0d", 0)])
def test_an_age_is_a_number_and_a_unit(text: str, hours: int) -> None:
    assert age_of(text) == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["30", "d", "", "-1d", "1.5d", "30 days", "1y"])
def test_anything_else_is_no_age(text: str) -> None:
    with pytest.raises(BadAge, match="such as 30d"):
        age_of(text)


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, [*words])


@pytest.fixture
def old_job(cloud: DynamoClient, tmp_path: Path) -> Job:
    """A job that succeeded a month ago, on moto."""
    queue = JobQueue(cloud, now=lambda: utcnow() - timedelta(days=30))
    job = queue.submit(name="old", config={}, created_by="me", storage=Storage(bucket="the-bucket"))
    lease = queue.claim("a-worker")
    assert lease is not None
    summary = JobLog(job_id=job.job_id, timestamp=utcnow(), level="info", event="run_summary", message="")
    queue.complete(lease, results={}, summary=summary)
    return with_files(Bucket("the-bucket"), job, tmp_path, FILES | BEST)


def test_prune_removes_only_what_is_old_enough_and_only_when_told(old_job: Job) -> None:
    bucket = Bucket("the-bucket")
    assert "no job that ended more than 31d ago" in run("job", "prune", "--older-than", "31d", "--yes").output
    assert "no job that ended" in run("job", "prune", "--older-than", "1d", "--status", "failed", "--yes").output
    shown = json.loads(run("job", "prune", "--older-than", "1d", "--dry-run", "--json").stdout)
    assert [(row["name"], row["checkpoints"], row["size"], row["removed"]) for row in shown] == [("old", 2, 152, False)]
    assert run("job", "prune", "--older-than", "1d").exit_code == 1  # asked, and nobody answered
    assert files_of(bucket, old_job) == set(FILES | BEST)
    assert run("job", "prune", "--older-than", "1d", "--yes").exit_code == 0
    assert files_of(bucket, old_job) == {name for name in FILES | BEST if "/checkpoint-" not in name}


def test_prune_explains_a_bad_age_and_json_that_would_ask(cloud: DynamoClient) -> None:
    assert "such as 30d" in run("job", "prune", "--older-than", "soon").output
    assert run("job", "prune", "--older-than", "1d", "--json").exit_code == 2


def test_usage_counts_by_kind_and_job(old_job: Job, tmp_path: Path) -> None:
    bucket = Bucket("the-bucket")
    (tmp_path / "file").write_bytes(b"x" * 9)
    for key in ("datasets/abc.jsonl.gz", "encoded/def/ids.npy", "wheels/1.tar.gz", "stray.txt"):
        bucket.put_file(tmp_path / "file", key)
    shown = json.loads(run("storage", "usage", "--json").stdout)
    sizes = {kind: amount["size"] for kind, amount in shown["kinds"].items()}
    runs = {"checkpoint": 152, "best": 30, "logs": 7, "run records": 1}
    assert sizes == {**runs, "datasets": 9, "encoded": 9, "wheels": 9, "other": 9}
    assert shown["jobs"] == {old_job.job_id: {"objects": 7, "size": 190}}
    assert shown["total"] == {"objects": 11, "size": 226}
    text = run("storage", "usage", "--jobs", "0").stdout
    assert "226 bytes" in text and old_job.job_id not in text


def test_runs_below_a_prefix_count_as_runs(cloud: DynamoClient, tmp_path: Path) -> None:
    bucket = Bucket("the-bucket")
    (tmp_path / "file").write_bytes(b"x")
    bucket.put_file(tmp_path / "file", "team/a/runs/some-job/attempt-001/best/model.safetensors")
    assert usage_of(bucket).kinds["best"].size == 1

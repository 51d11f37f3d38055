"""What is removed of jobs that ended, and what stays."""

import io
import json
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from click.testing import CliRunner, Result

from receipt_dynamo import DynamoClient, Job, JobError, JobLog, JobQueue, JobStatus, Pointer, Storage, items, utcnow
from receipt_layoutlm.cli import cli
from receipt_layoutlm.cli.connection import Connection
from receipt_layoutlm.cli.times import BadAge, age_of
from receipt_layoutlm.cli.upkeep import Upkeep, expire
from receipt_layoutlm.infra import superseded_days
from receipt_layoutlm.paths import disk_bytes, local_work_dir, state_dir
from receipt_layoutlm.run.manifest import write_manifest
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.expiry import SUPERSEDED, Leftover, leftovers, mark_checkpoints, remove
from receipt_layoutlm.storage.keys import RunKeys
from receipt_layoutlm.storage.usage import usage_of
from receipt_layoutlm.worker.context import Host
from receipt_layoutlm.worker.host.registry import workers_dir
from tests.support.moto_worker import beside
from tests.support.s3_wire import S3Wire
from tests.support.stores import Clock, Store

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
    assert [remove(store.queue, store.bucket, left) for left in found] == [152]
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
    assert remove(store.queue, store.bucket, left) == 50

    assert files_of(store.bucket, job) == {name for name in FILES if "/checkpoint-9/" not in name}
    assert found() == []


@pytest.mark.engine
def test_a_job_whose_lease_cannot_be_read_keeps_its_checkpoints_and_stops_no_other(
    store: Store, tmp_path: Path
) -> None:
    broken, sound = (ended(store, tmp_path, name, JobStatus.FAILED) for name in ("broken", "sound"))
    client = store.queue.client
    client.raw.update_item(
        TableName=client.table_name,
        Key=items.lease_key(broken.job_id),
        UpdateExpression="SET renewals = :r",
        ExpressionAttributeValues={":r": {"S": "many"}},
    )
    left = list(leftovers(store.queue, lambda _name: store.bucket, timedelta(minutes=-1)))
    assert [each.job.job_id for each in left] == [sound.job_id]


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


def test_old_versions_count_as_they_are_billed(cloud: DynamoClient) -> None:
    bucket = Bucket("the-bucket")
    bucket.raw.put_bucket_versioning(Bucket="the-bucket", VersioningConfiguration={"Status": "Enabled"})
    for size in (5, 7):
        bucket.put_bytes(b"x" * size, "runs/some-job/attempt-001/logs/train.log")
    bucket.put_bytes(b"x" * 100, "runs/some-job/attempt-001/checkpoint-5/model.safetensors")
    bucket.delete_prefix("runs/some-job/attempt-001/checkpoint-5/")
    kinds = usage_of(bucket).kinds
    assert (kinds["logs"].size, kinds["old versions"].objects, kinds["old versions"].size) == (7, 2, 105)


# on this machine


def run_directory(job_id: str, size: int, age: timedelta = timedelta(0)) -> Path:
    work_dir = local_work_dir(os.environ)
    path = work_dir / ".attempts" / job_id / "001"
    path.mkdir(parents=True)
    (path / "weights").write_bytes(os.urandom(size))
    (work_dir / job_id).symlink_to(path)
    old = (utcnow() - age).timestamp()
    os.utime(path, (old, old))
    return path


def test_prune_takes_run_directories_of_the_same_jobs_and_says_what_it_freed(old_job: Job) -> None:
    own, other = run_directory(old_job.job_id, 8192), run_directory("00000000-0000-4000-8000-000000000000", 8192)
    shown = json.loads(run("job", "prune", "--older-than", "1d", "--dry-run", "--json").stdout)
    assert [(row["size"], row["run_directories"], row["run_directories_size"]) for row in shown] == [(152, 1, 8192)]
    assert own.exists()

    told = run("job", "prune", "--older-than", "1d", "--yes")

    assert "removed 152 bytes of checkpoints and freed 8.2 kB of run directories" in told.stderr
    assert (own.exists(), other.exists()) == (False, True)
    links = {path.name for path in local_work_dir(os.environ).iterdir() if path.is_symlink()}
    assert links == {"00000000-0000-4000-8000-000000000000"}


def test_prune_finds_run_directories_of_jobs_whose_checkpoints_are_gone(old_job: Job) -> None:
    run("job", "prune", "--older-than", "1d", "--yes")
    left = run_directory(old_job.job_id, 4096)
    assert run("job", "prune", "--older-than", "60d", "--yes").exit_code == 0
    assert left.exists()
    assert run("job", "prune", "--older-than", "1d", "--yes").exit_code == 0
    assert not left.exists()


class AnswersAfter(io.BytesIO):
    """Says yes to a question, after something else has happened."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__(b"y\n")
        self._happens = happens

    def read1(self, size: int | None = -1, /) -> bytes:
        if self.tell() == 0:
            self._happens()
        return super().read1(size)


def test_prune_keeps_the_files_of_a_job_that_was_retried_while_it_asked(cloud: DynamoClient, tmp_path: Path) -> None:
    queue, bucket = JobQueue(cloud, now=lambda: utcnow() - timedelta(days=30)), Bucket("the-bucket")
    job = queue.submit(name="old", config={}, created_by="me", storage=Storage(bucket="the-bucket"))
    lease = queue.claim("a-worker")
    assert lease is not None
    queue.record_checkpoint(lease, FIRST, None)
    queue.fail(lease, JobError(cause="bad_data", message="no pages"))
    with_files(bucket, job, tmp_path)
    own = run_directory(job.job_id, 4096)

    answer = AnswersAfter(lambda: queue.retry(job.job_id))
    told = CliRunner().invoke(cli, ["job", "prune", "--older-than", "1d"], input=answer)

    assert told.exit_code == 0
    assert f"old ({job.job_id}) was retried meanwhile: its files are kept" in told.stderr
    assert "removed 0 bytes of checkpoints and freed 0 bytes of run directories" in told.stderr
    assert files_of(bucket, job) == set(FILES) and own.exists()


def test_prune_counts_what_it_removed_itself_and_not_what_had_gone_meanwhile(old_job: Job, cloud: DynamoClient) -> None:
    own, bucket = run_directory(old_job.job_id, 8192), Bucket("the-bucket")
    lifecycle_rule = AnswersAfter(
        lambda: bucket.delete_prefix(RunKeys(Storage(bucket="the-bucket"), old_job.job_id).run)
    )

    told = CliRunner().invoke(cli, ["job", "prune", "--older-than", "1d"], input=lifecycle_rule)

    assert "removed 0 bytes of checkpoints and freed 8.2 kB of run directories" in told.stderr
    assert not own.exists()


def test_the_age_is_that_of_the_lifecycle_rule() -> None:
    assert superseded_days() == 7
    assert "superseded-days NUMBER" in run("fleet", "deploy", "--help").output


@pytest.mark.engine
def test_local_checkpoints_expire_as_on_aws_and_the_disk_gets_their_space_back(tmp_path: Path) -> None:
    connection = Connection(is_local=True, table=None, region=None, bucket_name=None)
    client = connection.client()
    boto3.setup_default_session()  # the one before has the settings of other tests
    bucket = connection.open_bucket("layoutlm-local")
    big = {name: os.urandom(6 << 20) if name.endswith("safetensors") else data for name, data in FILES.items()}
    jobs = {}
    for name, status, days in (
        ("old", JobStatus.SUCCEEDED, 8),
        ("young", JobStatus.SUCCEEDED, 6),
        ("failed", JobStatus.FAILED, 8),
        ("cancelled", JobStatus.CANCELLED, 8),
    ):
        clock = Clock(utcnow() - timedelta(days=days))
        store = Store(JobQueue(client, now=clock), bucket, clock)
        jobs[name] = with_files(bucket, ended(store, tmp_path, name, status), tmp_path, big)
    kept, gone = run_directory("young", 10, timedelta(days=6)), run_directory("old", 10, timedelta(days=8))
    before = disk_bytes(state_dir(os.environ))

    assert run("local", "up").exit_code == 0

    assert files_of(bucket, jobs["old"]) == {name for name in FILES | BEST if "/checkpoint-" not in name}
    assert files_of(bucket, jobs["young"]) == set(FILES | BEST)
    for name in ("failed", "cancelled"):  # on AWS no rule takes them: they can be retried or continued
        assert files_of(bucket, jobs[name]) == set(FILES)
    assert (kept.exists(), gone.exists()) == (True, False)
    assert before - disk_bytes(state_dir(os.environ)) > 10 << 20
    shown = json.loads(run("local", "status", "--json").stdout)["sizes"]
    assert set(shown) == {"table", "bucket", "work folder", "caches"}
    assert 30 << 20 < shown["bucket"] < 50 << 20
    assert "job prune" in run("local", "status").output


def test_a_worker_lets_old_files_expire_after_a_job_once_a_day(cloud: DynamoClient) -> None:
    clock, connection = Clock(), Connection(False, "the-table", None, "the-bucket")
    upkeep = Upkeep(connection, clock.monotonic)
    host = Host(upkeep=upkeep)
    for seconds, expires in ((0, True), (3600, False), (86_400, True)):
        clock.pass_seconds(seconds)
        old = run_directory(f"old-{seconds}", 1, timedelta(days=8))
        with host.busy("a-job"):
            assert old.exists()
        assert old.exists() is not expires


def test_the_run_directory_of_a_running_job_never_expires(cloud: DynamoClient) -> None:
    beside(workers_dir(os.environ), "in-hand")
    own = run_directory("in-hand", 1, timedelta(days=30))
    expire(Connection(False, "the-table", None, "the-bucket"))
    assert own.exists()

"""What the trainer appends to events.jsonl arrives in the table and the bucket, in order and under the fence."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from receipt_dynamo import JobStatus, Lease, LeaseLost, WriteTimeout
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Checkpoint, Evaluation, Event, EventWriter, Finished, Log, Progress, Started
from receipt_layoutlm.run.hardware import Hardware
from receipt_layoutlm.run.manifest import DamagedFolder, write_manifest
from receipt_layoutlm.run.progress import LeaseProgress
from receipt_layoutlm.run.scores import LabelScore
from receipt_layoutlm.storage.errors import StorageUnavailable
from receipt_layoutlm.storage.keys import RunKeys
from receipt_layoutlm.storage.tables import TableFolder
from receipt_layoutlm.worker.attempt import AttemptContext
from receipt_layoutlm.worker.heartbeat import Heartbeat
from receipt_layoutlm.worker.outcome import finish
from receipt_layoutlm.worker.patience import Patience as AttemptPatience
from receipt_layoutlm.worker.recorder import Recorder, RunStorage
from receipt_layoutlm.worker.rows import LOG_BYTES, JobRows
from receipt_layoutlm.worker.supervisor import ExitReport
from tests.support.places import Place
from tests.support.s3_wire import S3Wire
from tests.support.stores import Store
from tests.support.wire import Patience, Wire

pytestmark = pytest.mark.engine

SECRETS = ("a-secret-of-this-machine",)


class Run:
    """A run directory that the test writes as a trainer would."""

    def __init__(self, store: Store, lease: Lease, path: Path, keep_checkpoints: int = 1) -> None:
        path.mkdir(exist_ok=True)
        self.dir = RunDir(path)
        self.writer = EventWriter(self.dir.events)
        self.seen: list[Event] = []
        storage = store.queue.client.get_job(lease.job_id).storage
        assert storage is not None
        self.keys = RunKeys(storage, lease.job_id)
        run_storage = RunStorage(store.bucket, self.keys, keep_checkpoints)
        self.clock: Callable[[], datetime] = store.clock
        fit = TableFolder(store.bucket, self.keys, lease.attempt).fit
        rows = JobRows(store.queue.client, lease, lambda: self.clock(), SECRETS, self.keys.uri("events.jsonl"), fit)
        self.heartbeat = Heartbeat(store.queue, lease)
        self.recorder = Recorder(
            store.queue, run_storage, rows, lease, self.dir, self.heartbeat, self.seen.append, store.clock
        )

    def commit_checkpoint(self, step: int, *, is_best: bool) -> None:
        self.write_checkpoint(step, is_best=is_best)
        self.recorder.poll()

    def write_checkpoint(self, step: int, *, is_best: bool) -> None:
        folder = self.dir.checkpoint(step)
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights %d" % step)
        sha256 = write_manifest(folder, step)
        self.writer.write(Checkpoint(global_step=step, folder=folder.name, manifest_sha256=sha256, is_best=is_best))


@pytest.fixture
def lease(store: Store) -> Lease:
    return store.claimed()


@pytest.fixture
def run(store: Store, lease: Lease, tmp_path: Path) -> Run:
    return Run(store, lease, tmp_path / "run")


def evaluation(step: int, value: float) -> Evaluation:
    return Evaluation(
        global_step=step,
        epoch=step / 10,
        metric_name="eval_f1",
        metric_value=value,
        precision=0.5,
        recall=0.6,
        per_label={"DATE": LabelScore(precision=1.0, recall=0.5, f1=2 / 3, support=4)},
        train_loss=0.7,
        eval_loss=0.8,
        lr=1e-5,
        o_entity_ratio=2.0,
        is_best=True,
    )


def test_an_evaluation_becomes_one_metric_with_everything_in_it(store: Store, lease: Lease, run: Run) -> None:
    run.writer.write(evaluation(10, 0.25))

    run.recorder.poll()

    (metric,) = store.queue.client.list_job_metrics(lease.job_id)
    assert (metric.metric_name, metric.metric_value, metric.global_step) == ("eval_f1", 0.25, 10)
    assert (metric.train_loss, metric.eval_loss, metric.lr, metric.o_entity_ratio) == (0.7, 0.8, 1e-5, 2.0)
    assert metric.per_label["DATE"] == {"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "support": 4}
    assert (metric.attempt, metric.seq, metric.is_best) == (1, 1, True)


def test_a_checkpoint_is_in_the_bucket_before_the_lease_points_at_it(store: Store, lease: Lease, run: Run) -> None:
    run.write_checkpoint(10, is_best=True)

    run.recorder.poll()

    stored = store.queue.client.get_lease(lease.job_id)
    assert stored.checkpoint is not None and stored.best == stored.checkpoint
    assert stored.checkpoint.global_step == 10
    prefix = run.keys.checkpoint(stored.checkpoint)
    assert store.bucket.get_bytes(prefix + "model.safetensors") == b"weights 10"
    assert not run.dir.checkpoint(10).exists()


def test_a_checkpoint_that_cannot_be_uploaded_moves_no_pointer(store: Store, lease: Lease, run: Run) -> None:
    run.write_checkpoint(10, is_best=True)
    (run.dir.checkpoint(10) / "model.safetensors").unlink()

    with pytest.raises(DamagedFolder):
        run.recorder.poll()

    assert store.queue.client.get_lease(lease.job_id).checkpoint is None


def test_only_the_resume_point_the_one_before_and_the_best_are_kept(store: Store, run: Run) -> None:
    for step, is_best in ((1, True), (2, False), (3, False), (4, False)):
        run.commit_checkpoint(step, is_best=is_best)

    assert kept(store, run) == {"checkpoint-1", "checkpoint-3", "checkpoint-4"}


def kept(store: Store, run: Run) -> set[str]:
    return {key.split("/")[3] for key in store.bucket.list_keys(run.keys.run) if "checkpoint-" in key}


def test_as_many_checkpoints_are_kept_as_the_job_asks_for(store: Store, lease: Lease, tmp_path: Path) -> None:
    run = Run(store, lease, tmp_path / "run", keep_checkpoints=3)
    for step in (1, 2, 3, 4, 5):
        run.commit_checkpoint(step, is_best=step == 5)

    assert kept(store, run) == {"checkpoint-3", "checkpoint-4", "checkpoint-5"}


def test_what_earlier_attempts_left_is_removed_too(store: Store, lease: Lease, run: Run, tmp_path: Path) -> None:
    for step in (1, 2):
        run.commit_checkpoint(step, is_best=False)
    store.queue.release(run.recorder.lease, "test")
    second = store.queue.claim("worker-2")
    assert second is not None
    again = Run(store, second, tmp_path / "second")
    for step in (3, 4, 5):
        again.commit_checkpoint(step, is_best=False)

    assert kept(store, again) == {"checkpoint-4", "checkpoint-5"}


def test_when_uploads_lag_only_the_last_checkpoint_and_the_best_travel(store: Store, lease: Lease, run: Run) -> None:
    for step, is_best in ((1, True), (2, True), (3, False), (4, False)):
        run.write_checkpoint(step, is_best=is_best)

    run.recorder.poll()

    stored = store.queue.client.get_lease(lease.job_id)
    assert stored.checkpoint is not None and stored.best is not None and stored.previous is not None
    steps = [pointer.global_step for pointer in (stored.checkpoint, stored.best, stored.previous)]
    assert steps == [4, 2, 2]
    assert kept(store, run) == {"checkpoint-2", "checkpoint-4"}
    assert list(run.dir.path.glob("checkpoint-*")) == []


def test_what_the_table_refused_is_stored_by_the_next_poll_at_its_first_time(
    store: Store, lease: Lease, run: Run
) -> None:
    wire, patience = Wire(store.queue.client), Patience(store.queue.client)
    run.writer.write(evaluation(10, 0.25))
    run.writer.write(evaluation(20, 0.5))
    wire.lose_reply("TransactWriteItems", times=1)
    wire.refuse("TransactWriteItems", "InternalServerError", times=200)
    with pytest.raises(WriteTimeout):
        run.recorder.poll()
    assert patience.waits and not run.recorder.is_up_to_date
    wire._faults.clear()
    store.clock.pass_seconds(60)

    run.recorder.poll()

    rows = store.queue.client.list_all_job_metrics(lease.job_id)
    assert [row.metric_value for row in rows] == [0.25, 0.5]
    assert run.recorder.is_up_to_date


def test_a_bucket_that_is_away_is_waited_for(store: Store, lease: Lease, run: Run) -> None:
    s3 = S3Wire(store.bucket)
    s3.refuse("PutObject", "SlowDown", status=503, times=10)
    waits: list[float] = []
    run.recorder._given_up.wait = waits.append  # type: ignore[assignment,method-assign]
    run.write_checkpoint(10, is_best=True)

    run.recorder.poll()

    stored = store.queue.client.get_lease(lease.job_id)
    assert stored.checkpoint is not None and stored.checkpoint.global_step == 10
    assert waits


def test_a_mirror_that_gave_up_waits_for_no_bucket(store: Store, lease: Lease, run: Run) -> None:
    S3Wire(store.bucket).refuse("PutObject", "SlowDown", status=503, times=1000)
    run.write_checkpoint(10, is_best=True)
    run.recorder.give_up()

    with pytest.raises(StorageUnavailable):
        run.recorder.poll()

    assert store.queue.client.get_lease(lease.job_id).checkpoint is None


def test_bytes_that_arrived_are_not_sent_again_when_only_the_pointer_was_refused(
    store: Store, lease: Lease, run: Run
) -> None:
    s3, wire, _ = S3Wire(store.bucket), Wire(store.queue.client), Patience(store.queue.client)
    run.write_checkpoint(10, is_best=True)
    wire.refuse("UpdateItem", "InternalServerError", times=200)
    with pytest.raises(WriteTimeout):
        run.recorder.poll()
    wire._faults.clear()

    run.recorder.poll()

    assert s3.accepted["model.safetensors"] == len(b"weights 10")
    stored = store.queue.client.get_lease(lease.job_id)
    assert stored.checkpoint is not None and stored.checkpoint.global_step == 10


def test_the_log_files_of_a_bucket_that_refuses_them_end_no_attempt(store: Store, run: Run) -> None:
    S3Wire(store.bucket).refuse("PutObject", "AccessDenied", status=403, times=10)
    run.dir.train_log.write_text("hello\n")

    run.recorder.poll()

    assert run.recorder.is_up_to_date


def test_predictions_are_there_with_each_checkpoint(store: Store, run: Run) -> None:
    run.dir.predictions.mkdir()
    names = ("eval-10.jsonl.gz", "test.jsonl.gz")
    for name in names:
        (run.dir.predictions / name).write_bytes(name.encode())
    (run.dir.predictions / ".eval-11.jsonl.gz.partial").write_bytes(b"half")
    run.commit_checkpoint(10, is_best=True)

    prefix = run.keys.attempt(1) + "predictions/"
    assert {key: store.bucket.get_bytes(key) for key in store.bucket.list_keys(prefix)} == {
        prefix + name: name.encode() for name in names
    }


def test_predictions_are_sent_again_only_when_they_changed(store: Store, run: Run) -> None:
    run.dir.predictions.mkdir()
    path, key = run.dir.predictions / "eval-10.jsonl.gz", run.keys.attempt(1) + "predictions/eval-10.jsonl.gz"
    path.write_bytes(b"first")
    run.recorder.put_predictions()
    store.bucket.put_bytes(b"as it was sent", key)

    run.recorder.put_predictions()
    assert store.bucket.get_bytes(key) == b"as it was sent"

    path.write_bytes(b"second")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    run.recorder.put_predictions()
    assert store.bucket.get_bytes(key) == b"second"


def test_predictions_that_the_trainer_removes_meanwhile_are_no_trouble(store: Store, run: Run) -> None:
    run.dir.predictions.mkdir()
    (run.dir.predictions / "eval-9.jsonl.gz").symlink_to("removed")
    run.commit_checkpoint(10, is_best=True)

    assert run.recorder.is_up_to_date


def test_what_a_dead_attempt_uploaded_in_part_is_removed(store: Store, lease: Lease, run: Run, tmp_path: Path) -> None:
    run.commit_checkpoint(1, is_best=False)
    store.bucket.raw.put_object(
        Bucket=store.bucket.name, Key=run.keys.checkpoint_at(1, 2) + "model.safetensors", Body=b"half"
    )
    store.queue.release(run.recorder.lease, "test")
    second = store.queue.claim("worker-2")
    assert second is not None
    again = Run(store, second, tmp_path / "second")
    again.commit_checkpoint(3, is_best=False)

    assert kept(store, again) == {"checkpoint-1", "checkpoint-3"}


def test_what_a_checkpoint_took_is_known_for_the_next_one(run: Run) -> None:
    run.commit_checkpoint(10, is_best=True)

    assert run.recorder.last_save is not None and run.recorder.last_save.size > 10
    assert run.recorder.attempt_end().phase_seconds is not None
    assert "upload" in run.recorder.attempt_end().phase_seconds


def test_logs_and_the_start_become_log_rows_in_order(store: Store, lease: Lease, run: Run) -> None:
    run.recorder.rows.add_log("info", "run_config", "attempt 1", {"epochs": 3})
    run.writer.write(
        Started(
            device="cpu",
            hardware=Hardware(
                device="cpu", device_name="", machine="m", cpus=2, threads=2, precision="fp32", tf32=False
            ),
            train_pages=8,
            eval_pages=2,
            train_windows=8,
            eval_windows=2,
            parameters=100,
            trainable_parameters=90,
            steps_per_epoch=4,
            total_steps=12,
            label_counts={"DATE": 8},
        )
    )
    run.writer.write(Log(level="warning", event="label_without_examples", message="TIME has none", data={"a": 1}))

    run.recorder.poll()

    rows = store.queue.client.list_job_logs(lease.job_id)
    assert [row.event for row in rows] == ["run_config", "started", "label_without_examples"]
    assert rows[1].data["trainable_parameters"] == 90
    assert rows[1].message == "training on cpu, fp32, 2 threads"
    assert rows[1].data["hardware"]["precision"] == "fp32"  # type: ignore[index, call-overload]
    assert rows[2].level == "warning"
    assert [row.seq for row in rows] == [0, 1, 2]


def test_a_secret_of_the_environment_reaches_no_row(store: Store, lease: Lease, run: Run) -> None:
    run.writer.write(Log(event="odd", message=f"sent {SECRETS[0]}", data={"headers": [SECRETS[0]]}))

    run.recorder.poll()

    (row,) = store.queue.client.list_job_logs(lease.job_id)
    assert SECRETS[0] not in row.model_dump_json()


def test_data_too_large_for_a_row_leaves_a_pointer_to_the_log_file(store: Store, lease: Lease, run: Run) -> None:
    run.writer.write(Log(event="big", message="m", data={"text": "x" * (LOG_BYTES + 1)}))

    run.recorder.poll()

    (row,) = store.queue.client.list_job_logs(lease.job_id)
    assert str(row.data["see"]).endswith("events.jsonl")


def test_times_increase_strictly_even_when_the_clock_stands_still(store: Store, lease: Lease, tmp_path: Path) -> None:
    frozen = datetime(2026, 1, 1, tzinfo=UTC)
    run = Run(store, lease, tmp_path / "frozen")
    run.clock = lambda: frozen
    for step in (1, 2, 3):
        run.writer.write(evaluation(step, 0.1))

    run.recorder.poll()

    times = [metric.timestamp for metric in store.queue.client.list_job_metrics(lease.job_id)]
    assert times == sorted(set(times)) and len(times) == 3


def test_the_next_attempt_writes_after_the_last_event_of_the_one_before(
    store: Store, lease: Lease, run: Run, tmp_path: Path
) -> None:
    run.writer.write(evaluation(1, 0.1))
    run.recorder.poll()
    store.queue.release(run.recorder.lease, "test")
    second = store.queue.claim("worker-2")
    assert second is not None
    store.clock.pass_seconds(-3600)  # a machine whose clock is an hour behind

    again = Run(store, second, tmp_path / "second")
    again.writer.write(evaluation(1, 0.2))
    again.recorder.poll()

    values = [metric.metric_value for metric in store.queue.client.list_all_job_metrics(lease.job_id)]
    assert values == [0.1, 0.2]


def test_progress_goes_into_the_lease_and_not_into_rows(store: Store, lease: Lease, run: Run) -> None:
    run.writer.write(Progress(phase="train", global_step=3, total_steps=12, epoch=0.75, train_loss=1.0))

    run.recorder.poll()

    run.heartbeat.beat()
    progress = store.queue.client.get_lease(lease.job_id).progress
    assert LeaseProgress.parse(progress) == LeaseProgress("train", 3, 12, 0.75, train_loss=1.0)
    assert store.queue.client.list_job_logs(lease.job_id) == []
    assert run.recorder.attempt_end().last_step == 3
    assert run.recorder.attempt_end().lost_steps == 3


def test_a_torn_line_waits_for_its_end(store: Store, lease: Lease, run: Run) -> None:
    line = evaluation(10, 0.25).model_copy(update={"seq": 1}).model_dump_json().encode()
    run.dir.events.write_bytes(line[:40])
    run.recorder.poll()
    assert run.seen == []

    run.dir.events.write_bytes(line + b"\n")
    run.recorder.poll()

    assert [event.kind for event in run.seen] == ["evaluation"]


def test_what_the_trainer_said_last_is_kept(run: Run) -> None:
    run.writer.write(Finished(reason="completed", global_step=12, best_global_step=8, best_metric_value=0.5))

    run.recorder.poll()

    assert isinstance(run.recorder.end, Finished) and run.recorder.end.best_global_step == 8


def test_an_attempt_that_lost_its_lease_records_nothing(store: Store, lease: Lease, run: Run) -> None:
    store.clock.pass_seconds(200)
    store.queue.rescue()
    run.writer.write(evaluation(10, 0.25))

    with pytest.raises(LeaseLost):
        run.recorder.poll()

    assert store.queue.client.list_all_job_metrics(lease.job_id) == []


def test_a_finished_trainer_is_not_believed_before_all_its_events_are_stored(
    store: Store, lease: Lease, run: Run, tmp_path: Path
) -> None:
    run.writer.write(Finished(reason="completed", global_step=10, best_global_step=8, best_metric_value=0.5))
    run.recorder.poll()
    ctx, job = Place(store, tmp_path / "work").context, store.queue.client.get_job(lease.job_id)
    storage = RunStorage(store.bucket, run.keys, 1)
    patience = AttemptPatience(ctx, run.heartbeat)
    attempt = AttemptContext(ctx, job, WordLabelsConfig(), run.dir, storage, run.recorder, run.heartbeat, patience)

    status = finish(attempt, ExitReport(code=0, order=None, is_stored=False, oom_kills=0))

    error = store.queue.client.get_job(lease.job_id, consistent=True).error
    assert (status, error and error.cause) == (JobStatus.PENDING, "storage")
    assert store.queue.client.list_attempts(lease.job_id)[0].outcome == "failed: storage"


def test_log_files_are_mirrored_while_it_runs(store: Store, lease: Lease, run: Run) -> None:
    run.dir.train_log.write_text("hello\n")
    run.recorder.poll()
    run.dir.train_log.write_text("hello\nworld\n")
    run.recorder.poll()
    key = run.keys.attempt(1) + "logs/train.log"
    assert store.bucket.get_bytes(key) == b"hello\n"  # not again within the interval

    store.clock.pass_seconds(20)
    run.recorder.poll()

    assert store.bucket.get_bytes(key) == b"hello\nworld\n"

"""Every way an attempt may end, with a real trainer, a real table and a real bucket."""

import resource
import signal
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from receipt_dynamo import Job, JobLog, JobStatus, Pointer, Storage, Timing
from receipt_dynamo.items import JobItem, attempt_item, job_key
from receipt_dynamo.writes import put, update
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.run.events import Checkpoint, Evaluation, Event, Finished, Started
from receipt_layoutlm.storage.keys import RunKeys
from receipt_layoutlm.worker.admission import JobPolicy
from receipt_layoutlm.worker.worker import ClaimOptions, WorkerUnfit, run_job, run_worker
from tests.support.imds import Imds
from tests.support.places import Place, last_weights, lease_of, own_trainers, signal_trainer
from tests.support.s3_wire import S3Wire
from tests.support.tiny import tiny_layoutlm
from tests.support.wire import Wire

pytestmark = pytest.mark.engine

LONG = {"epochs": 100_000}


def stored(place: Place, job: Job) -> Job:
    return place.store.queue.client.get_job(job.job_id)


def logged(place: Place, job: Job, event: str) -> list[JobLog]:
    return [row for row in place.store.queue.client.list_job_logs(job.job_id) if row.event == event]


def steps_shown(place: Place, job: Job) -> list[int | None]:
    return [metric.global_step for metric in place.store.queue.client.list_job_metrics(job.job_id)]


# out of memory


SPARE = 64 << 20  # bytes: enough for a thread, too little for the activations of the batch below
BIG = {"epochs": 1, "batch_size": 256, "hang_timeout": 60}


@pytest.fixture(scope="module")
def many() -> list[Page]:
    return generate_pages(330, seed=1)


def limit_memory(event: Event) -> None:
    """Leave the running trainer little more than it has: a large allocation fails, as on a small machine."""
    if isinstance(event, Started):
        for pid in own_trainers():
            size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize() + SPARE
            resource.prlimit(pid, resource.RLIMIT_AS, (size, size))


def test_out_of_memory_is_tried_once_more_with_half_the_micro_batch(
    place: Place, many: list[Page], tmp_path: Path
) -> None:
    job = place.submit(many, pretrained=str(tiny_layoutlm(tmp_path / "tiny", many)), **BIG)
    place.on_event = limit_memory
    assert place.work() is JobStatus.PENDING
    first = stored(place, job).error
    assert first is not None and first.cause == "out_of_memory"
    place.on_event = lambda _event: None
    place.store.clock.pass_seconds(3600)

    assert place.work() is JobStatus.SUCCEEDED

    (row,) = logged(place, job, "micro_batch_halved")
    assert row.attempt == 2
    assert (row.data["batch_size"], row.data["gradient_accumulation_steps"]) == (128, 2)
    done = stored(place, job)
    assert done.results is not None and done.results["bit_exact"] is False


def test_running_out_of_memory_again_fails_the_job(place: Place, many: list[Page], tmp_path: Path) -> None:
    job = place.submit(many, pretrained=str(tiny_layoutlm(tmp_path / "tiny", many)), **BIG)
    place.on_event = limit_memory
    place.work()
    place.store.clock.pass_seconds(3600)

    assert place.work() is JobStatus.FAILED

    assert stored(place, job).budgets.out_of_memory == 2


# numbers and data


def test_numbers_that_explode_fail_the_job_at_once_with_the_pages(place: Place, pages: list[Page], model: str) -> None:
    job = place.submit(pages, pretrained=model, epochs=2, lr=1e38, warmup_ratio=0)

    assert place.work() is JobStatus.FAILED

    error = stored(place, job).error
    assert error is not None and error.cause == "non_finite_loss"
    assert set(error.page_ids) <= {page.page_id for page in pages} and error.page_ids


# hangs and limits


def test_a_trainer_that_does_not_move_is_ended_and_its_log_says_where_it_stood(
    place: Place, pages: list[Page], model: str
) -> None:
    job = place.submit(pages, pretrained=model, **LONG, hang_timeout=20)
    place.on_event = lambda event: signal_trainer(signal.SIGSTOP) if isinstance(event, Checkpoint) else None

    assert place.work() is JobStatus.PENDING

    error = stored(place, job).error
    assert error is not None and error.cause == "hang"
    assert "most recent call first" in error.log_tail
    assert own_trainers() == []


def test_a_job_that_ran_too_long_in_all_its_attempts_is_given_up_and_keeps_its_checkpoint(
    place: Place, pages: list[Page], model: str
) -> None:
    job = place.submit(pages, pretrained=model, **LONG, max_runtime=600)
    pointer = interrupted_after(place, job, seconds=601)

    assert place.work() is JobStatus.FAILED

    error = stored(place, job).error
    assert error is not None and error.cause == "max_runtime" and "--max-runtime 600" in error.message
    assert f"train --resume {job.job_id[:8]} --max-runtime 1200` resumes from its checkpoint" in error.message
    assert pointer is not None and lease_of(place, job).checkpoint is not None


def test_without_a_checkpoint_nothing_is_said_to_resume(place: Place, pages: list[Page], model: str) -> None:
    job = place.submit(pages, pretrained=model, **LONG, max_runtime=600)
    lease = place.store.queue.claim_job(job.job_id, "a-worker-that-only-waited")
    assert lease is not None
    place.store.queue.release(lease, reason="sigterm")
    make_it_longer(place, job, seconds=601)

    assert place.work() is JobStatus.FAILED
    assert lease_of(place, job).checkpoint is None

    error = stored(place, job).error
    assert error is not None and "no checkpoint was stored by then: submit it again with a longer one" in error.message


def test_a_job_that_reaches_its_cost_limit_stops_is_told_and_resumes_with_a_higher_one(
    place: Place, pages: list[Page], model: str
) -> None:
    """The first attempt cost 100 dollars: the second may not begin, and ends without its trainer."""
    client = place.store.queue.client
    place.context = replace(place.context, host=replace(place.context.host, price_per_hour=lambda: 100.0))
    job = place.submit(pages, pretrained=model, **LONG)
    client.writer.execute(update(job_key(job.job_id), [JobItem.max_cost.set(50.0)]))
    pointer = interrupted_after(place, job, seconds=3600)

    assert place.work() is JobStatus.FAILED

    error = stored(place, job).error
    assert error is not None and error.cause == "cost_limit"
    assert "its attempts cost 100.0000 dollars, and --max-cost is 50" in error.message
    assert lease_of(place, job).checkpoint == pointer is not None
    assert [alert.kind for alert in client.list_job_alerts(job.job_id)] == ["cost_limit"]

    place.store.queue.retry(job.job_id, max_cost=500.0)
    interrupt_after(place, checkpoints=1)
    assert place.work() is JobStatus.INTERRUPTED
    assert client.list_attempts(job.job_id)[-1].resume_step == pointer.global_step


def interrupted_after(place: Place, job: Job, seconds: float) -> Pointer | None:
    """Interrupt the job after a checkpoint, as if it had run so long; the point that it resumes from."""
    interrupt_after(place, checkpoints=1)
    assert place.work() is JobStatus.INTERRUPTED
    place.stop.clear()
    make_it_longer(place, job, seconds=seconds)
    return lease_of(place, job).checkpoint


def make_it_longer(place: Place, job: Job, seconds: float) -> None:
    """Let the first attempt have taken so long."""
    client = place.store.queue.client
    (first,) = client.list_attempts(job.job_id)
    assert first.ended_at is not None
    later = first.model_copy(update={"ended_at": first.started_at + timedelta(seconds=seconds)})
    client.writer.execute(put(attempt_item(later)))


# a damaged checkpoint


def damage(place: Place, job: Job, name: str = "model.safetensors") -> int:
    """Turn one bit of the resume point in the bucket; returns its step."""
    pointer = lease_of(place, job).checkpoint
    assert pointer is not None
    key = RunKeys(Storage(bucket=place.store.bucket.name), job.job_id).checkpoint(pointer) + name
    content = bytearray(place.store.bucket.get_bytes(key))
    content[-1] ^= 1
    place.store.bucket.raw.put_object(Bucket=place.store.bucket.name, Key=key, Body=bytes(content))
    return pointer.global_step


def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_the_end_is_the_same(
    place: Place, pages: list[Page], model: str, tmp_path: Path
) -> None:
    whole = place.submit(pages, pretrained=model, epochs=20)
    assert place.work() is JobStatus.SUCCEEDED
    broken = place.submit(pages, pretrained=model, epochs=20)
    interrupt_after(place, checkpoints=3)
    assert place.work() is JobStatus.INTERRUPTED
    place.stop.clear()
    place.on_event = lambda _event: None
    before = lease_of(place, broken).previous
    damaged_step = damage(place, broken)

    assert place.work() is JobStatus.SUCCEEDED

    assert before is not None
    second = place.store.queue.client.list_attempts(broken.job_id)[1]
    assert second.resume_step == before.global_step < damaged_step
    (row,) = logged(place, broken, "checkpoint_damaged")
    assert f"step {damaged_step}" in row.message and f"from step {before.global_step}" in row.message
    assert steps_shown(place, broken) == steps_shown(place, whole)
    weights = [last_weights(place, job, tmp_path / job.job_id) for job in (whole, broken)]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def interrupt_after(place: Place, checkpoints: int) -> None:
    seen: list[Event] = []

    def count(event: Event) -> None:
        seen.extend([event] if isinstance(event, Checkpoint) else [])
        if len(seen) >= checkpoints:
            place.stop.set()

    place.on_event = count


def test_without_a_usable_checkpoint_training_begins_anew_and_says_so(
    place: Place, pages: list[Page], model: str
) -> None:
    job = place.submit(pages, pretrained=model, epochs=20)
    interrupt_after(place, checkpoints=1)
    assert place.work() is JobStatus.INTERRUPTED
    place.stop.clear()
    place.on_event = lambda _event: None
    lease = lease_of(place, job)
    damage(place, job, "manifest.json")
    for pointer in filter(None, [lease.previous]):
        place.store.bucket.delete_prefix(
            RunKeys(Storage(bucket=place.store.bucket.name), job.job_id).checkpoint(pointer)
        )

    assert place.work() is JobStatus.SUCCEEDED

    assert "begins anew" in logged(place, job, "checkpoint_damaged")[-1].message
    assert place.store.queue.client.list_attempts(job.job_id)[1].resume_step == 0


# spot


def test_a_spot_notice_saves_gives_the_job_back_and_ends_the_worker(
    place: Place, pages: list[Page], model: str, imds: Imds
) -> None:
    job = place.submit(pages, pretrained=model, **LONG)
    place.submit(pages, pretrained=model, epochs=1)
    watch = place.watch_spot(imds)

    def notice(event: Event) -> None:
        if isinstance(event, Evaluation):
            imds.interrupt(place.store.clock() + timedelta(seconds=120))
            watch.poll()

    place.on_event = notice

    assert run_worker(place.context, ClaimOptions(idle_timeout=0)) == [JobStatus.INTERRUPTED]

    (row,) = logged(place, job, "spot_notice")
    assert (row.data["decision"], row.data["lost_steps"]) == ("save", 0)
    (attempt,) = place.store.queue.client.list_attempts(job.job_id)
    pointer = lease_of(place, job).checkpoint
    assert pointer is not None and attempt.last_step == pointer.global_step
    assert attempt.outcome is not None and "spot notice" in attempt.outcome


def test_a_notice_that_leaves_no_time_relies_on_the_last_checkpoint_and_counts_what_is_lost(
    place: Place, pages: list[Page], model: str, imds: Imds
) -> None:
    job = place.submit(pages, pretrained=model, **LONG, eval_every=20, logging_steps=1)
    watch = place.watch_spot(imds)

    def notice(_event: Event) -> None:
        if lease_of(place, job).checkpoint is not None:
            imds.interrupt(place.store.clock() + timedelta(seconds=3))
            watch.poll()

    place.on_event = notice

    assert place.work() is JobStatus.INTERRUPTED

    (row,) = logged(place, job, "spot_notice")
    (attempt,) = place.store.queue.client.list_attempts(job.job_id)
    pointer = lease_of(place, job).checkpoint
    assert pointer is not None and attempt.last_step is not None
    assert row.data["decision"] == "rely" and "relying on" in row.message
    assert row.data["lost_steps"] == attempt.lost_steps == attempt.last_step - pointer.global_step


def test_a_rebalance_recommendation_brings_an_early_checkpoint_and_the_job_goes_on(
    place: Place, pages: list[Page], model: str, imds: Imds
) -> None:
    job = place.submit(pages, pretrained=model, epochs=60, eval_every=60)
    watch = place.watch_spot(imds)

    def recommend(event: Event) -> None:
        if isinstance(event, Started):
            imds.recommend_rebalance(place.store.clock())
            while not watch.rebalance_recommended:  # a question may go unanswered on a busy machine
                watch.poll()

    place.on_event = recommend

    assert place.work() is JobStatus.SUCCEEDED

    written = [event.global_step for event in place.events if isinstance(event, Checkpoint)]
    assert len([step for step in written if step % 60]) == 1
    assert len(place.store.queue.client.list_attempts(job.job_id)) == 1


# drain, a lost lease, an outage


def test_a_drained_worker_finishes_its_job_and_takes_no_other(place: Place, pages: list[Page], model: str) -> None:
    first = place.submit(pages, pretrained=model, epochs=2)
    second = place.submit(pages, pretrained=model, epochs=1)
    place.on_event = lambda event: place.context.drain.set() if isinstance(event, Started) else None

    assert run_worker(place.context, ClaimOptions()) == [JobStatus.SUCCEEDED]

    assert [stored(place, job).status for job in (first, second)] == [JobStatus.SUCCEEDED, JobStatus.PENDING]


def test_a_worker_whose_job_was_taken_away_ends_its_trainer_and_writes_nothing_more(
    place: Place, pages: list[Page], model: str
) -> None:
    job = place.submit(pages, pretrained=model, **LONG)

    def rescue(event: Event) -> None:
        if isinstance(event, Checkpoint):
            place.store.clock.pass_seconds(200)
            place.store.queue.rescue()

    place.on_event = rescue

    assert place.work() is None

    assert stored(place, job).status is JobStatus.INTERRUPTED
    assert own_trainers() == []
    rows = place.store.queue.client.list_job_logs(job.job_id)
    assert "run_summary" not in [row.event for row in rows]


def test_an_idle_worker_takes_a_dead_ones_job_and_finishes_it(place: Place, pages: list[Page], model: str) -> None:
    job = place.submit(pages, pretrained=model, epochs=1)
    assert place.store.queue.claim("a-worker-that-dies") is not None
    place.store.clock.pass_seconds(90 + 31)
    options = ClaimOptions(max_jobs=1, poll_seconds=0.01, rescue_seconds=0.0)

    assert run_worker(place.context, options) == [JobStatus.SUCCEEDED]

    assert place.store.queue.client.list_attempts(job.job_id)[0].outcome == "lease expired"


def test_a_store_that_does_not_answer_for_a_while_is_waited_for(place: Place, pages: list[Page], model: str) -> None:
    job = place.submit(pages, pretrained=model, epochs=1)
    Wire(place.store.queue.client).refuse("Query", "InternalServerError", times=3)

    assert run_worker(place.context, ClaimOptions(max_jobs=1, poll_seconds=0.01)) == [JobStatus.SUCCEEDED]

    assert stored(place, job).status is JobStatus.SUCCEEDED


def test_a_worker_looks_for_dead_ones_before_it_takes_the_next_job(place: Place, pages: list[Page], model: str) -> None:
    dead = place.submit(pages, pretrained=model, epochs=1)
    assert place.store.queue.claim("a-worker-that-dies") is not None
    place.submit(pages, pretrained=model, epochs=1)
    place.store.clock.pass_seconds(90 + 31)

    run_worker(place.context, ClaimOptions(max_jobs=1, idle_timeout=0))

    assert stored(place, dead).status is JobStatus.SUCCEEDED  # the older of the two


def test_a_machine_on_which_one_job_after_the_other_fails_takes_no_more(place: Place, pages: list[Page]) -> None:
    jobs = [place.submit(pages, pretrained="minilm", epochs=1) for _ in range(5)]
    place.work_dir.write_text("a file where the run directories should go")

    with pytest.raises(WorkerUnfit, match="disk"):
        run_worker(place.context, ClaimOptions(idle_timeout=0))

    tried = [job for job in jobs if stored(place, job).attempt > 0]
    assert len(tried) == 3


def test_a_dead_workers_time_counts_until_its_lease_ended(place: Place, pages: list[Page]) -> None:
    job = place.submit(pages, pretrained="minilm", epochs=1)
    place.store.queue.claim("a-worker-that-dies")
    place.store.clock.pass_seconds(12 * 3600)
    place.store.queue.rescue()

    (attempt,) = place.store.queue.client.list_attempts(job.job_id)
    assert attempt.ended_at is not None
    assert 89 < (attempt.ended_at - attempt.started_at).total_seconds() < 91


def test_a_cancel_is_heard_while_the_bucket_is_away(place: Place, pages: list[Page], model: str) -> None:
    job = place.submit(pages, pretrained=model, epochs=1)
    S3Wire(place.store.bucket).refuse("GetObject", "SlowDown", status=503, times=100_000)
    S3Wire(place.store.bucket).refuse("HeadObject", "SlowDown", status=503, times=100_000)
    place.store.queue.timing = Timing(renew_seconds=0.2)
    lease = place.store.queue.claim("worker-1")
    assert lease is not None
    place.store.queue.cancel(job.job_id)

    assert run_job(place.context, lease) is JobStatus.CANCELLED


def test_the_end_of_an_attempt_waits_for_a_table_that_is_away(place: Place, pages: list[Page], model: str) -> None:
    job = place.submit(pages, pretrained=model, epochs=1)
    wire = Wire(place.store.queue.client)

    def away(event: Event) -> None:
        if isinstance(event, Finished):
            wire.refuse("Query", "InternalServerError", times=2)

    place.on_event = away

    assert place.work() is JobStatus.SUCCEEDED

    assert stored(place, job).results is not None


def test_nothing_of_a_checkpoint_stays_on_the_workers_disk(place: Place, pages: list[Page], model: str) -> None:
    job = place.submit(pages, pretrained=model, epochs=2)
    place.work()

    folder = place.work_dir / ".attempts" / job.job_id / "001"
    assert [path.name for path in folder.glob("checkpoint-*")] == []
    assert (folder / "best" / "model.safetensors").is_file()


# what the table may ask of a worker


def test_a_job_that_wants_what_this_worker_does_not_trust_fails_at_once(
    place: Place, pages: list[Page], model: str
) -> None:
    job = place.submit(pages, pretrained=model, epochs=1)
    policy = JobPolicy.of_project([Storage(bucket=place.store.bucket.name)], place.work_dir)
    place.context = replace(place.context, policy=policy)

    assert place.work() is JobStatus.FAILED

    error = stored(place, job).error
    assert error is not None and error.cause == "bad_config" and "pretrained" in error.message


def test_seconds_of_each_phase_are_kept_with_the_attempt(place: Place, pages: list[Page], model: str) -> None:
    job = place.submit(pages, pretrained=model, epochs=1)
    place.work()

    (attempt,) = place.store.queue.client.list_attempts(job.job_id)
    assert {"prepare", "start", "encode", "train", "evaluate", "checkpoint", "upload"} <= set(attempt.phase_seconds)
    assert any(isinstance(event, Finished) for event in place.events)

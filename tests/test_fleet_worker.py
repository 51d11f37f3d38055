"""A worker of a fleet: pauses, slots, prices, what its machine's end is about, and where the time went."""

import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from receipt_dynamo import (
    AttemptEnd,
    DynamoClient,
    FleetPause,
    FleetRows,
    Job,
    JobQueue,
    JobStatus,
    Lease,
    Machine,
    Storage,
    utcnow,
)
from receipt_layoutlm.child import OOM_SCORE, start_trainer
from receipt_layoutlm.cli import cli
from receipt_layoutlm.cli.connection import Connection
from receipt_layoutlm.cli.progress import ProgressView
from receipt_layoutlm.cli.run_here import WorkerOptions, open_workplace, uptime_seconds
from receipt_layoutlm.disk_watch import LOOK_SECONDS, DiskWatch
from receipt_layoutlm.fleet_names import instance_of
from receipt_layoutlm.fleet_pause import PauseWatch
from receipt_layoutlm.run_dir import RunDir
from receipt_layoutlm.running_workers import DRAIN_SIGNAL, RunningWorker, registered, running, start_of, workers_dir
from receipt_layoutlm.sample import generate_pages
from receipt_layoutlm.spot import GROUP_SECONDS, InstanceMetadata, Notice, SpotWatch
from receipt_layoutlm.systemd_notify import Notifier
from receipt_layoutlm.timeline import timeline
from receipt_layoutlm.trust import Trust
from receipt_layoutlm.worker import WorkerUnfit, run_worker
from receipt_layoutlm.workplace import Workplace
from tests.imds import Imds, serve
from tests.places import Place, own_trainers
from tests.stores import Clock, Store
from tests.test_systemd_notify import ServiceSocket
from tests.tiny import tiny_layoutlm

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
INSTANCE = "i-0123456789abcdef0"


@pytest.fixture(autouse=True)
def _leave_no_handlers() -> Iterator[None]:
    """The command takes this process's signals and its log for its own."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, DRAIN_SIGNAL)
    before, logger = [signal.getsignal(number) for number in signals], logging.getLogger("receipt_layoutlm")
    handlers, level = list(logger.handlers), logger.level
    yield
    for number, handler in zip(signals, before, strict=True):
        signal.signal(number, handler)
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.fixture
def imds() -> Iterator[Imds]:
    with serve() as fake:
        yield fake


@pytest.fixture
def queue(cloud: DynamoClient) -> JobQueue:
    return JobQueue(cloud)


@pytest.fixture
def place(queue: JobQueue) -> Workplace:
    """A worker that accepts no bucket: each job that it claims ends at once as failed, which is all that is wanted."""
    return Workplace(
        queue=queue,
        open_bucket=lambda name: pytest.fail(f"bucket {name} was opened"),
        stop=threading.Event(),
        worker_id="worker-1",
        machine=Machine(),
        trust=Trust.of_project([]),
        environment={},
        idle_seconds=0.01,
    )


def submit(queue: JobQueue, **more: object) -> Job:
    given = {"name": "a-job", "config": {"config_version": 1}, "created_by": "tests", **more}
    return queue.submit(storage=Storage(bucket="the-bucket"), **given)  # type: ignore[arg-type]


def status(queue: JobQueue, job: Job) -> JobStatus:
    return queue.client.get_job(job.job_id).status


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, ["worker", *arguments], env=environment)


def pause(queue: JobQueue, until: datetime | None = None) -> None:
    later = until or utcnow() + timedelta(hours=1)
    row = FleetPause(fleet="layoutlm", reason="20 dollars a day are spent", paused_at=utcnow(), until=later)
    FleetRows(queue.client).put_pause(row)


# pauses


def paused_place(place: Workplace) -> Workplace:
    return replace(place, is_paused=PauseWatch(FleetRows(place.queue.client), "layoutlm"))


def test_a_paused_fleet_takes_no_job_counts_as_idle_and_says_why_once(
    queue: JobQueue, place: Workplace, caplog: pytest.LogCaptureFixture
) -> None:
    job = submit(queue)
    pause(queue)

    assert run_worker(paused_place(place), "default", None, idle_timeout=0.1) == []

    assert status(queue, job) is JobStatus.PENDING
    told = [record.message for record in caplog.records if "paused" in record.message]
    assert len(told) == 1 and "20 dollars a day are spent" in told[0]


def test_another_fleets_pause_and_one_that_is_over_stop_nobody(queue: JobQueue, place: Workplace) -> None:
    job = submit(queue)
    pause(queue, until=utcnow() - timedelta(seconds=1))

    run_worker(paused_place(place), "default", 1, idle_timeout=0)

    assert status(queue, job) is not JobStatus.PENDING


def test_the_end_of_a_pause_is_noticed_and_said(
    queue: JobQueue, place: Workplace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    watch = PauseWatch(FleetRows(queue.client), "layoutlm")
    pause(queue)
    assert watch()

    FleetRows(queue.client).remove_pause("layoutlm")

    assert not watch() and not watch()
    assert [record.message for record in caplog.records][-1] == "fleet layoutlm is no longer paused"


# what a machine that is about to end asks


def test_peek_says_whether_a_worker_would_get_a_job(queue: JobQueue) -> None:
    assert run("peek").stdout == "nothing\n"
    job = submit(queue)

    assert run("peek").stdout == "claimable\n"
    assert run("peek", "--queue", "other").stdout == "nothing\n"
    assert run("peek", LAYOUTLM_QUEUE="other").stdout == "nothing\n"
    assert json.loads(run("peek", "--json").stdout) == {"claimable": True}
    assert status(queue, job) is JobStatus.PENDING


def test_peek_finds_nothing_for_a_paused_fleet_nor_in_jobs_for_newer_workers(queue: JobQueue) -> None:
    newer = submit(queue, config={"config_version": 999})
    assert run("peek").stdout == "nothing\n"
    queue.cancel(newer.job_id)
    submit(queue)
    pause(queue)

    assert run("peek", "--fleet", "layoutlm").stdout == "nothing\n"
    assert run("peek", LAYOUTLM_FLEET="layoutlm").stdout == "nothing\n"
    assert run("peek", "--fleet", "another").stdout == "claimable\n"


@pytest.mark.parametrize("job_count", [0, 1])
def test_a_worker_that_ends_in_order_says_why_and_one_that_breaks_says_nothing(
    queue: JobQueue, tmp_path: Path, job_count: int
) -> None:
    told = tmp_path / "ended-0"
    for _ in range(job_count):
        submit(queue, config={"config_version": 1})

    assert run("run", "--idle-timeout", "0", LAYOUTLM_ENDED_FILE=str(told)).exit_code == 0
    assert told.read_text() == "idle"

    told.unlink()
    broken = run("run", "--idle-timeout", "0", DYNAMO_TABLE_NAME="gone", LAYOUTLM_ENDED_FILE=str(told))
    assert broken.exit_code == 1
    assert not told.exists()


def test_an_idle_time_of_0_in_the_environment_ends_at_once_and_is_not_for_ever(queue: JobQueue) -> None:
    assert run("run", LAYOUTLM_IDLE_SECONDS="0").exit_code == 0


def test_why_a_worker_ended(imds: Imds, place: Workplace) -> None:
    watch = SpotWatch(InstanceMetadata(imds.endpoint), now=lambda: NOON)
    place = replace(place, spot=watch)
    assert place.why_ended == "idle"
    place.drain.set()
    assert place.why_ended == "drained"
    place.stop.set()
    assert place.why_ended == "stopped"
    imds.interrupt(NOON)
    watch.poll()
    assert place.why_ended == "leaving"


# what EC2 and the group want


def test_a_machine_that_its_group_takes_away_is_given_up_like_one_with_a_notice(imds: Imds) -> None:
    watch = SpotWatch(InstanceMetadata(imds.endpoint), now=lambda: NOON)
    watch.poll()
    assert watch.interruption is None

    imds.paths["autoscaling/target-lifecycle-state"] = "Terminated"
    watch.poll()

    assert watch.interruption == Notice("terminate by its group", NOON + timedelta(seconds=GROUP_SECONDS))


def test_a_spot_notice_comes_before_what_the_group_wants(imds: Imds) -> None:
    watch = SpotWatch(InstanceMetadata(imds.endpoint), now=lambda: NOON)
    imds.interrupt(NOON + timedelta(minutes=2))
    imds.paths["autoscaling/target-lifecycle-state"] = "Terminated"

    watch.poll()

    assert watch.seconds_left() == 120


@pytest.mark.parametrize("state", ["InService", "Warmed:Running", None])
def test_a_machine_that_its_group_keeps_goes_on(imds: Imds, state: str | None) -> None:
    imds.paths.pop("autoscaling/target-lifecycle-state")
    if state:
        imds.paths["autoscaling/target-lifecycle-state"] = state
    watch = SpotWatch(InstanceMetadata(imds.endpoint))

    watch.poll()

    assert watch.interruption is None


def test_a_worker_whose_machine_its_group_takes_away_claims_nothing(
    imds: Imds, queue: JobQueue, place: Workplace
) -> None:
    job = submit(queue)
    imds.paths["autoscaling/target-lifecycle-state"] = "Terminated"
    watch = SpotWatch(InstanceMetadata(imds.endpoint))
    watch.poll()

    run_worker(replace(place, spot=watch), "default", None, idle_timeout=0)

    assert status(queue, job) is JobStatus.PENDING


def test_after_a_rebalance_recommendation_one_job_is_the_last(imds: Imds, queue: JobQueue, place: Workplace) -> None:
    first, second = submit(queue), submit(queue)
    imds.recommend_rebalance(NOON)
    watch = SpotWatch(InstanceMetadata(imds.endpoint))
    watch.poll()
    place = replace(place, spot=watch)

    assert len(run_worker(place, "default", None, idle_timeout=None)) == 1

    assert [status(queue, job) for job in (first, second)].count(JobStatus.PENDING) == 1
    assert place.why_ended == "leaving"


# slots of one machine


@pytest.fixture
def folder() -> Path:
    return workers_dir(os.environ)


def beside(folder: Path, busy: bool) -> Path:
    """A second worker of this machine: the process that started this one, which outlives the test."""
    pid = os.getppid()
    folder.mkdir(parents=True, exist_ok=True)
    entry = folder / f"{pid}.json"
    other = RunningWorker(pid=pid, worker_id="worker-2", started=start_of(pid) or "", busy=busy)
    entry.write_text(other.model_dump_json())
    return entry


def test_a_worker_shows_that_it_is_busy_while_it_has_a_job(folder: Path) -> None:
    with registered(folder, "worker-1") as registration:
        with registration.busy():
            assert [each.busy for each in running(folder)] == [True]
            assert '"busy":true' in (folder / f"{os.getpid()}.json").read_text()  # as terminate_instance.sh reads it
        assert [each.busy for each in running(folder)] == [False]


def test_a_worker_is_busy_from_its_claim_to_the_end_of_the_job(folder: Path, queue: JobQueue, place: Workplace) -> None:
    submit(queue)
    with registered(folder, "worker-1") as registration:
        run_worker(replace(place, busy=registration.busy), "default", 1, idle_timeout=0)

    assert (folder / "claimed").exists()


def test_a_worker_with_a_job_is_no_other_to_itself(folder: Path) -> None:
    with registered(folder, "worker-1") as registration, registration.busy():
        assert not registration.others_busy()


def test_only_the_first_claim_on_a_machine_is_the_first(folder: Path) -> None:
    with registered(folder, "worker-1") as registration:
        with registration.busy():
            assert registration.is_first_claim
        with registration.busy():
            assert not registration.is_first_claim
    with registered(folder, "worker-2") as registration, registration.busy():
        assert not registration.is_first_claim
    assert (folder / "claimed").exists()


def test_a_slot_does_not_end_idle_while_another_one_has_a_job(folder: Path, place: Workplace) -> None:
    entry = beside(folder, busy=True)
    looks: list[bool] = []
    with registered(folder, "worker-1") as registration:

        def others_busy() -> bool:
            looks.append(registration.others_busy())
            if len(looks) == 5:
                entry.unlink()  # it has ended
            return looks[-1]

        run_worker(replace(place, others_busy=others_busy), "default", None, idle_timeout=0)

    assert looks == [True] * 5 + [False]


def test_a_slot_beside_an_idle_one_ends(folder: Path, place: Workplace) -> None:
    beside(folder, busy=False)

    with registered(folder, "worker-1") as registration:
        assert run_worker(replace(place, others_busy=registration.others_busy), "default", None, 0) == []


# the worker's name and price, as the command puts them together


@pytest.fixture
def on_ec2(imds: Imds, cloud: DynamoClient) -> dict[str, str]:
    """The environment of a fleet's worker."""
    return {
        "AWS_EC2_METADATA_DISABLED": "false",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.endpoint,
        "LAYOUTLM_FLEET": "layoutlm",
        "LAYOUTLM_SLOT": "3",
        "LAYOUTLM_IDLE_SECONDS": "0",
        "LAYOUTLM_PRICES": '{"g5.xlarge": {"spot": 0.42, "on-demand": 1.0}}',
    }


def attempt_of(
    queue: JobQueue, environment: dict[str, str], *arguments: str
) -> "tuple[str, Machine, dict[str, float]]":
    job = submit(queue, config={"config_version": 1, "task": "nothing that a worker knows"})
    assert run("run", "--once", *arguments, **environment).exit_code == 0
    (attempt,) = queue.client.list_attempts(job.job_id)
    return attempt.worker_id, attempt.machine, attempt.phase_seconds


def test_a_fleets_worker_is_called_by_its_instance_and_slot(queue: JobQueue, on_ec2: dict[str, str]) -> None:
    worker_id, _, _ = attempt_of(queue, on_ec2)

    assert worker_id.startswith(f"{INSTANCE}-3-")
    assert instance_of(worker_id) == INSTANCE


def test_a_worker_whose_machine_is_taken_away_leaves_that_word_behind(
    on_ec2: dict[str, str], imds: Imds, tmp_path: Path
) -> None:
    imds.interrupt(utcnow() + timedelta(minutes=2))
    told = tmp_path / "ended-3"

    assert run("run", **on_ec2 | {"LAYOUTLM_IDLE_SECONDS": "60", "LAYOUTLM_ENDED_FILE": str(told)}).exit_code == 0

    assert told.read_text() == "leaving"


def test_a_worker_on_ec2_outside_of_a_fleet_is_called_as_ever(queue: JobQueue, on_ec2: dict[str, str]) -> None:
    worker_id, machine, _ = attempt_of(queue, on_ec2 | {"LAYOUTLM_FLEET": ""})

    assert instance_of(worker_id) is None
    assert machine == Machine(instance_type="g5.xlarge", spot=True, region="eu-west-1")


def test_the_price_of_the_table_is_on_the_attempt(queue: JobQueue, on_ec2: dict[str, str], imds: Imds) -> None:
    assert attempt_of(queue, on_ec2)[1].price_per_hour == 0.42
    imds.paths["instance-life-cycle"] = "on-demand"
    assert attempt_of(queue, on_ec2)[1].price_per_hour == 1.0


def test_a_price_that_was_given_is_not_looked_up(queue: JobQueue, on_ec2: dict[str, str]) -> None:
    assert attempt_of(queue, on_ec2, "--price-per-hour", "7")[1].price_per_hour == 7


def test_an_interrupted_job_goes_to_the_on_demand_queue_after_k_times(queue: JobQueue) -> None:
    """The option reaches the queue that the worker works with: a dead worker's job moves when it is rescued."""
    long_ago = JobQueue(queue.client, now=lambda: utcnow() - timedelta(minutes=10))
    job = submit(queue)
    assert long_ago.claim("dead-worker") is not None

    run("run", "--idle-timeout", "0", LAYOUTLM_ONDEMAND_AFTER="1")

    assert queue.client.get_job(job.job_id, consistent=True).queue == "default.ondemand"


# where the time went


def test_the_boot_is_of_the_first_job_on_a_machine_and_told_by_the_system(tmp_path: Path) -> None:
    uptime = tmp_path / "uptime"
    uptime.write_text("123.45 400.00\n")

    assert uptime_seconds(uptime) == 123.45
    assert uptime_seconds(tmp_path / "none") is None


def opened(fleet: str | None) -> AbstractContextManager[Workplace]:
    connection = Connection(False, "the-table", None, "the-bucket")
    options = WorkerOptions("default", fleet=fleet)
    return open_workplace(connection, ProgressView(), Trust.of_project([]), options)


@pytest.mark.skipif(not Path("/proc/uptime").exists(), reason="only Linux says when it was started")
def test_only_the_first_job_on_a_fleets_machine_has_waited_for_its_boot(cloud: DynamoClient) -> None:
    with opened("layoutlm") as place:
        assert place.boot_seconds() is None
        with place.busy():
            assert (place.boot_seconds() or 0) > 0
        with place.busy():
            assert place.boot_seconds() is None


def test_a_person_who_works_a_queue_booted_the_machine_for_other_reasons(cloud: DynamoClient) -> None:
    with opened(None) as place, place.busy():
        assert place.boot_seconds() is None


@pytest.mark.engine
def test_a_trained_job_has_the_boot_among_its_phases_and_its_worker_was_alive_throughout(
    store: Store, tmp_path: Path
) -> None:
    pages = generate_pages(12, seed=1)
    listener, clock = ServiceSocket(str(tmp_path / "notify")), Clock()
    work = Place(store, tmp_path / "work")
    notify = Notifier(listener.address, lambda: clock.pass_seconds(5) or clock.monotonic())
    work.workplace = replace(work.workplace, boot_seconds=lambda: 200.0, notify=notify)
    rounds: list[int] = []
    work.on_event = lambda _event: rounds.append(len(listener.heard()))
    job = work.submit(pages, pretrained=str(tiny_layoutlm(tmp_path / "tiny", pages)), epochs=1)

    work.work()

    (attempt,) = store.queue.client.list_attempts(job.job_id)
    assert attempt.phase_seconds["boot"] == 200
    assert {"prepare", "start", "train"} <= attempt.phase_seconds.keys()
    assert sum(rounds) > 0
    listener.close()


def ended(queue: JobQueue, lease: Lease, clock: Clock, seconds: float, phases: dict[str, float]) -> None:
    clock.pass_seconds(seconds)
    queue.release(lease, "test", end=AttemptEnd(last_step=1, phase_seconds=phases))


def test_the_way_to_the_first_step_is_split_by_phase(cloud: DynamoClient) -> None:
    clock = Clock()
    queue = JobQueue(cloud, now=clock)
    job = submit(queue)
    clock.pass_seconds(240)
    lease = queue.claim("worker-1")
    assert lease is not None
    phases = {"boot": 200.0, "prepare": 8.0, "start": 11.0, "encode": 20.0, "train": 60.0, "upload": 3.0}
    ended(queue, lease, clock, 100, phases)

    (row,) = timeline(cloud.get_job(job.job_id), None, cloud.list_attempts(job.job_id), clock()).rows

    assert row.wait_seconds == pytest.approx(240, abs=0.1)
    assert row.first_step_seconds == pytest.approx(240 + 8 + 11 + 20, abs=0.1)
    assert row.phase_seconds["boot"] == 200


def test_an_attempt_that_never_trained_has_no_first_step(cloud: DynamoClient) -> None:
    clock = Clock()
    queue = JobQueue(cloud, now=clock)
    job = submit(queue)
    lease = queue.claim("worker-1")
    assert lease is not None
    ended(queue, lease, clock, 5, {"prepare": 1.0, "start": 2.0})

    (row,) = timeline(cloud.get_job(job.job_id), None, cloud.list_attempts(job.job_id), clock()).rows

    assert row.first_step_seconds is None


def test_job_show_tells_the_way_to_the_first_step(queue: JobQueue) -> None:
    job = submit(queue)
    lease = queue.claim("worker-1")
    assert lease is not None
    phases = {"boot": 200.0, "prepare": 8.0, "start": 60.0, "train": 60.0}
    queue.release(lease, "test", end=AttemptEnd(last_step=1, phase_seconds=phases))

    shown = CliRunner().invoke(cli, ["job", "show", job.job_id]).stdout
    told = json.loads(CliRunner().invoke(cli, ["job", "show", job.job_id, "--json"]).stdout)

    assert all(word in shown for word in ("first step", "boot", "prepare"))
    assert told["timeline"][0]["first_step_seconds"] == pytest.approx(68, abs=5)


# signs of life


def test_an_idle_worker_is_ready_before_its_first_claim_and_alive_as_long_as_it_looks(
    place: Workplace, tmp_path: Path
) -> None:
    manager, clock = ServiceSocket(str(tmp_path / "notify")), Clock()
    looks = 0

    def others_busy() -> bool:
        nonlocal looks
        looks += 1
        clock.pass_seconds(5)
        return looks < 3

    notify = Notifier(manager.address, clock.monotonic)

    run_worker(replace(place, notify=notify, others_busy=others_busy), "default", None, idle_timeout=0)

    assert manager.heard() == ["READY=1\nWATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]
    manager.close()


def test_a_worker_says_which_job_it_has(queue: JobQueue, place: Workplace, tmp_path: Path) -> None:
    manager = ServiceSocket(str(tmp_path / "notify"))
    job = submit(queue)

    run_worker(replace(place, notify=Notifier(manager.address)), "default", 1, idle_timeout=0)

    assert f"STATUS=job {job.job_id}, attempt 1" in manager.heard()
    manager.close()


@pytest.mark.engine
@pytest.mark.skipif(not Path("/proc/self/oom_score_adj").exists(), reason="only Linux chooses victims by a score")
def test_the_kernel_is_offered_the_trainer_and_not_its_worker(tmp_path: Path) -> None:
    own = Path("/proc/self/oom_score_adj").read_text()

    with start_trainer(RunDir(tmp_path), os.environ):
        (pid,) = own_trainers()
        score = Path(f"/proc/{pid}/oom_score_adj").read_text().strip()

    assert score == OOM_SCORE
    assert Path("/proc/self/oom_score_adj").read_text() == own


# the disk


class Disk:
    """A work dir on a disk of 100 bytes: each file takes as many as it has."""

    def __init__(self, work_dir: Path) -> None:
        self.work_dir = work_dir
        self.clock = Clock()

    def free(self, _folder: Path) -> int:
        return 100 - sum(path.stat().st_size for path in self.work_dir.rglob("*") if path.is_file())

    def watch(self, *caches: Path, min_free: int = 50) -> DiskWatch:
        return DiskWatch(self.work_dir, min_free, caches, self.free, self.clock.monotonic)

    def attempt(self, name: str, size: int, age: int) -> Path:
        return self.folder(f".attempts/{name}/001", size, age)

    def folder(self, name: str, size: int, age: int) -> Path:
        folder = self.work_dir / name
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * size)
        os.utime(folder, (1e9 - age, 1e9 - age))
        return folder


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "work")


def test_the_oldest_run_directories_go_first_and_no_more_than_needed(disk: Disk) -> None:
    old, older, new = disk.attempt("old", 20, 2), disk.attempt("older", 30, 3), disk.attempt("new", 20, 1)

    assert disk.watch().before_claim() is None

    assert (older.exists(), old.exists(), new.exists()) == (False, True, True)


def test_downloads_go_when_old_run_directories_were_not_enough(disk: Disk) -> None:
    attempt, encoded = disk.attempt("old", 10, 1), disk.folder(".encoded/a", 30, 1)
    model, kept = disk.folder("hub/models--a", 30, 2), disk.folder("somebody's", 30, 9)

    assert disk.watch(disk.work_dir / "hub").before_claim() is None

    assert [path.exists() for path in (attempt, encoded, model, kept)] == [False, False, False, True]


def test_a_disk_that_stays_full_makes_the_worker_unfit_before_it_claims(
    disk: Disk, queue: JobQueue, place: Workplace
) -> None:
    job = submit(queue)
    disk.folder("somebody's", 90, 1)

    with pytest.raises(WorkerUnfit, match=r"no job is taken: .* GB are free below"):
        run_worker(replace(place, disk=disk.watch()), "default", None, idle_timeout=0)

    assert status(queue, job) is JobStatus.PENDING


def test_while_a_job_trains_others_go_and_its_own_and_what_it_reads_stay(disk: Disk) -> None:
    own, other = disk.attempt("own", 40, 9), disk.attempt("other", 40, 1)
    encoded = disk.folder(".encoded/a", 15, 9)

    disk.watch().while_training(own)

    assert (own.exists(), other.exists(), encoded.exists()) == (True, False, True)


def test_a_disk_that_fills_up_in_training_is_looked_at_now_and_then_and_said_once(
    disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    own, watch = disk.attempt("own", 40, 1), disk.watch()
    watch.while_training(own)
    (own / "checkpoint").write_bytes(b"x" * 30)
    watch.while_training(own)
    assert caplog.records == []

    for _ in range(3):
        disk.clock.pass_seconds(LOOK_SECONDS)
        watch.while_training(own)

    assert ["checkpoints may fail" in record.message for record in caplog.records] == [True]


def test_the_disk_is_left_alone_unless_that_was_asked_for(queue: JobQueue, tmp_path: Path) -> None:
    kept = tmp_path / "work/.attempts/a/001"
    kept.mkdir(parents=True)
    arguments = ("run", "--idle-timeout", "0", "--work-dir", str(tmp_path / "work"))

    assert run(*arguments).exit_code == 0
    assert kept.exists()

    assert run(*arguments, "--min-free-disk", "1000000").exit_code == 1
    assert not kept.exists()

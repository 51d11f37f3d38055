"""Room on a worker's disk: what goes for it, in which order, and what stays."""

import os
from collections.abc import Collection
from pathlib import Path

import pytest

from receipt_dynamo import DynamoClient, JobQueue, JobStatus
from receipt_layoutlm.worker.host.disk import CHECK_SECONDS, DiskWatch
from receipt_layoutlm.worker.worker import ClaimOptions, WorkerUnfit, run_worker
from tests.support.moto_worker import a_worker, on_host, status, submit
from tests.support.stores import Clock
from tests.support.stranger import STRANGER, needs_root


class Disk:
    """A work dir on a disk of 100 bytes: each file takes as many as it has."""

    def __init__(self, work_dir: Path) -> None:
        self.work_dir = work_dir
        self.clock = Clock()

    def free(self, _folder: Path) -> int:
        return 100 - sum(path.stat().st_size for path in self.work_dir.rglob("*") if path.is_file())

    def watch(self, *caches: Path, in_hand: Collection[str] = ()) -> DiskWatch:
        return DiskWatch(self.work_dir, 50, caches, lambda: in_hand, self.free, self.clock.monotonic)

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


def test_a_disk_that_stays_full_makes_the_worker_unfit_before_it_claims(disk: Disk, cloud: DynamoClient) -> None:
    queue = JobQueue(cloud)
    job = submit(queue)
    disk.folder("somebody's", 90, 1)

    with pytest.raises(WorkerUnfit, match=r"no job is claimed: .* GB are free below"):
        run_worker(on_host(a_worker(queue), disk=disk.watch()), ClaimOptions(idle_timeout=0))

    assert status(queue, job) is JobStatus.PENDING


def test_while_a_job_trains_others_go_and_its_own_and_what_it_reads_stay(disk: Disk) -> None:
    own, other = disk.attempt("own", 40, 9), disk.attempt("other", 40, 1)
    encoded = disk.folder(".encoded/a", 15, 9)

    disk.watch().while_training(own)

    assert (own.exists(), other.exists(), encoded.exists()) == (True, False, True)


def test_what_another_worker_trains_on_stays_at_each_look(disk: Disk) -> None:
    own, others, old = disk.attempt("own", 40, 1), disk.attempt("others", 40, 9), disk.attempt("old", 15, 2)
    watch = disk.watch(in_hand={"others", "own"})

    watch.before_claim()
    assert (own.exists(), others.exists(), old.exists()) == (True, True, False)

    watch.while_training(own)
    assert (own.exists(), others.exists()) == (True, True)


def test_a_disk_that_fills_up_in_training_is_looked_at_now_and_then_and_said_once(
    disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    own, watch = disk.attempt("own", 40, 1), disk.watch()
    watch.while_training(own)
    (own / "checkpoint").write_bytes(b"x" * 30)
    watch.while_training(own)
    assert caplog.records == []

    for _ in range(3):
        disk.clock.pass_seconds(CHECK_SECONDS)
        watch.while_training(own)

    assert ["checkpoints may fail" in record.message for record in caplog.records] == [True]


def test_no_link_is_followed_when_room_is_made(disk: Disk, tmp_path: Path) -> None:
    precious = tmp_path / "home" / "001"
    precious.mkdir(parents=True)
    disk.attempt("full", 90, 1)
    (disk.work_dir / ".attempts" / "planted").symlink_to(tmp_path / "home")
    (disk.work_dir / ".encoded").symlink_to(tmp_path / "home")

    disk.watch(tmp_path / "cache").before_claim()
    (tmp_path / "cache").symlink_to(tmp_path / "home")
    disk.watch(tmp_path / "cache").before_claim()

    assert precious.exists()


@needs_root
def test_folders_of_another_user_are_not_removed_when_room_is_made(disk: Disk) -> None:
    theirs = disk.attempt("theirs", 90, 9)
    os.chown(disk.work_dir / ".attempts", STRANGER, STRANGER)
    encoded = disk.folder(".encoded/a", 5, 9)
    os.chown(encoded.parent, STRANGER, STRANGER)

    disk.watch().before_claim()

    assert theirs.exists() and encoded.exists()

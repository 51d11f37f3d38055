"""What a worker tells its service manager, read from a real socket."""

import itertools
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from receipt_dynamo import DynamoClient, JobQueue
from receipt_layoutlm.worker.context import WorkerContext
from receipt_layoutlm.worker.host.systemd import SECONDS_BETWEEN, Notifier, take_notifier
from receipt_layoutlm.worker.worker import ClaimOptions, run_worker
from tests.support.moto_worker import a_worker, on_host, submit
from tests.support.stores import Clock


class ServiceSocket:
    """Listens as systemd does."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """All that came since the last question."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServiceSocket]:
    manager = ServiceSocket(str(tmp_path / "notify") if request.param == "path" else f"@{tmp_path}")
    yield manager
    manager.close()


def test_ready_starts_the_watchdog_too(manager: ServiceSocket) -> None:
    Notifier(manager.address).ready()

    assert manager.heard() == ["READY=1\nWATCHDOG=1"]


def test_a_loop_that_comes_round_often_is_heard_once_a_second(manager: ServiceSocket) -> None:
    clock = Clock()
    notify = Notifier(manager.address, clock.monotonic)
    for _ in range(10):
        notify.alive()
    assert manager.heard() == ["WATCHDOG=1"]

    clock.pass_seconds(SECONDS_BETWEEN)
    notify.alive()

    assert manager.heard() == ["WATCHDOG=1"]


def test_what_a_worker_does_is_one_line(manager: ServiceSocket) -> None:
    notify = Notifier(manager.address)

    notify.status("job 1\nREADY=1")
    notify.stopping()

    assert manager.heard() == ["STATUS=job 1 READY=1", "STOPPING=1"]


def test_no_trainer_speaks_for_its_worker_because_the_address_leaves_the_environment(
    manager: ServiceSocket,
) -> None:
    environ = {"NOTIFY_SOCKET": manager.address, "HOME": "/"}

    take_notifier(environ).ready()

    assert len(manager.heard()) == 1
    assert environ == {"HOME": "/"}


def test_without_a_manager_nothing_is_said(manager: ServiceSocket) -> None:
    take_notifier({}).ready()

    assert manager.heard() == []


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative/path"])
def test_an_address_of_another_kind_is_left_alone(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "relative").mkdir()
    with closing(ServiceSocket(str(tmp_path / "relative" / "path"))) as manager:
        Notifier(address).ready()
        assert manager.heard() == []


def test_a_manager_that_is_gone_stops_nobody(tmp_path: Path) -> None:
    notify = Notifier(str(tmp_path / "gone"))

    notify.ready()

    assert list(tmp_path.iterdir()) == []
    with closing(ServiceSocket(str(tmp_path / "gone"))) as manager:  # and back
        notify.status("job 1")
        assert manager.heard() == ["STATUS=job 1"]


def test_a_manager_that_does_not_read_holds_nobody_up(manager: ServiceSocket) -> None:
    clock = Clock()
    notify = Notifier(manager.address, clock.monotonic)

    for _ in range(2000):  # a socket's queue holds some hundred datagrams at the most
        clock.pass_seconds(SECONDS_BETWEEN)
        notify.alive()

    assert 0 < len(manager.heard()) < 2000


# what a worker says


@pytest.fixture
def place(cloud: DynamoClient) -> WorkerContext:
    return a_worker(JobQueue(cloud))


def test_an_idle_worker_is_ready_before_its_first_claim_and_alive_as_long_as_it_looks(
    place: WorkerContext, tmp_path: Path
) -> None:
    manager, clock = ServiceSocket(str(tmp_path / "notify")), Clock()
    looks = itertools.count(1)

    def price() -> None:
        clock.pass_seconds(5)
        if next(looks) == 3:
            place.drain.set()

    place = on_host(place, notifier=Notifier(manager.address, clock.monotonic), price_per_hour=price)

    run_worker(place, ClaimOptions(poll_seconds=0.01))

    assert manager.heard() == ["READY=1\nWATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]
    manager.close()


def test_a_worker_says_which_job_it_has(place: WorkerContext, tmp_path: Path) -> None:
    manager = ServiceSocket(str(tmp_path / "notify"))
    job = submit(place.queue)

    run_worker(on_host(place, notifier=Notifier(manager.address)), ClaimOptions(max_jobs=1, idle_timeout=0))

    assert f"STATUS=job {job.job_id}, attempt 1" in manager.heard()
    manager.close()

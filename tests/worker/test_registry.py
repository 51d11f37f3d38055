"""Workers of this machine are found, dead ones forgotten, and `worker drain` reaches exactly those it names."""

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from receipt_layoutlm.cli import cli
from receipt_layoutlm.worker.host.registry import (
    RunningWorker,
    WorkerUnreachable,
    drain,
    process_start,
    registered,
    running_workers,
    workers_dir,
)

pytestmark = pytest.mark.engine  # child processes

# registers itself, says so, and writes a file when it is asked; the signal waits, so that none comes too early
WORKER = """
import signal, sys
from pathlib import Path
from receipt_layoutlm.worker.host.registry import DRAIN_SIGNAL, registered
folder, worker_id, told = sys.argv[1:]
signal.pthread_sigmask(signal.SIG_BLOCK, {DRAIN_SIGNAL})
with registered(Path(folder), worker_id):
    print("ready", flush=True)
    signal.sigwait({DRAIN_SIGNAL})
    Path(told).write_text("drained")
"""
SECONDS = 30

Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def folder() -> Path:
    return workers_dir(os.environ)


@pytest.fixture
def start(folder: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts a process that registers as a worker; it writes tmp_path/{worker_id} when it is drained."""
    with contextlib.ExitStack() as stack:

        def begin(worker_id: str) -> "subprocess.Popen[str]":
            command = [sys.executable, "-c", WORKER, str(folder), worker_id, str(tmp_path / worker_id)]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], SECONDS)[0]
            assert process.stdout.readline() == "ready\n"
            return process

        yield begin


def write(folder: Path, worker: RunningWorker) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    entry = folder / f"{worker.pid}.json"
    entry.write_text(worker.model_dump_json())
    return entry


def test_a_worker_is_found_while_it_runs_and_not_afterwards(folder: Path) -> None:
    assert running_workers(folder) == []

    with registered(folder, "worker-1"):
        (found,) = running_workers(folder)
        assert (found.pid, found.worker_id) == (os.getpid(), "worker-1")

    assert running_workers(folder) == []
    assert list(folder.iterdir()) == []


def test_a_killed_worker_is_forgotten_and_its_file_removed(folder: Path, start: Start) -> None:
    process = start("worker-1")
    process.kill()
    process.wait(SECONDS)
    assert (folder / f"{process.pid}.json").exists()

    assert running_workers(folder) == []
    assert list(folder.iterdir()) == []


def test_a_worker_that_has_ended_but_was_not_waited_for_is_dead(folder: Path, start: Start) -> None:
    process = start("worker-1")
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie from here on

    assert process_start(process.pid) is None
    assert running_workers(folder) == []


def test_a_process_that_got_a_dead_workers_pid_is_not_taken_for_it(folder: Path) -> None:
    stranger = RunningWorker(pid=os.getpid(), worker_id="worker-1", started="some other time")
    entry = write(folder, stranger)

    assert running_workers(folder) == []
    assert not entry.exists()
    with pytest.raises(WorkerUnreachable, match="worker-1"):
        drain(stranger)  # SIGUSR1 would end this very process


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "many"}'])
def test_a_damaged_file_hides_no_other_worker(folder: Path, text: str) -> None:
    with registered(folder, "worker-1"):
        (folder / "1.json").write_text(text)

        assert [each.worker_id for each in running_workers(folder)] == ["worker-1"]


def test_a_worker_works_where_it_cannot_register(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a-file").touch()

    with registered(tmp_path / "a-file" / "workers", "worker-1"):
        assert "SIGTERM" in caplog.text


def test_a_drained_worker_is_told_so_and_ends_by_itself(folder: Path, start: Start, tmp_path: Path) -> None:
    process = start("worker-1")

    (found,) = running_workers(folder)
    drain(found)

    assert process.wait(SECONDS) == 0
    assert (tmp_path / "worker-1").read_text() == "drained"
    assert list(folder.iterdir()) == []


# the command


def test_the_command_asks_every_worker_of_this_machine(start: Start) -> None:
    processes = [start("worker-1"), start("worker-2")]

    result = CliRunner().invoke(cli, ["worker", "drain"])

    assert result.exit_code == 0, result.output
    assert {process.wait(SECONDS) for process in processes} == {0}
    assert sorted(line.split()[:2] for line in result.stdout.splitlines()) == [
        ["asked", "worker-1"],
        ["asked", "worker-2"],
    ]


def test_the_command_asks_only_the_worker_that_is_named(start: Start, folder: Path, tmp_path: Path) -> None:
    one, other = start("worker-1"), start("worker-2")

    result = CliRunner().invoke(cli, ["worker", "drain", "--worker-id", "worker-2", "--json"])

    assert json.loads(result.stdout) == [{"worker_id": "worker-2", "pid": other.pid, "asked": True}]
    assert other.wait(SECONDS) == 0
    assert [each.pid for each in running_workers(folder)] == [one.pid]
    assert not (tmp_path / "worker-1").exists()


def test_a_dry_run_asks_nobody(start: Start, folder: Path, tmp_path: Path) -> None:
    process = start("worker-1")

    result = CliRunner().invoke(cli, ["worker", "drain", "--dry-run", "--json"])

    assert json.loads(result.stdout) == [{"worker_id": "worker-1", "pid": process.pid, "asked": False}]
    assert [each.pid for each in running_workers(folder)] == [process.pid]
    assert not (tmp_path / "worker-1").exists()


def test_without_a_worker_the_error_says_what_to_do() -> None:
    result = CliRunner().invoke(cli, ["worker", "drain"])

    assert result.exit_code == 1
    assert "LAYOUTLM_STATE_DIR" in result.stderr


def test_an_unknown_worker_is_an_error_that_names_those_that_run(folder: Path) -> None:
    with registered(folder, "worker-1"):
        result = CliRunner().invoke(cli, ["worker", "drain", "--worker-id", "worker-9"])

    assert result.exit_code == 1
    assert "these are: worker-1" in result.stderr

"""Which workers run on this machine, so that they can be told to finish the job in hand and take no other."""

import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from receipt_layoutlm.errors import UserError
from receipt_layoutlm.paths import state_dir

log = logging.getLogger(__name__)

DRAIN_SIGNAL = signal.SIGUSR1
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
CLAIMED = "claimed"  # a file beside the entries, touched at each claim on this machine


class WorkerUnreachable(UserError):
    """A worker's process cannot be told anything."""


class RunningWorker(BaseModel):
    """{pid}.json in the workers' folder. A reused pid has another start time."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer worker may write more

    pid: int
    worker_id: str
    started: str
    busy: bool = False  # a job is in hand; infra/terminate_instance.sh reads this as text
    job_id: str | None = None  # that job


def workers_dir(environ: Mapping[str, str]) -> Path:
    """Where the workers of this machine register, beside what --local keeps."""
    return state_dir(environ) / "workers"


class Registration:
    """A worker's own entry: what the others of its machine see of it, and what it sees of them."""

    def __init__(self, folder: Path, worker: RunningWorker) -> None:
        self._folder = folder
        self._worker = worker
        self.is_first_claim = False  # whether the job in hand is the first that was claimed on this machine

    @contextlib.contextmanager
    def busy(self, job_id: str) -> Iterator[None]:
        """A job is in hand for as long as the block lasts, and was claimed here."""
        self.is_first_claim = self._note_claim()
        self.show(job_id)
        try:
            yield
        finally:
            self.show()

    def others_busy(self) -> bool:
        """Whether another worker of this machine has a job in hand."""
        return any(each.busy for each in running(self._folder) if each.pid != self._worker.pid)

    def jobs_in_hand(self) -> set[str]:
        """The ids of the jobs on which this machine's workers work now, this one's too."""
        return {each.job_id for each in running(self._folder) if each.job_id is not None}

    def _note_claim(self) -> bool:
        try:
            try:
                (self._folder / CLAIMED).touch(exist_ok=False)
            except FileExistsError:
                (self._folder / CLAIMED).touch()  # when the last one was
                return False
        except OSError as error:
            log.warning("that a job was claimed here cannot be noted: %s", error)
            return False
        return True

    def show(self, job_id: str | None = None) -> None:
        """Write the entry, with the job that is in hand."""
        worker = self._worker.model_copy(update={"busy": job_id is not None, "job_id": job_id})
        try:
            _write(self._folder / f"{worker.pid}.json", worker)
        except OSError as error:
            log.warning("'worker drain' will not find this worker, stop it by SIGTERM instead: %s", error)


@contextlib.contextmanager
def registered(folder: Path, worker_id: str) -> Iterator[Registration]:
    """Be found by `running` for as long as the block lasts.

    The handler of DRAIN_SIGNAL has to stand before: without one the signal ends the process.
    """
    worker = RunningWorker(pid=os.getpid(), worker_id=worker_id, started=start_of(os.getpid()) or "")
    registration = Registration(folder, worker)
    registration.show()
    try:
        yield registration
    finally:
        with contextlib.suppress(OSError):
            (folder / f"{worker.pid}.json").unlink()


def _write(entry: Path, worker: RunningWorker) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = entry.with_suffix(".new")
    scratch.write_text(worker.model_dump_json())
    scratch.replace(entry)  # in one step: a reader sees a whole file or none


def running(folder: Path) -> list[RunningWorker]:
    """The workers that run now. What dead ones left behind is removed."""
    found = []
    for entry in sorted(folder.glob("*.json")):
        with contextlib.suppress(FileNotFoundError, ValidationError):
            worker = RunningWorker.model_validate_json(entry.read_bytes())
            if is_alive(worker):
                found.append(worker)
            else:
                entry.unlink(missing_ok=True)
    return found


def drain(worker: RunningWorker) -> None:
    """Ask a worker to finish the job in hand and to take no other. WorkerUnreachable when it cannot be asked."""
    try:
        if not is_alive(worker):
            raise ProcessLookupError
        os.kill(worker.pid, DRAIN_SIGNAL)
    except ProcessLookupError as error:
        raise WorkerUnreachable(
            f"worker {worker.worker_id} has ended in the meantime: nothing is left to do"
        ) from error
    except PermissionError as error:
        raise WorkerUnreachable(
            f"worker {worker.worker_id} (pid {worker.pid}) belongs to another user: run this as that user, or with sudo"
        ) from error


def is_alive(worker: RunningWorker) -> bool:
    """Whether the very process that registered still runs."""
    return start_of(worker.pid) == worker.started


def start_of(pid: int) -> str | None:
    """When a live process started, in the system's own words; None for one that has ended."""
    if not Path("/proc/self/stat").exists():
        return _start_by_ps(pid)
    try:
        # proc(5): after the name in parentheses, field 3 is the state, 22 the start in clock ticks since the boot
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else f"{BOOT_ID.read_text().strip()} {fields[19]}"
    except (FileNotFoundError, ProcessLookupError):
        return None


def _start_by_ps(pid: int) -> str | None:
    shown = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True)
    state, _, started = shown.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()

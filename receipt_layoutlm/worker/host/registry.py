"""Registry of the workers on this machine: one file each, for `worker drain` and for workers that share a machine."""

import contextlib
import logging
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from receipt_layoutlm.errors import UserError
from receipt_layoutlm.paths import STATE_ADVICE, FolderRefused, make_folders, private, state_dir

log = logging.getLogger(__name__)

DRAIN_SIGNAL = signal.SIGUSR1
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
CLAIMED = "claimed"  # a file beside the entries, touched at each claim on this machine


class WorkerUnreachable(UserError):
    """A worker's process cannot be signalled."""


class RunningWorker(BaseModel):
    """{pid}.json in the workers' folder. `started` tells a worker from a process that reuses its pid."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer worker may write more

    pid: int
    worker_id: str
    started: str
    busy: bool = False  # infra/terminate_instance.sh reads this as text
    job_id: str | None = None  # of the job in hand

    @property
    def is_alive(self) -> bool:
        """Whether the process that registered is still running."""
        return process_start(self.pid) == self.started


def workers_dir(environ: Mapping[str, str]) -> Path:
    """Folder of the entries, beside the state of --local."""
    return state_dir(environ) / "workers"


class Registration:
    """A worker's own entry, and its view of the other workers of its machine."""

    def __init__(self, folder: Path, worker: RunningWorker) -> None:
        self._folder = folder
        self._worker = worker
        self.is_first_claim = False  # whether the job in hand is the first that was claimed on this machine

    @contextlib.contextmanager
    def busy(self, job_id: str) -> Iterator[None]:
        """Record a claim, and mark this worker busy with the job inside the block."""
        self.is_first_claim = self._record_claim()
        self.write(job_id)
        try:
            yield
        finally:
            self.write()

    def _record_claim(self) -> bool:
        """Touch the file of claims; returns whether it is new. Of two workers that claim at once, one is first."""
        claimed = self._folder / CLAIMED
        try:
            try:
                claimed.touch(mode=0o600, exist_ok=False)
            except FileExistsError:
                claimed.touch()
                return False
        except OSError as error:
            log.warning("the claim cannot be recorded on this machine: %s", error)
            return False
        return True

    def others_busy(self) -> bool:
        """Whether another worker of this machine has a job in hand."""
        return any(worker.busy for worker in running_workers(self._folder) if worker.pid != self._worker.pid)

    def jobs_in_hand(self) -> set[str]:
        """Ids of the jobs that this machine's workers run, including this worker's."""
        return {worker.job_id for worker in running_workers(self._folder) if worker.job_id is not None}

    def write(self, job_id: str | None = None) -> None:
        """Replace the entry in one step, so that a reader sees a whole file or none."""
        worker = self._worker.model_copy(update={"busy": job_id is not None, "job_id": job_id})
        entry = self._folder / f"{worker.pid}.json"
        scratch = entry.with_suffix(".new")
        try:
            make_folders(self._folder, STATE_ADVICE)
            with open(scratch, "w", opener=private) as file:
                file.write(worker.model_dump_json())
            scratch.replace(entry)
        except (OSError, FolderRefused) as error:
            log.warning("`layoutlm-cli worker drain` will not find this worker, stop it by SIGTERM instead: %s", error)


@contextlib.contextmanager
def registered(folder: Path, worker_id: str) -> Iterator[Registration]:
    """Keep an entry of this process in the registry inside the block.

    Install the handler of DRAIN_SIGNAL first: without one the signal ends the process.
    """
    worker = RunningWorker(pid=os.getpid(), worker_id=worker_id, started=process_start(os.getpid()) or "")
    registration = Registration(folder, worker)
    registration.write()
    try:
        yield registration
    finally:
        with contextlib.suppress(OSError):
            (folder / f"{worker.pid}.json").unlink()


def running_workers(folder: Path) -> list[RunningWorker]:
    """Workers that are running now. Removes the entries of dead ones."""
    workers = []
    for entry in sorted(folder.glob("*.json")):
        with contextlib.suppress(FileNotFoundError, ValidationError):
            worker = RunningWorker.model_validate_json(entry.read_bytes())
            if worker.is_alive:
                workers.append(worker)
            else:
                entry.unlink(missing_ok=True)
    return workers


def drain(worker: RunningWorker) -> None:
    """Ask a worker to finish the job in hand and to claim no other. Raises WorkerUnreachable."""
    try:
        if not worker.is_alive:
            raise ProcessLookupError
        os.kill(worker.pid, DRAIN_SIGNAL)
    except ProcessLookupError as error:
        raise WorkerUnreachable(f"worker {worker.worker_id} has already ended: nothing is left to do") from error
    except PermissionError as error:
        raise WorkerUnreachable(
            f"worker {worker.worker_id} (pid {worker.pid}) belongs to another user: run this as that user, or with sudo"
        ) from error


def process_start(pid: int) -> str | None:
    """Boot id and start of a running process, in clock ticks since the boot; None for one that has ended.

    Counted from the boot because create_time() follows the wall clock: setting the clock would make every running
    worker a stranger. psutil has no boot id, without which a pid and its ticks may come again after a reboot.
    """
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        ticks = round((process.create_time() - psutil.boot_time()) * os.sysconf("SC_CLK_TCK"))
    except psutil.NoSuchProcess:
        return None
    boot_id = BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""
    return f"{boot_id} {ticks}"

"""Process group of a data-parallel run: rank, world size, collectives, and how its processes are launched.

Collectives are called by all processes in the same order. Rank 0 reads signals, evaluates the stop flag and writes the
run directory; the other ranks run the same command in a folder of their own, `rank-N` of the run directory: links to
what a run reads, and what they write, which is not read.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from receipt_layoutlm.run.directory import RunDir

LONGEST_WAIT = timedelta(days=7)  # the first one encodes while the others wait; who watches the run ends a hang


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """Processes of a run and the place of this one among them; a run of one process is a group of one."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among those of this machine
    local_size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Barrier."""
        self.sum(torch.zeros(1))

    def sum(self, numbers: torch.Tensor) -> torch.Tensor:
        """All-reduce by sum, on CPU, in place."""
        if self.size > 1:
            distributed.all_reduce(numbers)
        return numbers

    def sum_of(self, number: float) -> float:
        """Sum of a number over the processes, in float64."""
        return self.sum(torch.tensor(number, dtype=torch.float64)).item()

    def broadcast(self, flag: Callable[[], bool]) -> Callable[[], bool]:
        """The flag as rank 0 evaluates it."""
        if self.size == 1:
            return flag

        def answer() -> bool:
            value = torch.tensor([self.is_first and flag()], dtype=torch.uint8)
            distributed.broadcast(value, src=0)
            return bool(value.item())

        return answer


SINGLE = ProcessGroup()


def join(rank: int, size: int, address: str) -> ProcessGroup:
    """Meet the others at an address that torch.distributed understands (env:// or file://PATH)."""
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, init_method=address, rank=rank, world_size=size, timeout=LONGEST_WAIT)
    return ProcessGroup(rank, size, rank, size)


def leave(group: ProcessGroup) -> None:
    """At the end of a run, after the last collective."""
    if group.size > 1:
        distributed.destroy_process_group()


ONE_LOST = 71  # exit status when another process of the team ended in disorder
GRACE_SECONDS = 20.0  # for the first one to end by itself, as it does where all met the same failure
LOG_BYTES = 4000
ADDRESS = "LAYOUTLM_TEAM_ADDRESS"


@contextmanager
def launch(run_dir: RunDir, arguments: Sequence[str], environment: Mapping[str, str]) -> Iterator[ProcessGroup]:
    """The process group of this process, which ends with the block. `arguments` are those of the trainer.

    In the environment stands who this is, in torchrun's names, where another process has started it.
    """
    if (size := int(environment.get("WORLD_SIZE", 1))) > 1:
        group = join(int(environment["RANK"]), size, environment.get(ADDRESS, "env://"))
        yield group
        leave(group)
    elif (size := _wanted(run_dir)) > 1:
        address = _address(run_dir)
        with _others(run_dir, arguments, environment, size, address):
            group = join(0, size, address)
            yield group
            leave(group)
    else:
        yield SINGLE


def own_folder(run_dir: RunDir, rank: int) -> RunDir:
    """Where another process than the first one works. Its inputs are there once the first one has prepared its run."""
    own = RunDir(run_dir.path / f"rank-{rank}")
    shutil.rmtree(own.path, ignore_errors=True)
    own.path.mkdir()
    read = [run_dir.config, run_dir.dataset, run_dir.eval_dataset, run_dir.split]
    read += [run_dir.encoded, run_dir.eval_encoded, run_dir.pretrained, *run_dir.path.glob("checkpoint-*")]
    for path in read:
        if path.exists():
            (own.path / path.name).symlink_to(path.absolute())
    own.best.symlink_to(run_dir.best.absolute())  # leads somewhere once there is one
    return own


def _wanted(run_dir: RunDir) -> int:
    """Processes, by the config; one that cannot be read is told of by the training itself."""
    with suppress(OSError, ValueError, AttributeError, TypeError):
        return int(json.loads(run_dir.config.read_bytes()).get("processes") or 1)
    return 1


def _address(run_dir: RunDir) -> str:
    """A file to meet at, so that no port has to be free."""
    meeting = run_dir.path.absolute() / "team"
    meeting.unlink(missing_ok=True)
    return f"file://{meeting}"


@contextmanager
def _others(
    run_dir: RunDir, arguments: Sequence[str], environment: Mapping[str, str], size: int, address: str
) -> Iterator[None]:
    """Start the others; they end with the block, and with this process, whose end closes their stdin."""
    others, closing = [], threading.Event()
    try:
        for rank in range(1, size):
            names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, ADDRESS: address}
            log = run_dir.path / f"rank-{rank}.log"
            with log.open("wb") as output:
                other = subprocess.Popen(
                    [sys.executable, "-m", "receipt_layoutlm.training", *arguments],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    env={**environment, **{name: str(value) for name, value in names.items()}},
                )
            others.append(other)
            threading.Thread(target=_end_with, args=(other, log, closing), daemon=True).start()
        yield
    finally:
        closing.set()
        for other in others:
            other.kill()
            other.wait()


def _end_with(other: "subprocess.Popen[bytes]", log: Path, closing: threading.Event) -> None:
    """When a process is lost, the collectives of the others never complete: print the end of its log, then exit."""
    code = other.wait()
    if code == 0 or closing.is_set():
        return
    os.write(2, log.read_bytes()[-LOG_BYTES:] + f"{log.stem} ended with exit code {code}\n".encode())
    if not closing.wait(GRACE_SECONDS):
        os._exit(ONE_LOST)

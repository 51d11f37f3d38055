"""Process group of a data-parallel run: rank, world size and collectives.

Collectives are called by all processes in the same order. Rank 0 reads signals, evaluates the stop flag and writes the
run directory; the other ranks run the same command in a folder of their own, `rank-N` of the run directory: links to
what a run reads, and what they write, which is not read.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed

from receipt_layoutlm.run.directory import RunDir

LONGEST_WAIT = timedelta(days=7)  # the other ranks wait while rank 0 encodes; the worker ends a hang


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


@contextmanager
def process_group(environment: Mapping[str, str]) -> Iterator[ProcessGroup]:
    """The process group that torchrun describes in the environment; of this process alone without one."""
    size = int(environment.get("WORLD_SIZE", 1))
    if size == 1:
        yield SINGLE
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=LONGEST_WAIT)
    local_rank, local_size = int(environment["LOCAL_RANK"]), int(environment["LOCAL_WORLD_SIZE"])
    yield ProcessGroup(int(environment["RANK"]), size, local_rank, local_size)
    distributed.destroy_process_group()


def own_folder(run_dir: RunDir, rank: int) -> RunDir:
    """Folder in which another rank works; rank 0 has prepared its inputs before."""
    own = RunDir(run_dir.path / f"rank-{rank}")
    shutil.rmtree(own.path, ignore_errors=True)
    own.path.mkdir()
    read = [run_dir.config, run_dir.dataset, run_dir.eval_dataset, run_dir.split]
    read += [run_dir.encoded, run_dir.eval_encoded, run_dir.pretrained, *run_dir.path.glob("checkpoint-*")]
    for path in read:
        if path.exists():
            (own.path / path.name).symlink_to(path.absolute())
    own.best.symlink_to(run_dir.best.absolute())  # a dangling link until there is one
    return own

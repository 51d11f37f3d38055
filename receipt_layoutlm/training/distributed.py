"""The processes that train one run together: which of them this one is, and what they tell each other.

All that is here is done by all of them in the same order, or none goes on.

How a team comes together: the trainer starts the others, or torchrun has started all of them.

The others run the same command in a folder of their own, `rank-N` of the run directory: links to what a run reads,
and what they write, which nobody looks at. Signals are for the first one alone.
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
class Team:
    """rank: from 0; the first one decides, writes and is listened to. A run of one process is a team of one."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Until all are here."""
        self.summed(torch.zeros(1))

    def summed(self, numbers: torch.Tensor) -> torch.Tensor:
        """The sum of what each of them gives, on CPU, in place."""
        if self.size > 1:
            distributed.all_reduce(numbers)
        return numbers

    def agreed(self, flag: Callable[[], bool]) -> Callable[[], bool]:
        """The first one's answer, for all of them."""
        if self.size == 1:
            return flag

        def answer() -> bool:
            said = torch.tensor([self.is_first and flag()], dtype=torch.uint8)
            distributed.broadcast(said, src=0)
            return bool(said.item())

        return answer


ALONE = Team()


def join(rank: int, size: int, address: str) -> Team:
    """Meet the others at an address that torch.distributed understands (env:// or file://PATH)."""
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, init_method=address, rank=rank, world_size=size, timeout=LONGEST_WAIT)
    return Team(rank, size)


def leave(team: Team) -> None:
    """At the end of a run, when nothing is to be said any more."""
    if team.size > 1:
        distributed.destroy_process_group()


ONE_LOST = 71  # exit status when another process of the team ended in disorder
GRACE_SECONDS = 20.0  # for the first one to end by itself, as it does where all met the same failure
LOG_BYTES = 4000
ADDRESS = "LAYOUTLM_TEAM_ADDRESS"


@contextmanager
def gathered(run_dir: RunDir, arguments: Sequence[str], environment: Mapping[str, str]) -> Iterator["Team"]:
    """The team of this process, which ends with the block. `arguments` are those of the trainer.

    In the environment stands who this is, in torchrun's names, where another process has started it.
    """
    from receipt_layoutlm.training.distributed import ALONE, join, leave

    if (size := int(environment.get("WORLD_SIZE", 1))) > 1:
        team = join(int(environment["RANK"]), size, environment.get(ADDRESS, "env://"))
        yield team
        leave(team)
    elif (size := _wanted(run_dir)) > 1:
        address = _address(run_dir)
        with _others(run_dir, arguments, environment, size, address):
            team = join(0, size, address)
            yield team
            leave(team)
    else:
        yield ALONE


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
    """Where one is lost, what the rest wait for never comes: leave its last words, and end if nothing else does."""
    code = other.wait()
    if code == 0 or closing.is_set():
        return
    os.write(2, log.read_bytes()[-LOG_BYTES:] + f"{log.stem} ended with exit code {code}\n".encode())
    if not closing.wait(GRACE_SECONDS):
        os._exit(ONE_LOST)

"""The processes that train one run together: which of them this one is, and what they tell each other.

All that is here is done by all of them in the same order, or none goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed

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

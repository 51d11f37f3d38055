"""The model as a team trains it: its gradients averaged, each optimizer step shared out by tokens."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from receipt_layoutlm.encoded_part import EncodedPart
from receipt_layoutlm.packed_tensors import PackedTensors
from receipt_layoutlm.team import Team
from receipt_layoutlm.train_epoch import Shown, fair_shares

if TYPE_CHECKING:
    from receipt_layoutlm.train_setup import Run


class Words(nn.Module):
    """A task's word_logits as a module, which is what DistributedDataParallel wraps."""

    def __init__(self, task: ModuleType, model: PreTrainedModel) -> None:
        super().__init__()
        self.task, self.model = task, model

    def forward(self, batch: PackedTensors) -> torch.Tensor:
        logits: torch.Tensor = self.task.word_logits(self.model, batch)
        return logits


def in_team(run: "Run") -> "Run":
    """The run with gradients that a backward pass averages over its team."""
    if run.team.size == 1:
        return run
    words = DistributedDataParallel(run.words, broadcast_buffers=False, gradient_as_bucket_view=True)
    return replace(run, words=words)


def gradients_kept(run: "Run", more_follow: bool) -> AbstractContextManager[None]:
    """Around the passes of a micro-batch: gradients are exchanged once a step, with the last one."""
    if more_follow and isinstance(run.words, DistributedDataParallel):
        return run.words.no_sync()
    return nullcontext()


def own_share(team: Team, part: EncodedPart, shown: Sequence[Shown]) -> list[Shown]:
    """What this process trains on of an optimizer step; never nothing, since all have to take part.

    Where windows are fewer than processes, it is a window of which no word is supervised.
    """
    if team.size == 1:
        return list(shown)
    lengths = part.window_lengths[[each.window for each in shown]].tolist()
    share = fair_shares(lengths, team.size)[team.rank]
    if share:
        return [shown[place] for place in share]
    window = shown[0].window
    return [Shown(window, np.zeros(len(part.windows[window].first), np.bool_))]

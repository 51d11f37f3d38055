"""Token losses: pure functions of logits and labels that return a sum and a count, never a mean.

A mean of means would weigh the words of a small micro-batch more than those of a large one. The caller divides
the summed losses by the count of the whole optimizer step, so accumulation equals the large batch exactly.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

IGNORE_INDEX = -100
"""The label of a position that is not supervised; the value that torch and transformers use."""


@dataclass(frozen=True, slots=True)
class TokenLoss:
    """A loss summed over the supervised positions and how many there were."""

    total: torch.Tensor  # scalar, float32
    count: int


def token_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float) -> TokenLoss:
    """Cross-entropy summed over positions whose label is not IGNORE_INDEX.

    logits: (batch, length, classes). labels: (batch, length), int64. label_smoothing: the share of the target
    that is spread evenly over all classes, 0 to below 1.
    """
    flat = labels.reshape(-1)
    supervised = (flat != IGNORE_INDEX).nonzero().squeeze(-1)
    total = functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]).index_select(0, supervised).float(),
        flat.index_select(0, supervised),
        label_smoothing=label_smoothing,
        reduction="sum",
    )
    return TokenLoss(total, supervised.numel())

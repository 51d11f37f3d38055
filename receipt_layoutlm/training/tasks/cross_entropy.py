"""Cross-entropy of classes as pure functions of logits and labels that return sums and weights, never means.

A mean of means would overweight the items of small micro-batches. The caller divides the summed losses by the weight
of the whole optimizer step, so gradient accumulation equals one large batch.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from receipt_layoutlm.data.labels import IGNORE_INDEX


@dataclass(frozen=True, slots=True)
class LossRule:
    """Label smoothing, focal factor and class weights of a loss.

    class_weights: (classes,), float32; None weighs every class 1. focal_gamma: 0 is plain cross-entropy.
    """

    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    class_weights: torch.Tensor | None = None

    def weight_of(self, labels: torch.Tensor) -> float:
        """Divisor of the summed losses of these labels: their number, or the sum of their class weights."""
        supervised = labels[labels != IGNORE_INDEX]
        if self.class_weights is None:
            return float(supervised.numel())
        return float(self.class_weights.cpu()[supervised.cpu()].sum())


PLAIN = LossRule()
"""Plain cross-entropy, which evaluation reports for every training loss."""


@dataclass(frozen=True, slots=True)
class TokenLoss:
    """A loss summed over the supervised positions, and their number."""

    total: torch.Tensor  # scalar, float32
    count: int


def token_loss(logits: torch.Tensor, labels: torch.Tensor, rule: LossRule) -> TokenLoss:
    """Weighted, smoothed and focal cross-entropy, summed over positions whose label is not IGNORE_INDEX.

    logits: (..., classes). labels: (...), int64. Smoothing and weights combine as in
    torch.nn.CrossEntropyLoss. The focal factor is (1 - p)^gamma (Lin et al. 2017) with p the probability of the label.
    """
    flat = labels.reshape(-1)
    supervised = (flat != IGNORE_INDEX).nonzero().squeeze(-1)
    kept = logits.reshape(-1, logits.shape[-1]).index_select(0, supervised).float()
    truth = flat.index_select(0, supervised)
    weight = None if rule.class_weights is None else rule.class_weights.to(logits.device)
    losses = functional.cross_entropy(
        kept, truth, weight=weight, label_smoothing=rule.label_smoothing, reduction="none"
    )
    if rule.focal_gamma:
        probability = kept.softmax(-1).gather(1, truth[:, None]).squeeze(1)
        # never exactly 0, where the gradient of a power below 1 has a pole
        complement = (1 - probability).clamp_min(torch.finfo(torch.float32).eps)
        losses = losses * complement**rule.focal_gamma
    return TokenLoss(losses.sum(), supervised.numel())

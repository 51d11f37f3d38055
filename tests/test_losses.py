"""The loss is the reference's, smoothing changes it, and cutting a batch into pieces does not."""

import pytest
import torch
from torch.nn import functional

from receipt_layoutlm.losses import IGNORE_INDEX, token_cross_entropy


def batch(seed: int, rows: int = 6, length: int = 9, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels; rows have very different numbers of supervised positions."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, length, classes, generator=generator)
    labels = torch.randint(classes, (rows, length), generator=generator)
    for row in range(rows):
        labels[row, 1 + row :] = IGNORE_INDEX
    return logits, labels


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_sum_is_that_of_the_definition(smoothing: float) -> None:
    logits, labels = batch(seed=1)
    loss = token_cross_entropy(logits, labels, smoothing)
    kept = labels != IGNORE_INDEX
    log_p = functional.log_softmax(logits[kept], dim=-1)
    nll = -log_p.gather(1, labels[kept][:, None]).squeeze(1)
    expected = ((1 - smoothing) * nll - smoothing * log_p.mean(dim=1)).sum()
    assert loss.count == int(kept.sum())
    torch.testing.assert_close(loss.total, expected)


def test_smoothing_changes_the_loss() -> None:
    logits, labels = batch(seed=2)
    plain = token_cross_entropy(logits, labels, 0.0).total
    assert not torch.isclose(plain, token_cross_entropy(logits, labels, 0.1).total)


def test_positions_that_are_not_supervised_have_no_gradient() -> None:
    logits, labels = batch(seed=3)
    logits.requires_grad_()
    token_cross_entropy(logits, labels, 0.1).total.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad.abs().sum(-1) > 0, labels != IGNORE_INDEX)


def test_a_batch_without_supervised_positions_costs_nothing() -> None:
    logits, labels = batch(seed=4)
    logits.requires_grad_()
    loss = token_cross_entropy(logits, torch.full_like(labels, IGNORE_INDEX), 0.1)
    loss.total.backward()
    assert (loss.total.item(), loss.count) == (0.0, 0)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_accumulated_gradients_equal_those_of_the_large_batch(size: int) -> None:
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(6, 9, 7, generator=generator)
    _, labels = batch(seed=6)
    words = int((labels != IGNORE_INDEX).sum())

    def gradients(micro_batch: int) -> torch.Tensor:
        weight = torch.full((7, 5), 0.1).requires_grad_()
        for start in range(0, 6, micro_batch):
            rows = slice(start, start + micro_batch)
            (token_cross_entropy(features[rows] @ weight, labels[rows], 0.1).total / words).backward()
        assert weight.grad is not None
        return weight.grad

    torch.testing.assert_close(gradients(size), gradients(6), atol=1e-6, rtol=0)

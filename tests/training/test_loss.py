"""The loss is the reference's, smoothing changes it, and cutting a batch into pieces does not."""

import pytest
import torch
from torch.nn import functional

from receipt_layoutlm.data.labels import IGNORE_INDEX
from receipt_layoutlm.training.tasks.cross_entropy import PLAIN, LossRule, token_loss


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
    loss = token_loss(logits, labels, LossRule(smoothing))
    kept = labels != IGNORE_INDEX
    log_p = functional.log_softmax(logits[kept], dim=-1)
    nll = -log_p.gather(1, labels[kept][:, None]).squeeze(1)
    expected = ((1 - smoothing) * nll - smoothing * log_p.mean(dim=1)).sum()
    assert loss.count == int(kept.sum())
    torch.testing.assert_close(loss.total, expected)


def test_smoothing_changes_the_loss() -> None:
    logits, labels = batch(seed=2)
    plain = token_loss(logits, labels, PLAIN).total
    assert not torch.isclose(plain, token_loss(logits, labels, LossRule(0.1)).total)


def test_positions_that_are_not_supervised_have_no_gradient() -> None:
    logits, labels = batch(seed=3)
    logits.requires_grad_()
    token_loss(logits, labels, LossRule(0.1)).total.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad.abs().sum(-1) > 0, labels != IGNORE_INDEX)


def test_a_batch_without_supervised_positions_costs_nothing() -> None:
    logits, labels = batch(seed=4)
    logits.requires_grad_()
    loss = token_loss(logits, torch.full_like(labels, IGNORE_INDEX), LossRule(0.1))
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
            (token_loss(features[rows] @ weight, labels[rows], LossRule(0.1)).total / words).backward()
        assert weight.grad is not None
        return weight.grad

    torch.testing.assert_close(gradients(size), gradients(6), atol=1e-6, rtol=0)


WEIGHTS = torch.tensor([1.0, 4.0, 0.5, 2.0, 1.0])


def mean(logits: torch.Tensor, labels: torch.Tensor, rule: LossRule) -> torch.Tensor:
    return token_loss(logits, labels, rule).total / rule.weight_of(labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_losses_are_those_of_torch(smoothing: float) -> None:
    logits, labels = batch(seed=7)
    expected = functional.cross_entropy(
        logits.reshape(-1, 5), labels.reshape(-1), weight=WEIGHTS, label_smoothing=smoothing, ignore_index=IGNORE_INDEX
    )
    torch.testing.assert_close(mean(logits, labels, LossRule(smoothing, class_weights=WEIGHTS)), expected)
    assert not torch.isclose(expected, mean(logits, labels, LossRule(smoothing)))


def test_a_uniform_table_of_weights_is_plain_cross_entropy() -> None:
    logits, labels = batch(seed=8)
    uniform = LossRule(0.1, class_weights=torch.full((5,), 3.0))
    torch.testing.assert_close(mean(logits, labels, uniform), mean(logits, labels, LossRule(0.1)))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_the_focal_factor_is_that_of_the_definition(gamma: float) -> None:
    logits, labels = batch(seed=9)
    kept = labels != IGNORE_INDEX
    right = logits[kept].softmax(-1).gather(1, labels[kept][:, None]).squeeze(1)
    expected = (-((1 - right) ** gamma) * right.log()).sum()
    total = token_loss(logits, labels, LossRule(focal_gamma=gamma)).total
    torch.testing.assert_close(total, expected)
    assert total < token_loss(logits, labels, PLAIN).total


def test_a_gamma_of_zero_is_plain_cross_entropy() -> None:
    logits, labels = batch(seed=10)
    assert torch.equal(
        token_loss(logits, labels, LossRule(focal_gamma=0)).total, token_loss(logits, labels, PLAIN).total
    )


def test_a_word_that_is_surely_right_has_a_finite_gradient_under_a_small_gamma() -> None:
    logits = torch.tensor([[100.0, 0.0, 0.0]], requires_grad=True)
    token_loss(logits, torch.tensor([0]), LossRule(focal_gamma=0.5)).total.backward()
    assert logits.grad is not None and bool(logits.grad.isfinite().all())


def test_micro_batches_weigh_by_their_classes() -> None:
    _, labels = batch(seed=11)
    rule = LossRule(class_weights=WEIGHTS)
    pieces = [rule.weight_of(labels[row : row + 1]) for row in range(6)]
    assert sum(pieces) == pytest.approx(rule.weight_of(labels))

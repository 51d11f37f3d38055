"""The learning rate's two lines, and which parameters decay."""

import pytest
import torch
from torch import nn

from receipt_layoutlm.train_optim import learning_rate, make_optimizer, restore_rng, rng_tensors


def test_the_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    rates = [learning_rate(step, total_steps=10, warmup_ratio=0.4, peak=1.0) for step in range(11)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[4:] == pytest.approx([6 / 6, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0.0])


@pytest.mark.parametrize("ratio", [0.0, 0.03, 0.5, 1.0])
def test_every_step_of_a_run_has_a_rate_above_zero_and_at_most_the_peak(ratio: float) -> None:
    rates = [learning_rate(step, total_steps=7, warmup_ratio=ratio, peak=2.0) for step in range(7)]
    assert all(0 < rate <= 2.0 for rate in rates)
    assert max(rates) == 2.0


def test_biases_and_norms_do_not_decay_and_frozen_parameters_are_left_out() -> None:
    model = nn.ModuleDict({"dense": nn.Linear(2, 2), "norm": nn.LayerNorm(2), "frozen": nn.Linear(2, 2)})
    model["frozen"].requires_grad_(False)
    decaying, kept = make_optimizer(model, weight_decay=0.1).param_groups
    assert (decaying["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert [names[id(parameter)] for parameter in decaying["params"]] == ["dense.weight"]
    assert [names[id(parameter)] for parameter in kept["params"]] == ["dense.bias", "norm.weight", "norm.bias"]


def test_a_restored_generator_draws_what_it_would_have_drawn() -> None:
    device = torch.device("cpu")
    states = rng_tensors(device)
    first = torch.rand(3)
    restore_rng(device, states)
    assert torch.equal(torch.rand(3), first)

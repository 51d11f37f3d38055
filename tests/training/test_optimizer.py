"""The learning rate over time and by layer, which parameters decay, and which are frozen."""

import pytest
import torch
from torch import nn

from receipt_layoutlm.config import ConfigError
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.training.optimizer import (
    freeze,
    learning_rate,
    make_optimizer,
    restore_rng,
    rng_tensors,
    set_rate,
)


def test_the_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    rates = [learning_rate(step, total_steps=10, warmup_ratio=0.4, peak=1.0) for step in range(11)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[4:] == pytest.approx([6 / 6, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0.0])


@pytest.mark.parametrize("ratio", [0.0, 0.03, 0.5, 1.0])
def test_every_step_of_a_run_has_a_rate_above_zero_and_at_most_the_peak(ratio: float) -> None:
    rates = [learning_rate(step, total_steps=7, warmup_ratio=ratio, peak=2.0) for step in range(7)]
    assert all(0 < rate <= 2.0 for rate in rates)
    assert max(rates) == 2.0


def test_a_cosine_starts_at_the_peak_goes_through_half_and_ends_at_zero() -> None:
    rates = [learning_rate(step, total_steps=10, warmup_ratio=0.0, peak=2.0, schedule="cosine") for step in range(11)]
    assert (rates[0], rates[5], rates[10]) == pytest.approx((2.0, 1.0, 0.0))
    assert rates[1] > learning_rate(1, total_steps=10, warmup_ratio=0.0, peak=2.0)


class Embeddings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.x = nn.Embedding(3, 2), nn.Embedding(3, 2)


class Encoder(nn.Module):
    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layer = nn.ModuleList([nn.Linear(2, 2) for _ in range(layers)])


class Model(nn.Module):
    """Named as transformers names its encoders."""

    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.layoutlm = nn.ModuleDict({"embeddings": Embeddings(), "encoder": Encoder(layers), "norm": nn.LayerNorm(2)})
        self.classifier = nn.Linear(2, 2)


FRESH = {"layoutlm.embeddings.x.weight", "classifier.weight", "classifier.bias"}


def scales(model: nn.Module, **options: object) -> dict[str, float]:
    """For each parameter that is trained its rate at a rate of 1."""
    optimizer = make_optimizer(model, WordLabelsConfig.model_validate(options), FRESH)
    set_rate(optimizer, 1.0)
    rate_of = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    return {name: rate_of[id(value)] for name, value in model.named_parameters() if id(value) in rate_of}


def test_biases_and_norms_do_not_decay_and_frozen_parameters_are_left_out() -> None:
    model = Model(layers=1)
    model.classifier.requires_grad_(False)
    optimizer = make_optimizer(model, WordLabelsConfig(weight_decay=0.1))
    decay_of = {
        id(parameter): group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]
    }
    found = {name: decay_of.get(id(parameter)) for name, parameter in model.named_parameters()}
    assert found == {
        "layoutlm.embeddings.words.weight": 0.1,
        "layoutlm.embeddings.x.weight": 0.1,
        "layoutlm.encoder.layer.0.weight": 0.1,
        "layoutlm.encoder.layer.0.bias": 0.0,
        "layoutlm.norm.weight": 0.0,
        "layoutlm.norm.bias": 0.0,
        "classifier.weight": None,
        "classifier.bias": None,
    }


def test_without_options_every_parameter_learns_at_the_rate() -> None:
    assert set(scales(Model()).values()) == {1.0}


def test_lower_layers_learn_more_slowly() -> None:
    found = scales(Model(), layer_lr_decay=0.5)
    assert found["classifier.weight"] == 1.0
    assert [found[f"layoutlm.encoder.layer.{layer}.weight"] for layer in range(3)] == [0.125, 0.25, 0.5]
    assert found["layoutlm.embeddings.words.weight"] == 0.0625


def test_fresh_parameters_have_a_rate_of_their_own_whatever_their_height() -> None:
    found = scales(Model(), lr=0.1, new_parameter_lr=0.4, layer_lr_decay=0.5)
    assert {name for name, scale in found.items() if scale == 4.0} == FRESH


def test_frozen_embeddings_and_layers_do_not_learn_but_fresh_ones_do() -> None:
    model = Model()
    freeze(model, WordLabelsConfig(freeze_embeddings=True, freeze_layers=2), FRESH)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == FRESH | {
        "layoutlm.encoder.layer.2.weight",
        "layoutlm.encoder.layer.2.bias",
        "layoutlm.norm.weight",
        "layoutlm.norm.bias",
    }


def test_freezing_nothing_leaves_all_to_learn() -> None:
    model = Model()
    freeze(model, WordLabelsConfig(), FRESH)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_freezing_every_layer_is_an_error_that_says_how_many_there_are() -> None:
    with pytest.raises(ConfigError, match="leaves none of 3 layers"):
        freeze(Model(), WordLabelsConfig(freeze_layers=3), FRESH)


def test_a_restored_generator_draws_what_it_would_have_drawn() -> None:
    device = torch.device("cpu")
    states = rng_tensors(device)
    first = torch.rand(3)
    restore_rng(device, states)
    assert torch.equal(torch.rand(3), first)

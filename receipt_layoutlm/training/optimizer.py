"""Optimizer, learning rates, and the states of the random generators that dropout uses."""

import math
import re
from collections.abc import Collection
from typing import Literal

import torch
from torch import nn

from receipt_layoutlm.config import ConfigError, TrainConfig

NORMS = (nn.LayerNorm,)
_LAYER = re.compile(r"\.encoder\.layer\.(\d+)\.")


def freeze(model: nn.Module, config: TrainConfig, fresh: Collection[str]) -> None:
    """Freeze pretrained embeddings and the lowest layers, as the config says.

    fresh: parameters without pretrained weights; these are always trained.
    """
    depth = _depth(model)
    if config.freeze_layers and config.freeze_layers >= depth:
        raise ConfigError(f"freeze_layers={config.freeze_layers} leaves none of {depth} layers to train: give fewer")
    for name, parameter in model.named_parameters():
        height = _height(name, depth)
        is_frozen = config.freeze_embeddings if height == 0 else height <= config.freeze_layers
        if is_frozen and name not in fresh:
            parameter.requires_grad_(False)


def make_optimizer(model: nn.Module, config: TrainConfig, fresh: Collection[str] = ()) -> torch.optim.AdamW:
    """Fused AdamW over the trainable parameters; biases and norms do not decay.

    Each group has a `scale`: its rate relative to the schedule's, by the layer's height and by whether the parameter is
    fresh. The rate itself is set each step.
    """
    kept = {
        f"{module_name}.{name}".lstrip(".")
        for module_name, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
        if isinstance(module, NORMS) or name == "bias"
    }
    depth = _depth(model)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = 0.0 if name in kept else config.weight_decay
            groups.setdefault((_scale(name, depth, config, fresh), decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": members, "weight_decay": decay, "scale": scale} for (scale, decay), members in groups.items()],
        fused=True,
    )


def _scale(name: str, depth: int, config: TrainConfig, fresh: Collection[str]) -> float:
    if config.new_parameter_lr is not None and name in fresh:
        return config.new_parameter_lr / config.lr
    return float(config.layer_lr_decay ** (depth + 1 - _height(name, depth)))


def _depth(model: nn.Module) -> int:
    """Encoder layers."""
    return 1 + max(
        (int(found[1]) for name, _ in model.named_parameters() if (found := _LAYER.search(name))), default=-1
    )


def _height(name: str, depth: int) -> int:
    """0 for embeddings, 1 for the lowest layer, depth + 1 for modules on top of the highest."""
    if found := _LAYER.search(name):
        return int(found[1]) + 1
    return 0 if ".embeddings." in name else depth + 1


def learning_rate(
    step: int, total_steps: int, warmup_ratio: float, peak: float, schedule: Literal["linear", "cosine"] = "linear"
) -> float:
    """Rate of optimizer step `step` (from 0): linear warm-up to the peak, then linear or cosine decay to 0."""
    warmup_steps = round(total_steps * warmup_ratio)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    left = (total_steps - step) / max(1, total_steps - warmup_steps)
    return peak * (left if schedule == "linear" else (1 - math.cos(math.pi * left)) / 2)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group this rate times its scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """AdamW's state by parameter: `{parameter}.exp_avg`, `.exp_avg_sq`, `.step`; by name, not by order."""
    return {
        f"{name}.{key}": value.detach().contiguous()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """The inverse of optimizer_tensors; step counts stay float32 on the parameter's device, as fused AdamW wants."""
    parameters = dict(model.named_parameters())
    for full_name, value in tensors.items():
        name, _, key = full_name.rpartition(".")
        parameter = parameters[name]
        optimizer.state[parameter][key] = value.to(parameter.device, copy=True)


def rng_tensors(device: torch.device) -> dict[str, torch.Tensor]:
    """States of torch's generators, by name. The training uses neither python's nor numpy's global generator."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_rng(device: torch.device, states: dict[str, torch.Tensor]) -> None:
    """The inverse of rng_tensors; a checkpoint of another kind of device brings the CPU's state alone."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])

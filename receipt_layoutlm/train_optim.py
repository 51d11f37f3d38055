"""The optimizer, its rate, and the state of the random generator that dropout draws from."""

import torch
from torch import nn

NORMS = (nn.LayerNorm,)


def make_optimizer(model: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """Fused AdamW over the trainable parameters; biases and norms do not decay. The rate is set each step."""
    kept = {
        f"{module_name}.{name}".lstrip(".")
        for module_name, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
        if isinstance(module, NORMS) or name == "bias"
    }
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for name, p in named if name not in kept], "weight_decay": weight_decay},
        {"params": [p for name, p in named if name in kept], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, fused=True)


def learning_rate(step: int, total_steps: int, warmup_ratio: float, peak: float) -> float:
    """The rate of optimizer step `step` (from 0): up to the peak in a line, then down to 0 in a line."""
    warmup_steps = round(total_steps * warmup_ratio)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * (total_steps - step) / max(1, total_steps - warmup_steps)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group this rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """AdamW's state by parameter: `{parameter}.exp_avg`, `.exp_avg_sq`, `.step`; the names stand for the order."""
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
    """States of torch's generators, by name. Nothing here draws from python's or numpy's global generator."""
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

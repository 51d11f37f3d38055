"""Mixed precision: the number format of a run, chosen once by the hardware and pinned by its checkpoints."""

from dataclasses import dataclass
from typing import Literal

import torch

from receipt_layoutlm.config import ConfigError
from receipt_layoutlm.run.hardware import Precision

_TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class ChosenPrecision:
    """The format in use; `instead_of` is the pinned format of earlier attempts if this machine lacks it."""

    precision: Precision
    instead_of: Precision | None = None


def available(device: torch.device) -> tuple[Precision, ...]:
    """Formats that the device computes in hardware, the best for training first.

    Emulated bf16 does not count: it is slower than fp32, on a CPU without AMX about a hundred times.
    """
    if device.type != "cuda":
        return ("fp32",)
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return ("bf16", "fp16", "fp32")
    return ("fp16", "fp32")  # T4, V100


def choose(
    requested: Literal["auto"] | Precision, pinned: Precision | None, supported: tuple[Precision, ...]
) -> ChosenPrecision:
    """The pinned format of a resumed run, else the requested one; `supported` as available() returns it.

    Where the pinned format is missing, an unattended job resumes with the next best. ConfigError when a new run
    requests a format that the device lacks.
    """
    if pinned is not None:
        return ChosenPrecision(pinned) if pinned in supported else ChosenPrecision(supported[0], instead_of=pinned)
    if requested == "auto":
        return ChosenPrecision(supported[0])
    if requested not in supported:
        raise ConfigError(
            f"precision {requested} is not computed in hardware here: give auto, or {' or '.join(supported)}"
        )
    return ChosenPrecision(requested)


def use_tf32(device: torch.device) -> bool:
    """Allow TF32 for products of fp32 matrices; returns whether the device supports it."""
    if device.type != "cuda":
        return False
    torch.set_float32_matmul_precision("high")
    return torch.cuda.is_tf32_supported()


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """For the forward pass; does nothing for fp32."""
    enabled = precision != "fp32"
    return torch.autocast(device.type, _TYPES.get(precision, torch.bfloat16), enabled=enabled)


def loss_scaler(device: torch.device, precision: Precision) -> torch.amp.GradScaler:
    """Keeps small fp16 gradients from vanishing; passes everything through for the other formats."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")

"""In which number format a run computes: chosen by the hardware once, then kept by its checkpoints."""

from dataclasses import dataclass
from typing import Literal

import torch

from receipt_layoutlm.config import ConfigError
from receipt_layoutlm.run.hardware import Precision

_TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Chosen:
    """The format in use; `instead_of` is that of the earlier attempts, where this machine does not have it."""

    precision: Precision
    instead_of: Precision | None = None


def available(device: torch.device) -> tuple[Precision, ...]:
    """The formats that the device computes in hardware, the best for training first.

    Emulated bf16 does not count: it is slower than fp32, on a CPU without AMX about a hundred times.
    """
    if device.type != "cuda":
        return ("fp32",)
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return ("bf16", "fp16", "fp32")
    return ("fp16", "fp32")  # T4, V100


def choose(asked: Literal["auto"] | Precision, pinned: Precision | None, there: tuple[Precision, ...]) -> Chosen:
    """The pinned format of a run that goes on, else what was asked for; `there` as available() has it.

    An unattended job goes on where the pinned format is missing, with the next best. ConfigError when a run that
    begins asks for what is not there.
    """
    if pinned is not None:
        return Chosen(pinned) if pinned in there else Chosen(there[0], instead_of=pinned)
    if asked == "auto":
        return Chosen(there[0])
    if asked not in there:
        raise ConfigError(f"precision {asked} is not computed in hardware here: give auto, or {' or '.join(there)}")
    return Chosen(asked)


def use_tf32(device: torch.device) -> bool:
    """Let products of fp32 matrices be computed in TF32; whether the device does."""
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

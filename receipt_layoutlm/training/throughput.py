"""Floating-point operations of an encoder's step by its sizes, and the peak of a GPU by its data sheet."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from receipt_layoutlm.run.hardware import Precision


@dataclass(frozen=True, slots=True)
class EncoderSize:
    """Sizes of a BERT-like encoder with a classifier of its positions."""

    layers: int
    hidden: int
    intermediate: int
    classes: int


def forward_flops(size: EncoderSize, lengths: Sequence[int], chosen: int) -> int:
    """FLOPs of one forward pass over sequences of these lengths (sub-tokens, without padding).

    chosen: positions that the last layer after its attention and the classifier compute; all of them in a stock model.
    A multiply-add counts as two. Look-ups, norms, activations and dropout are not counted.
    """
    tokens, hidden = sum(lengths), size.hidden
    attention_inputs = 2 * 3 * hidden * hidden * tokens  # queries, keys and values
    attention = 2 * 2 * hidden * sum(length * length for length in lengths)  # scores, then their mean of the values
    rest_of_layer = 2 * hidden * hidden + 2 * 2 * hidden * size.intermediate  # of one position
    everywhere = size.layers * (attention_inputs + attention) + (size.layers - 1) * rest_of_layer * tokens
    return everywhere + (rest_of_layer + 2 * hidden * size.classes) * chosen


def step_flops(size: EncoderSize, lengths: Sequence[int], chosen: int) -> int:
    """FLOPs of forward and backward; the backward is twice the forward: gradients of the inputs and of the weights.

    Recomputation, as in the backward of flash attention, counts once. Frozen layers, which skip a part of the
    backward, count as trained ones.
    """
    return 3 * forward_flops(size, lengths, chosen)


@dataclass(frozen=True, slots=True)
class Peak:
    """Dense FLOP/s: of 16-bit matrices with sums in 32 bits, and of fp32 matrices, by TF32 where the GPU has it."""

    fp16: float
    fp32: float
    has_bf16: bool = True  # as fast as fp16

    def of(self, precision: Precision) -> float | None:
        if precision == "fp32":
            return self.fp32
        return self.fp16 if precision == "fp16" or self.has_bf16 else None


# Names as CUDA reports them. Data sheets print twice the dense figure where they assume sparse matrices.
_PEAKS = {
    r"Tesla T4": Peak(65e12, 8.1e12, has_bf16=False),  # NVIDIA T4 data sheet, 2019: 65 mixed, 8.1 single
    r"Tesla V100-SXM2-\d+GB.*": Peak(125e12, 15.7e12, has_bf16=False),  # NVIDIA V100 data sheet, 2020: 125, 15.7
    r"NVIDIA A10G": Peak(70e12, 35e12),  # NVIDIA A10G data sheet for AWS, 2022: 70 (140 sparse), TF32 35 (70 sparse)
    r"NVIDIA L4": Peak(121e12, 60e12),  # NVIDIA L4 data sheet, 2023: 242 sparse, TF32 120 sparse
    r"NVIDIA L40S": Peak(362.05e12, 183e12),  # NVIDIA L40S data sheet, 2023: 362.05 (733 sparse), TF32 183 (366 sparse)
    r"NVIDIA A100-SXM4-\d+GB": Peak(312e12, 156e12),  # NVIDIA A100 data sheet, 2022: 312, TF32 156
    r"NVIDIA H100 80GB HBM3": Peak(989.5e12, 494.5e12),  # NVIDIA H100 data sheet, 2023, SXM: 1,979 sparse, TF32 989
    r"NVIDIA H200": Peak(989.5e12, 494.5e12),  # NVIDIA H200 data sheet, 2024, SXM: 1,979 sparse, TF32 989 sparse
}


def peak_flops(device_name: str, precision: Precision) -> float | None:
    """FLOP/s of dense matrices by the vendor's data sheet; None where it is unknown.

    device_name: from torch.cuda.get_device_name. Other builds of a chip (PCIe, NVL) are other devices.
    """
    peak = next((peak for name, peak in _PEAKS.items() if re.fullmatch(name, device_name)), None)
    return None if peak is None else peak.of(precision)


@dataclass(frozen=True, slots=True)
class StepWorkload:
    """Size of an optimizer step, of all processes together."""

    examples: int = 0
    tokens: int = 0
    flops: int = 0

    def __add__(self, other: "StepWorkload") -> "StepWorkload":
        return StepWorkload(self.examples + other.examples, self.tokens + other.tokens, self.flops + other.flops)

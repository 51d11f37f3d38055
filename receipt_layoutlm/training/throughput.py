"""Floating-point operations of a step, by the model's sizes, and what a GPU could do at most, by its data sheet.

How much an optimizer step is, in windows, sub-tokens and floating-point operations.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from receipt_layoutlm.run.hardware import Precision
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPart
from receipt_layoutlm.training.tasks.word_labels.inputs.epoch import Shown

if TYPE_CHECKING:
    from transformers import LayoutLMConfig


@dataclass(frozen=True, slots=True)
class EncoderSize:
    """What the work of a BERT-like encoder with a classifier of its positions follows from."""

    layers: int
    hidden: int
    intermediate: int
    classes: int

    @classmethod
    def of(cls, config: "LayoutLMConfig") -> "EncoderSize":
        return cls(config.num_hidden_layers, config.hidden_size, config.intermediate_size, config.num_labels)


def forward_flops(size: EncoderSize, lengths: Sequence[int], chosen: int) -> int:
    """Of one forward pass over sequences of these lengths (sub-tokens, without padding).

    chosen: positions at which the last layer goes on after its attention, and the classifier; all of them in a stock
    model. A multiply-add counts as two. Look-ups, norms, activations and dropout count as nothing.
    """
    tokens, hidden = sum(lengths), size.hidden
    attention_inputs = 2 * 3 * hidden * hidden * tokens  # queries, keys and values
    attention = 2 * 2 * hidden * sum(length * length for length in lengths)  # scores, then their mean of the values
    rest_of_layer = 2 * hidden * hidden + 2 * 2 * hidden * size.intermediate  # of one position
    everywhere = size.layers * (attention_inputs + attention) + (size.layers - 1) * rest_of_layer * tokens
    return everywhere + (rest_of_layer + 2 * hidden * size.classes) * chosen


def step_flops(size: EncoderSize, lengths: Sequence[int], chosen: int) -> int:
    """Of forward and backward, which is twice the forward: a gradient of the inputs and one of the weights.

    What an implementation computes twice, as flash attention does backwards, counts once. Frozen layers, which leave
    out a part of the backward, count as trained ones.
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


# Names as CUDA tells them. Data sheets print twice the dense figure where they assume sparse matrices.
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
    """FLOP/s of dense matrices by the vendor's data sheet; None for what does not stand there.

    device_name: as torch.cuda.get_device_name tells it. Other builds of a chip (PCIe, NVL) are other devices.
    """
    found = (peak for name, peak in _PEAKS.items() if re.fullmatch(name, device_name))
    peak = next(found, None)
    return None if peak is None else peak.of(precision)


@dataclass(frozen=True, slots=True)
class Work:
    """Of all processes that share it."""

    windows: int = 0
    tokens: int = 0
    flops: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.windows + other.windows, self.tokens + other.tokens, self.flops + other.flops)


def work_of(shown: Sequence[Shown], part: EncodedPart, size: EncoderSize) -> Work:
    """Of forward and backward over these windows."""
    windows = [each.window for each in shown]
    lengths = part.window_lengths[windows].tolist()
    spans = part.features.spans[part.window_numbers[windows]]
    words = (spans[:, 1] - spans[:, 0]).tolist()
    chosen = sum(
        count if each.supervised is None else int(each.supervised.sum())
        for each, count in zip(shown, words, strict=True)
    )
    return Work(len(windows), sum(lengths), step_flops(size, lengths, chosen))

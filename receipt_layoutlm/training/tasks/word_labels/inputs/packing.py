"""Packed batches: windows concatenated without padding, as arrays and as tensors on a device."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from receipt_layoutlm.data.labels import IGNORE_INDEX
from receipt_layoutlm.training.tasks.packed_attention import Lengths
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import BoolArray, IntArray, Window


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Model inputs of concatenated windows, and the positions to classify.

    input_ids, position_ids: (tokens,). bbox: (tokens, 4), thousandths. lengths: tokens of each window.
    chosen: (chosen,), positions among the tokens: first sub-tokens of words. labels: (chosen,), class ids,
    IGNORE_INDEX for an unlabelled word.
    """

    input_ids: IntArray
    position_ids: IntArray
    bbox: IntArray
    lengths: list[int]
    chosen: IntArray
    labels: IntArray

    @property
    def supervised(self) -> int:
        """Number of positions with a label."""
        return int((self.labels != IGNORE_INDEX).sum())


def pack(windows: Sequence[Window], words: Sequence[BoolArray | None]) -> PackedBatch:
    """Concatenate windows. words: mask of the chosen words of each window, None for all."""
    lengths = [len(window.input_ids) for window in windows]
    starts = np.cumsum([0, *lengths[:-1]])
    kept = [slice(None) if chosen is None else chosen for chosen in words]
    return PackedBatch(
        input_ids=np.concatenate([window.input_ids for window in windows]),
        position_ids=np.concatenate([np.arange(length) for length in lengths]),
        bbox=np.concatenate([window.bbox for window in windows]),
        lengths=lengths,
        chosen=np.concatenate(
            [start + window.first[mask] for start, window, mask in zip(starts, windows, kept, strict=True)]
        ),
        labels=np.concatenate([window.label_ids[mask] for window, mask in zip(windows, kept, strict=True)]),
    )


def cut_by_tokens(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Cut indices in order into pieces of at most `budget` tokens; a longer item is a piece of its own."""
    pieces: list[list[int]] = []
    filled = 0
    for place, length in enumerate(lengths):
        if not pieces or filled + length > budget:
            pieces.append([])
            filled = 0
        pieces[-1].append(place)
        filled += length
    return pieces


@dataclass(frozen=True, slots=True)
class PackedTensors:
    """A PackedBatch on a device, with the same shapes."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    bbox: torch.Tensor
    chosen: torch.Tensor
    labels: torch.Tensor
    lengths: Lengths


def on_device(batch: PackedBatch, device: torch.device) -> PackedTensors:
    """Copy a batch; to a GPU asynchronously from pinned memory."""

    def copied(array: IntArray) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)

    return PackedTensors(
        input_ids=copied(batch.input_ids),
        position_ids=copied(batch.position_ids),
        bbox=copied(batch.bbox),
        chosen=copied(batch.chosen),
        labels=copied(batch.labels),
        lengths=Lengths.of(batch.lengths, device),
    )

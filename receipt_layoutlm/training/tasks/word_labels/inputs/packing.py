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
    """Model inputs of several windows in a row, and the positions whose class matters.

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
        """Positions that carry a label."""
        return int((self.labels != IGNORE_INDEX).sum())


def pack(windows: Sequence[Window], words: Sequence[BoolArray | None]) -> PackedBatch:
    """Lay windows one after the other. words: for each window which of its words are chosen, None for all."""
    lengths = [len(window.input_ids) for window in windows]
    starts = np.cumsum([0, *lengths[:-1]])
    kept = [slice(None) if chosen is None else chosen for chosen in words]
    return PackedBatch(
        input_ids=np.concatenate([window.input_ids for window in windows]),
        position_ids=np.concatenate([np.arange(length) for length in lengths]),
        bbox=np.concatenate([window.bbox for window in windows]),
        lengths=lengths,
        chosen=np.concatenate(
            [start + window.first[each] for start, window, each in zip(starts, windows, kept, strict=True)]
        ),
        labels=np.concatenate([window.label_ids[each] for window, each in zip(windows, kept, strict=True)]),
    )


def cut_by_tokens(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices of the lengths, in order, in pieces of at most `budget` tokens; a longer one is a piece of its own."""
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
    """A PackedBatch on a device; shapes as there."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    bbox: torch.Tensor
    chosen: torch.Tensor
    labels: torch.Tensor
    lengths: Lengths


def on_device(batch: PackedBatch, device: torch.device) -> PackedTensors:
    """Copied; to a GPU from pinned memory, so that it computes meanwhile."""

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

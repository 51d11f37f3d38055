"""Packed batches as tensors on the device that computes."""

from dataclasses import dataclass

import torch

from receipt_layoutlm.encoded_part import IntArray
from receipt_layoutlm.packed_attention import Lengths
from receipt_layoutlm.packing import PackedBatch


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
    """Copied; to a GPU from pinned memory, so that it goes on computing meanwhile."""

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

"""Batches as the stock recipe pads them: what packed ones are held against."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from receipt_layoutlm.data.labels import IGNORE_INDEX
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import IntArray, Window


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows padded to the longest: input_ids, attention_mask, labels (batch, length); bbox (batch, length, 4)."""

    input_ids: IntArray
    attention_mask: IntArray
    bbox: IntArray
    labels: IntArray

    @property
    def supervised(self) -> int:
        """Positions that carry a label."""
        return int((self.labels != IGNORE_INDEX).sum())


def collate(windows: Sequence[Window], word_labels: Sequence[IntArray], pad_token_id: int) -> Batch:
    """Pad windows to the longest of them; word_labels holds one label id (or IGNORE_INDEX) per word of each."""
    longest = max(len(window.input_ids) for window in windows)
    shape = (len(windows), longest)
    batch = Batch(
        input_ids=np.full(shape, pad_token_id, np.int64),
        attention_mask=np.zeros(shape, np.int64),
        bbox=np.zeros((*shape, 4), np.int64),
        labels=np.full(shape, IGNORE_INDEX, np.int64),
    )
    for row, (window, labels) in enumerate(zip(windows, word_labels, strict=True)):
        length = len(window.input_ids)
        batch.input_ids[row, :length] = window.input_ids
        batch.attention_mask[row, :length] = 1
        batch.bbox[row, :length] = window.bbox
        batch.labels[row, window.first] = labels
    return batch

"""How much an optimizer step is, in windows, sub-tokens and floating-point operations."""

from collections.abc import Sequence
from dataclasses import dataclass

from receipt_layoutlm.encoded_part import EncodedPart
from receipt_layoutlm.flops import EncoderSize, step_flops
from receipt_layoutlm.train_epoch import Shown


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

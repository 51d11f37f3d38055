"""Block-diagonal attention over concatenated sequences, for unmodified transformers models.

Registered under PACKED in transformers' attention registry. A model whose config names it takes `input_ids`
(1, tokens) of all sequences, `position_ids` that restart with each sequence, and `lengths`, which the model forwards
to the attention function. Nothing is padded and no sequence attends to another.
"""

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # torch before 2.10
    varlen_attn = None  # type: ignore[assignment]

PACKED = "receipt_layoutlm_packed"


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of each sequence. ends: (sequences + 1,), int32, on the device, as kernels expect them."""

    tokens: list[int]
    ends: torch.Tensor

    @classmethod
    def of(cls, tokens: list[int], device: torch.device) -> "Lengths":
        """Copies the ends to the device once for all layers."""
        return cls(tokens, torch.tensor([0, *accumulate(tokens)], dtype=torch.int32).to(device, non_blocking=True))


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    lengths: Lengths,
    dropout: float = 0.0,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention within each sequence. query, key, value: (1, heads, tokens, dim); returns (1, tokens, heads, dim).

    The mask is ignored: packed sequences contain no padding to mask.
    """
    is_half = query.dtype in (torch.float16, torch.bfloat16)
    if varlen_attn is not None and query.is_cuda and is_half and dropout == 0.0:
        return _flash(query, key, value, lengths, scaling), None
    pieces = [
        scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling)
        for q, k, v in zip(*(torch.split(tensor, lengths.tokens, dim=2) for tensor in (query, key, value)), strict=True)
    ]
    return torch.cat([piece.transpose(1, 2) for piece in pieces], dim=1), None


def _flash(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: Lengths, scaling: float
) -> torch.Tensor:
    """One kernel for all sequences; supports neither fp32 nor dropout."""
    longest = max(lengths.tokens)
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    out = varlen_attn(q, k, v, lengths.ends, lengths.ends, longest, longest, scale=scaling)
    assert isinstance(out, torch.Tensor)
    return out.unsqueeze(0)


AttentionInterface.register(PACKED, packed_attention)

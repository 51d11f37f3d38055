"""Counted operations are those that torch counts in the real forward and backward pass."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import LayoutLMForTokenClassification

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.labels import LabelMap
from receipt_layoutlm.training.tasks.word_labels.inputs.packing import PackedBatch, on_device
from receipt_layoutlm.training.tasks.word_labels.layoutlm import encoder_size, load_model, word_logits
from receipt_layoutlm.training.throughput import EncoderSize, forward_flops, peak_flops, step_flops
from tests.support.runs import tiny_model

LABELS = LabelMap(merges={}, labels=("DATE", "GRAND_TOTAL"))
MINILM = EncoderSize(layers=6, hidden=384, intermediate=1536, classes=9)
LENGTHS = st.lists(st.integers(1, 512), min_size=1, max_size=9)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LayoutLMForTokenClassification:
    folder = tiny_model(tmp_path_factory.mktemp("layoutlm"))
    return load_model(WordLabelsConfig(pretrained=str(folder)), LABELS).model


def batch_of(lengths: list[int], chosen: list[int]) -> PackedBatch:
    tokens = sum(lengths)
    return PackedBatch(
        input_ids=np.full(tokens, 5),
        position_ids=np.concatenate([np.arange(length) for length in lengths]),
        bbox=np.zeros((tokens, 4), np.int64),
        lengths=lengths,
        chosen=np.array(chosen),
        labels=np.zeros(len(chosen), np.int64),
    )


def counted(call: Callable[[], object]) -> int:
    """By torch, which knows the matrix products and not the fused attention of a CPU: so attention as products."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("lengths", "chosen"),
    [([7], [1, 2]), ([7, 12, 3], [1, 2, 8, 20]), ([4, 4], list(range(8)))],
    ids=["one window", "windows of different lengths", "every position"],
)
def test_a_step_counts_what_torch_counts(
    model: LayoutLMForTokenClassification, lengths: list[int], chosen: list[int]
) -> None:
    batch, size = batch_of(lengths, chosen), encoder_size(model.config)

    def forward() -> torch.Tensor:
        return word_logits(model, on_device(batch, torch.device("cpu")))

    assert counted(forward) == forward_flops(size, lengths, len(chosen))
    assert counted(lambda: forward().sum().backward()) == step_flops(size, lengths, len(chosen))


def test_the_stock_model_is_a_step_in_which_every_position_is_chosen(model: LayoutLMForTokenClassification) -> None:
    """Without its pooler, which token classification computes and throws away."""
    lengths = [16, 16]
    ids, boxes = torch.full((2, 16), 5), torch.zeros((2, 16, 4), dtype=torch.int64)
    stock = LayoutLMForTokenClassification(model.config)
    stock.set_attn_implementation("sdpa")
    pooler = 2 * 2 * model.config.hidden_size**2
    found = counted(lambda: stock(input_ids=ids, bbox=boxes))
    assert found == forward_flops(encoder_size(model.config), lengths, chosen=32) + pooler


@given(LENGTHS, st.data())
def test_windows_add_up_and_unchosen_positions_cost_less(lengths: list[int], data: st.DataObject) -> None:
    chosen = data.draw(st.integers(0, sum(lengths)))
    alone = sum(forward_flops(MINILM, [length], 0) for length in lengths)
    whole = forward_flops(MINILM, lengths, chosen)
    assert forward_flops(MINILM, lengths, 0) == alone
    assert whole - alone == chosen * (forward_flops(MINILM, lengths, 1) - alone)
    one_less = replace(MINILM, layers=5)
    assert alone < whole + 1 and forward_flops(one_less, lengths, chosen) < whole


def test_the_figure_of_a_known_model() -> None:
    """BERT base at 512 tokens: 2 operations for each of its 85 M weights in matrices a token, and attention."""
    base = EncoderSize(layers=12, hidden=768, intermediate=3072, classes=2)
    weights = 12 * (4 * 768 * 768 + 2 * 768 * 3072)
    expected = 2 * 512 * weights + 12 * 4 * 512 * 512 * 768 + 2 * 512 * 768 * 2
    assert forward_flops(base, [512], 512) == expected
    assert step_flops(base, [512], 512) == pytest.approx(0.29e12, rel=0.01)


@pytest.mark.parametrize(
    ("name", "precision", "tera"),
    [
        ("Tesla T4", "fp16", 65),
        ("Tesla T4", "bf16", None),
        ("Tesla V100-SXM2-16GB", "fp32", 15.7),
        ("NVIDIA A10G", "bf16", 70),
        ("NVIDIA L4", "bf16", 121),
        ("NVIDIA L40S", "bf16", 362.05),
        ("NVIDIA A100-SXM4-80GB", "fp32", 156),
        ("NVIDIA H100 80GB HBM3", "bf16", 989.5),
        ("NVIDIA H200", "fp16", 989.5),
        ("NVIDIA H100 PCIe", "bf16", None),
        ("NVIDIA H200 NVL", "bf16", None),
        ("NVIDIA GeForce RTX 4090", "bf16", None),
        ("", "fp32", None),
    ],
)
def test_peaks_are_dense_and_of_that_very_device(name: str, precision: str, tera: float | None) -> None:
    found = peak_flops(name, precision)  # type: ignore[arg-type]
    assert found == (None if tera is None else pytest.approx(tera * 1e12))

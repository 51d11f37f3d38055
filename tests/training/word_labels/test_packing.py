"""Packed batches: no padding, no loss, and gradients equal to those of padded batches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LayoutLMForTokenClassification

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.labels import IGNORE_INDEX, LabelMap
from receipt_layoutlm.training.tasks.cross_entropy import LossRule, token_loss
from receipt_layoutlm.training.tasks.pretrained import load_fast_tokenizer
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPages, select
from receipt_layoutlm.training.tasks.word_labels.inputs.packing import PackedBatch, cut_by_tokens, on_device, pack
from receipt_layoutlm.training.tasks.word_labels.inputs.windows import encode_pages
from receipt_layoutlm.training.tasks.word_labels.layoutlm import load_model, word_logits
from tests.support.padded import collate
from tests.support.runs import tiny_model
from tests.support.tiny import tiny_pages

LABELS = LabelMap(merges={}, labels=("DATE", "GRAND_TOTAL"))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("layoutlm"))


@pytest.fixture(scope="module")
def part(model_dir: Path) -> EncodedPages:
    """Windows of different lengths, some pages with several."""
    pages = tiny_pages(9)
    features = encode_pages(pages, load_fast_tokenizer(WordLabelsConfig(pretrained=str(model_dir))), 16, lambda: None)
    found = select(features, [page.page_id for page in pages], LABELS)
    assert len(found.windows) > len(found.pages) and len(set(found.window_lengths.tolist())) > 1
    return found


def packed(part: EncodedPages) -> PackedBatch:
    return pack(part.windows, [None] * len(part.windows))


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 60))
def test_cuts_keep_the_order_and_the_budget(lengths: list[int], budget: int) -> None:
    cuts = cut_by_tokens(lengths, budget)
    assert [place for cut in cuts for place in cut] == list(range(len(lengths)))
    assert all(sum(lengths[place] for place in cut) <= budget or len(cut) == 1 for cut in cuts)


def test_a_packed_batch_holds_the_tokens_of_its_windows_and_no_others(part: EncodedPages) -> None:
    batch = packed(part)
    assert len(batch.input_ids) == sum(batch.lengths) == part.window_lengths.sum()
    assert batch.supervised == sum(len(window.first) for window in part.windows)
    ends = np.cumsum(batch.lengths)
    for window, end, length in zip(part.windows, ends, batch.lengths, strict=True):
        assert batch.input_ids[end - length : end].tolist() == window.input_ids.tolist()
        assert batch.position_ids[end - length : end].tolist() == list(range(length))


def test_masks_choose_the_words(part: EncodedPages) -> None:
    windows = part.windows[:3]
    masks = [window.label_ids != 0 for window in windows]
    batch = pack(windows, masks)
    assert batch.labels.tolist() == [label for window in windows for label in window.label_ids if label != 0]


def padded_loss_and_gradients(
    model: LayoutLMForTokenClassification, part: EncodedPages
) -> tuple[float, dict[str, torch.Tensor]]:
    """The stock recipe: padded to the longest, a mask, transformers' own forward pass and loss."""
    batch = collate(part.windows, [window.label_ids for window in part.windows], pad_token_id=0)
    model.set_attn_implementation("sdpa")
    model.zero_grad()
    outputs = model(**{name: torch.from_numpy(getattr(batch, name)) for name in
                       ("input_ids", "attention_mask", "bbox", "labels")})  # fmt: skip
    outputs.loss.backward()
    return outputs.loss.item(), gradients(model)


def gradients(model: LayoutLMForTokenClassification) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_loss_and_gradients_are_those_of_the_padded_stock_step(model_dir: Path, part: EncodedPages) -> None:
    config = WordLabelsConfig(pretrained=str(model_dir), dropout=0.0)
    stock_loss, stock = padded_loss_and_gradients(load_model(config, LABELS).model, part)

    model, batch = load_model(config, LABELS).model, packed(part)
    rule, labels = LossRule(), torch.from_numpy(batch.labels)
    loss = token_loss(word_logits(model, on_device(batch, CPU)), labels, rule).total / rule.weight_of(labels)
    loss.backward()

    assert loss.item() == pytest.approx(stock_loss, abs=1e-6)
    found = gradients(model)
    assert found.keys() == stock.keys()
    for name, expected in stock.items():
        torch.testing.assert_close(found[name], expected, atol=1e-5, rtol=1e-4, msg=name)


def test_no_window_sees_another(model_dir: Path, part: EncodedPages) -> None:
    model = load_model(WordLabelsConfig(pretrained=str(model_dir)), LABELS).model.eval()
    together = word_logits(model, on_device(packed(part), CPU))
    alone = [word_logits(model, on_device(pack([window], [None]), CPU)) for window in part.windows]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_the_order_of_windows_in_a_batch_changes_nothing_for_any_of_them(model_dir: Path, part: EncodedPages) -> None:
    model = load_model(WordLabelsConfig(pretrained=str(model_dir)), LABELS).model.eval()
    first, second = part.windows[:2]
    forward = word_logits(model, on_device(pack([first, second], [None, None]), CPU))
    backward = word_logits(model, on_device(pack([second, first], [None, None]), CPU))
    words = len(first.first)
    torch.testing.assert_close(forward[:words], backward[-words:], atol=1e-5, rtol=1e-5)


def test_a_stored_model_is_loaded_by_transformers_with_attention_of_its_own(model_dir: Path, tmp_path: Path) -> None:
    model = load_model(WordLabelsConfig(pretrained=str(model_dir)), LABELS).model
    model.save_pretrained(tmp_path)
    assert "receipt_layoutlm" not in (tmp_path / "config.json").read_text()
    assert LayoutLMForTokenClassification.from_pretrained(tmp_path).config._attn_implementation == "sdpa"


def test_unlabelled_words_are_packed_but_not_supervised(part: EncodedPages) -> None:
    window = part.windows[0]
    labels = window.label_ids.copy()
    window.label_ids[:] = IGNORE_INDEX
    batch = pack([window], [None])
    assert (batch.supervised, len(batch.chosen)) == (0, len(labels))

"""The layoutlm task: a label for each word of a page, by LayoutLM token classification.

A task is this set of functions: load_tokenizer, load_model, encode, training_batch, batch_loss, predict.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import LayoutLMForTokenClassification, PreTrainedTokenizerFast

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.encoding import Batch, EncodedPart, IntArray, collate, encode_pages
from receipt_layoutlm.labels import LabelMap
from receipt_layoutlm.losses import IGNORE_INDEX, TokenLoss, token_cross_entropy
from receipt_layoutlm.page import Page
from receipt_layoutlm.tasks.pretrained import load_fast_tokenizer, load_layoutlm


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predicted tags of each page, in reading order, and the mean plain cross-entropy of all words."""

    tags: list[list[str]]
    loss: float


def load_tokenizer(config: TrainConfig) -> PreTrainedTokenizerFast:
    """See tasks/pretrained.py."""
    return load_fast_tokenizer(config)


def load_model(config: TrainConfig, label_map: LabelMap) -> LayoutLMForTokenClassification:
    """The model on CPU with fresh or pretrained weights. The pooler has no part in this task and is frozen."""
    model = load_layoutlm(config, label_map.label2id)
    model.layoutlm.pooler.requires_grad_(False)
    return model


def encode(
    pages: Sequence[Page],
    tokenizer: PreTrainedTokenizerFast,
    label_map: LabelMap,
    max_length: int,
    on_page: Callable[[], None],
) -> EncodedPart:
    """See encoding.encode_pages."""
    return encode_pages(pages, tokenizer, label_map, max_length, on_page)


def training_batch(
    part: EncodedPart, indices: Sequence[int], masks: Sequence[Sequence[bool]] | None, pad_token_id: int
) -> Batch:
    """The windows of these indices; masks: for each page, which words are supervised (None: all of them)."""
    windows = [part.windows[index] for index in indices]
    labels: list[IntArray] = []
    for window in windows:
        ids = part.pages[window.page].label_ids[window.word_index]
        if masks is not None:
            kept = np.asarray(masks[window.page])[window.word_index]
            ids = np.where(kept, ids, IGNORE_INDEX)
        labels.append(ids)
    return collate(windows, labels, pad_token_id)


def _evaluation_batch(part: EncodedPart, indices: Sequence[int], pad_token_id: int) -> Batch:
    windows = [part.windows[index] for index in indices]
    labels = [
        np.where(window.scored, part.pages[window.page].label_ids[window.word_index], IGNORE_INDEX)
        for window in windows
    ]
    return collate(windows, labels, pad_token_id)


def _logits(model: LayoutLMForTokenClassification, batch: Batch, device: torch.device) -> torch.Tensor:
    """(batch, length, classes)."""
    logits: torch.Tensor = model(
        input_ids=torch.from_numpy(batch.input_ids).to(device),
        bbox=torch.from_numpy(batch.bbox).to(device),
        attention_mask=torch.from_numpy(batch.attention_mask).to(device),
    ).logits
    return logits


def batch_loss(
    model: LayoutLMForTokenClassification, batch: Batch, device: torch.device, label_smoothing: float
) -> TokenLoss:
    """Forward pass and summed loss over the batch's supervised words."""
    labels = torch.from_numpy(batch.labels).to(device)
    return token_cross_entropy(_logits(model, batch, device), labels, label_smoothing)


@torch.no_grad()
def predict(
    model: LayoutLMForTokenClassification,
    part: EncodedPart,
    label_map: LabelMap,
    batch_size: int,
    pad_token_id: int,
    device: torch.device,
    on_batch: Callable[[], None],
) -> Predictions:
    """Tag every word of a part; `on_batch` is called before each batch and may raise to stop.

    The model is in training mode again afterwards.
    """
    model.eval()
    predicted = [np.zeros(len(page.words), np.int64) for page in part.pages]
    order = sorted(range(len(part.windows)), key=lambda index: len(part.windows[index].input_ids))
    total, words = 0.0, 0
    try:
        for start in range(0, len(order), batch_size):
            on_batch()
            indices = order[start : start + batch_size]
            batch = _evaluation_batch(part, indices, pad_token_id)
            logits = _logits(model, batch, device)
            loss = token_cross_entropy(logits, torch.from_numpy(batch.labels).to(device), label_smoothing=0.0)
            total, words = total + loss.total.item(), words + loss.count
            _put(part, indices, logits.argmax(-1).cpu().numpy(), predicted)
    finally:
        model.train()
    id2label = label_map.id2label
    return Predictions([[id2label[int(id_)] for id_ in ids] for ids in predicted], total / max(words, 1))


def _put(part: EncodedPart, indices: Sequence[int], classes: IntArray, predicted: list[IntArray]) -> None:
    """Write the classes (batch, length) of the words that these windows score into the pages' rows."""
    for row, index in enumerate(indices):
        window = part.windows[index]
        words = window.word_index[window.scored]
        predicted[window.page][words] = classes[row, window.first[window.scored]]

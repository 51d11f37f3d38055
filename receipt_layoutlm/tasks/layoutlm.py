"""The layoutlm task: a label for each word of a page, by LayoutLM token classification.

A task is this set of functions: load_tokenizer, load_model, encode, training_batch, batch_loss, predict.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from transformers import LayoutLMForTokenClassification, PreTrainedTokenizerFast

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.encoded_part import EncodedPart, Features, IntArray, Window
from receipt_layoutlm.encoding import Batch, collate, encode_pages
from receipt_layoutlm.labels import LabelMap
from receipt_layoutlm.losses import IGNORE_INDEX, TokenLoss, token_cross_entropy
from receipt_layoutlm.page import Page
from receipt_layoutlm.tasks.pretrained import load_fast_tokenizer, load_layoutlm

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Predictions:
    """What the model says of each page's words, in reading order, and the mean plain cross-entropy of all words.

    A confidence is the softmax probability of a label, B- and I- together: of the predicted one, and of the true one
    (NaN where nobody has decided).
    """

    tags: list[list[str]]
    confidence: list[FloatArray]
    true_confidence: list[FloatArray]
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
    pages: Sequence[Page], tokenizer: PreTrainedTokenizerFast, max_length: int, on_page: Callable[[], None]
) -> Features:
    """See encoding.encode_pages."""
    return encode_pages(pages, tokenizer, max_length, on_page)


def training_batch(
    part: EncodedPart, indices: Sequence[int], masks: Sequence[Sequence[bool]] | None, pad_token_id: int
) -> Batch:
    """The windows of these indices; masks: for each page, which words are supervised (None: all of them)."""
    windows = [part.windows[index] for index in indices]
    labels: list[IntArray] = []
    for window in windows:
        ids = window.label_ids
        if masks is not None:
            kept = np.asarray(masks[window.page])[window.word_index]
            ids = np.where(kept, ids, IGNORE_INDEX)
        labels.append(ids)
    return collate(windows, labels, pad_token_id)


def _evaluation_batch(part: EncodedPart, indices: Sequence[int], pad_token_id: int) -> Batch:
    windows = [part.windows[index] for index in indices]
    labels = [np.where(window.scored, window.label_ids, IGNORE_INDEX) for window in windows]
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
    rows = _Rows.of(part)
    of_one_label = _of_one_label(label_map)
    order = np.argsort(part.window_lengths, stable=True).tolist()
    total, words = 0.0, 0
    try:
        for start in range(0, len(order), batch_size):
            on_batch()
            indices = order[start : start + batch_size]
            batch = _evaluation_batch(part, indices, pad_token_id)
            logits = _logits(model, batch, device)
            loss = token_cross_entropy(logits, torch.from_numpy(batch.labels).to(device), label_smoothing=0.0)
            total, words = total + loss.total.item(), words + loss.count
            by_label = logits.double().softmax(-1).cpu().numpy() @ of_one_label
            rows.put([part.windows[index] for index in indices], batch, logits.argmax(-1).cpu().numpy(), by_label)
    finally:
        model.train()
    id2label = label_map.id2label
    tags = [[id2label[int(id_)] for id_ in ids] for ids in rows.classes]
    return Predictions(tags, rows.confidence, rows.true_confidence, total / max(words, 1))


@dataclass(frozen=True, slots=True)
class _Rows:
    """A value for each word of each page, while windows are predicted."""

    classes: list[IntArray]
    confidence: list[FloatArray]
    true_confidence: list[FloatArray]

    @classmethod
    def of(cls, part: EncodedPart) -> "_Rows":
        sizes = [len(page.words) for page in part.pages]
        return cls(
            [np.zeros(size, np.int64) for size in sizes],
            [np.zeros(size) for size in sizes],
            [np.full(size, np.nan) for size in sizes],
        )

    def put(self, windows: Sequence[Window], batch: Batch, classes: IntArray, by_label: FloatArray) -> None:
        """Take the words that these windows score: classes (batch, length), by_label (batch, length, classes)."""
        for row, window in enumerate(windows):
            words, places = window.word_index[window.scored], window.first[window.scored]
            said, true = classes[row, places], batch.labels[row, places]
            self.classes[window.page][words] = said
            self.confidence[window.page][words] = by_label[row, places, said]
            known = true != IGNORE_INDEX
            self.true_confidence[window.page][words[known]] = by_label[row, places[known], true[known]]


def _of_one_label(label_map: LabelMap) -> FloatArray:
    """(classes, classes): 1 where two classes are B- and I- of one label, or the same."""
    labels = np.array([tag[2:] for _, tag in sorted(label_map.id2label.items())])
    return np.where(labels[:, None] == labels, 1.0, 0.0)

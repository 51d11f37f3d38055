"""Inference: log-probabilities of all classes for each word of a set of pages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import LayoutLMForTokenClassification

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.training.task import Compute
from receipt_layoutlm.training.tasks.cross_entropy import PLAIN, token_loss
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPages
from receipt_layoutlm.training.tasks.word_labels.inputs.packing import cut_by_tokens, on_device, pack
from receipt_layoutlm.training.tasks.word_labels.layoutlm import word_logits
from receipt_layoutlm.training.tasks.word_labels.scoring.decoding import WordScores


@dataclass(frozen=True, slots=True)
class WordModel:
    """A model and the names of its classes, in the order of their numbers."""

    model: LayoutLMForTokenClassification
    names: Sequence[str]


@torch.no_grad()
def score_words(
    model: WordModel, pages: EncodedPages, config: WordLabelsConfig, compute: Compute, on_batch: Callable[[], None]
) -> WordScores:
    """Score each word in its scoring window; `on_batch` is called before each batch and may raise to stop.

    Processes of a group share the batches. The model's mode is restored at the end.
    """
    order = np.argsort(pages.window_lengths, stable=True).tolist()  # similar lengths in a batch
    if config.tokens_per_batch is not None and config.eval_batch_size is None:
        cuts = cut_by_tokens(pages.window_lengths[order].tolist(), config.tokens_per_batch)
        batches = [[order[place] for place in cut] for cut in cuts]
    else:
        size = config.effective_eval_batch_size
        batches = [order[start : start + size] for start in range(0, len(order), size)]
    rows = [np.zeros((len(page.tags), len(model.names)), np.float32) for page in pages.pages]
    total, words = 0.0, 0
    group = compute.group
    was_training = model.model.training
    model.model.eval()
    try:
        for place in range(0, len(batches), group.size):
            on_batch()
            if place + group.rank >= len(batches):
                break
            windows = [pages.windows[index] for index in batches[place + group.rank]]
            batch = on_device(pack(windows, [window.scored for window in windows]), compute.device)
            with compute.autocast():
                logits = word_logits(model.model, batch).float()
            loss = token_loss(logits, batch.labels, PLAIN)
            total, words = total + loss.total.item(), words + loss.count
            scores = logits.log_softmax(-1).cpu().numpy()
            ends = np.cumsum([window.scored.sum() for window in windows])
            for window, piece in zip(windows, np.split(scores, ends[:-1]), strict=True):
                rows[window.page][window.word_index[window.scored]] = piece
    finally:
        model.model.train(was_training)
    if group.size > 1 and rows:  # a process's rows are 0 for words that another process scored
        everything = group.sum(torch.from_numpy(np.concatenate(rows))).numpy()
        rows = np.split(everything, np.cumsum([len(row) for row in rows])[:-1])
    total, words = group.sum(torch.tensor([total, words], dtype=torch.float64)).tolist()
    return WordScores(rows, total / max(words, 1))

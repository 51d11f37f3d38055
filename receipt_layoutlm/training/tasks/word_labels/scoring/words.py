"""What a model gives each word of a part: log-probabilities of all classes, window by window."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.training.distributed import Team
from receipt_layoutlm.training.loss import PLAIN, token_loss
from receipt_layoutlm.training.precision import autocast
from receipt_layoutlm.training.setup import Run
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPart
from receipt_layoutlm.training.tasks.word_labels.inputs.packing import cut_by_tokens, pack
from receipt_layoutlm.training.tasks.word_labels.packed import on_device

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class WordScores:
    """log_probs: for each page (words, classes), in reading order. loss: mean plain cross-entropy of known words."""

    log_probs: list[FloatArray]
    loss: float


@torch.no_grad()
def score_words(run: Run, part: EncodedPart, on_batch: Callable[[], None]) -> WordScores:
    """Each word from the window that scores it; `on_batch` is called before each batch and may raise to stop.

    The model is in training mode again afterwards.
    """
    rows = [np.zeros((len(page.tags), len(run.label_map.label2id)), np.float32) for page in part.pages]
    total, words = 0.0, 0
    batches, team = _batches(run.config, part), run.team
    run.model.eval()
    try:
        for place in range(0, len(batches), team.size):
            on_batch()
            if place + team.rank >= len(batches):
                break
            indices = batches[place + team.rank]
            windows = [part.windows[index] for index in indices]
            batch = on_device(pack(windows, [window.scored for window in windows]), run.device)
            with autocast(run.device, run.state.precision):
                logits = run.task.word_logits(run.model, batch).float()
            loss = token_loss(logits, batch.labels, PLAIN)
            total, words = total + loss.total.item(), words + loss.count
            scores = logits.log_softmax(-1).cpu().numpy()
            ends = np.cumsum([window.scored.sum() for window in windows])
            for window, piece in zip(windows, np.split(scores, ends[:-1]), strict=True):
                rows[window.page][window.word_index[window.scored]] = piece
    finally:
        run.model.train()
    rows = _of_all(team, rows)
    total, words = team.summed(torch.tensor([total, words], dtype=torch.float64)).tolist()
    return WordScores(rows, total / max(words, 1))


def _of_all(team: Team, rows: list[FloatArray]) -> list[FloatArray]:
    """Each process has scored some of the words; where it has not, its rows are 0."""
    if team.size == 1 or not rows:
        return rows
    everything = team.summed(torch.from_numpy(np.concatenate(rows))).numpy()
    return np.split(everything, np.cumsum([len(row) for row in rows])[:-1])


def _batches(config: TrainConfig, part: EncodedPart) -> list[list[int]]:
    """Windows in batches, shorter ones first."""
    order = np.argsort(part.window_lengths, stable=True).tolist()
    if config.tokens_per_batch is not None and config.eval_batch_size is None:
        cuts = cut_by_tokens(part.window_lengths[order].tolist(), config.tokens_per_batch)
        return [[order[place] for place in cut] for cut in cuts]
    size = config.effective_eval_batch_size
    return [order[start : start + size] for start in range(0, len(order), size)]


def confidences(
    log_probs: Sequence[FloatArray], tags: Sequence[Sequence[str]], names: Sequence[str]
) -> list[list[float | None]]:
    """For each word the probability of its tag's label, B- and I- together; None for a tag that is no class."""
    labels = [name.partition("-")[2] for name in names]
    of_label = {label: [number for number, each in enumerate(labels) if each == label] for label in labels}
    of_tag = {name: of_label[label] for name, label in zip(names, labels, strict=True)}
    return [
        [_probability(row, of_tag[tag]) if tag in of_tag else None for row, tag in zip(page, page_tags, strict=True)]
        for page, page_tags in zip(log_probs, tags, strict=True)
    ]


def _probability(row: FloatArray, classes: Sequence[int]) -> float:
    return min(1.0, sum(math.exp(row[number]) for number in classes))

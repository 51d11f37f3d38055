"""Predictions and scores of a set of pages."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.run.predictions import PredictedPage
from receipt_layoutlm.run.word_scores import word_report
from receipt_layoutlm.training.task import Compute
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPages
from receipt_layoutlm.training.tasks.word_labels.scoring.calibration import (
    Calibration,
    IntArray,
    calibration,
    fit_temperature,
)
from receipt_layoutlm.training.tasks.word_labels.scoring.decoding import (
    Decoding,
    FloatArray,
    WordScores,
    confidences,
    decode,
)
from receipt_layoutlm.training.tasks.word_labels.scoring.entities import EntityScores, score_entities
from receipt_layoutlm.training.tasks.word_labels.scoring.fields import score_fields
from receipt_layoutlm.training.tasks.word_labels.scoring.words import WordModel, score_words

DECODINGS: Final[tuple[Decoding, ...]] = ("argmax", "viterbi")
DIGITS = 4  # of a stored confidence


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions for a set of pages, decoded by the run's decoding."""

    pages: EncodedPages
    labels: Sequence[str]
    names: Sequence[str]  # class names in the order of their numbers
    log_probs: list[FloatArray]
    tags: list[list[str]]
    loss: float
    entities: EntityScores
    f1_by_decoding: dict[str, float]

    def fitted_temperature(self) -> float:
        """Temperature that calibrates the confidences of these pages."""
        return fit_temperature(*self._words())

    def scores(self, temperature: float | None) -> dict[str, float]:
        """Named scores; calibration with a fitted temperature as well, unless it is None."""
        true, words = [page.tags for page in self.pages.pages], [page.words for page in self.pages.pages]
        of_words = word_report(self.entities.confusion)
        log_probs, label_ids = self._words()
        scores = {
            "precision": self.entities.precision,
            "recall": self.entities.recall,
            "f1": self.entities.f1,
            "macro_f1": self.entities.macro_f1,
            "field_f1": score_fields(words, true, self.tags, self.labels).f1,
            "word_accuracy": of_words.word_accuracy,
            "balanced_accuracy": of_words.balanced_accuracy,
            "ece": calibration(log_probs, label_ids).ece,
        }
        if temperature is not None:
            scores["ece_calibrated"] = calibration(log_probs, label_ids, temperature).ece
        return scores

    def _words(self) -> tuple[FloatArray, IntArray]:
        """(words, classes) log-probabilities and (words,) true classes."""
        return np.concatenate(self.log_probs), np.concatenate([page.label_ids for page in self.pages.pages])

    def calibration(self, temperature: float) -> Calibration:
        """Calibration of the words at a temperature."""
        return calibration(*self._words(), temperature)

    def rows(self) -> Iterator[PredictedPage]:
        """Stored predictions, a row per page."""
        pages = self.pages.pages
        predicted = confidences(self.log_probs, self.tags, self.names)
        true = confidences(self.log_probs, [page.tags for page in pages], self.names)
        for page, tags, of_predicted, of_true in zip(pages, self.tags, predicted, true, strict=True):
            yield PredictedPage(
                page_id=page.page_id,
                index=tuple(page.order.tolist()),
                words=page.words,
                true=page.tags,
                predicted=tuple(tags),
                confidence=tuple(round(p, DIGITS) for p in of_predicted if p is not None),
                true_confidence=tuple(None if p is None else round(p, DIGITS) for p in of_true),
            )


def predict(
    model: WordModel,
    pages: EncodedPages,
    labels: Sequence[str],
    config: WordLabelsConfig,
    compute: Compute,
    on_batch: Callable[[], None],
) -> Predictions:
    """Predict and score pages; `labels` get a row each. `on_batch` is called before each batch and may raise."""
    return scored(score_words(model, pages, config, compute, on_batch), model.names, pages, labels, config)


def scored(
    words: WordScores, names: Sequence[str], pages: EncodedPages, labels: Sequence[str], config: WordLabelsConfig
) -> Predictions:
    """Decode and score the words of pages. names: of the classes; `labels` get a row each."""
    true, single = [page.tags for page in pages.pages], config.single_valued_labels
    ways: dict[str, tuple[Decoding, Sequence[str]]] = {name: (name, ()) for name in DECODINGS}
    if single:
        ways[f"{config.decoding}, single"] = (config.decoding, single)
    tags = {name: decode(words.log_probs, names, decoding, once) for name, (decoding, once) in ways.items()}
    scores = {name: score_entities(true, predicted, labels) for name, predicted in tags.items()}
    chosen = list(ways)[-1] if single else config.decoding
    return Predictions(
        pages=pages,
        labels=labels,
        names=names,
        log_probs=words.log_probs,
        tags=tags[chosen],
        loss=words.loss,
        entities=scores[chosen],
        f1_by_decoding={name: entities.f1 for name, entities in scores.items()},
    )

"""Scores of a run: each evaluation, whose best and last predictions are kept, and the test part at the end."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from safetensors.torch import load_file

from receipt_layoutlm.metric_names import parse_guard
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Evaluation
from receipt_layoutlm.run.health import health, health_lines
from receipt_layoutlm.run.predictions import TEST, PredictedPage, evaluation_name, write_predictions
from receipt_layoutlm.run.record import FinalScores
from receipt_layoutlm.run.state import NonFiniteLoss
from receipt_layoutlm.run.word_scores import word_report
from receipt_layoutlm.training.checkpoint import MODEL
from receipt_layoutlm.training.setup import Run
from receipt_layoutlm.training.step import rate_of_last_step
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPart
from receipt_layoutlm.training.tasks.word_labels.inputs.epoch import Epoch
from receipt_layoutlm.training.tasks.word_labels.scoring.calibration import IntArray, calibration, fit_temperature
from receipt_layoutlm.training.tasks.word_labels.scoring.decoding import Decoding, decode
from receipt_layoutlm.training.tasks.word_labels.scoring.entities import Scores, score
from receipt_layoutlm.training.tasks.word_labels.scoring.fields import score_fields
from receipt_layoutlm.training.tasks.word_labels.scoring.headline import headline_name, keeps, value_in
from receipt_layoutlm.training.tasks.word_labels.scoring.words import FloatArray, confidences, score_words

DECODINGS: Final[tuple[Decoding, ...]] = ("argmax", "viterbi")
TEST_METRIC_NAME = "test_f1"
DIGITS = 4  # of a stored confidence


def evaluate(run: Run, epoch: Epoch, on_batch: Callable[[], None]) -> Evaluation:
    """Evaluate the run as it stands and write its predictions; the state stays as it is.

    `on_batch` is called before each batch and may raise to stop. Raises NonFiniteLoss.
    """
    said, state = _tag(run, run.evaluation, on_batch), run.state
    scores, words = said.scores, word_report(said.scores.confusion)
    measured = Evaluation(
        global_step=state.global_step,
        epoch=state.global_step / run.plan.steps_per_epoch,
        metric_name=headline_name(run.config.metric_for_best),
        metric_value=0.0,
        precision=scores.precision,
        recall=scores.recall,
        f1=scores.f1,
        macro_f1=scores.macro_f1,
        field_f1=_field_f1(run, run.evaluation, said),
        word_accuracy=words.word_accuracy,
        balanced_accuracy=words.balanced_accuracy,
        train_f1=_tag(run, run.train_sample, on_batch).scores.f1,
        per_label=scores.per_label,
        train_loss=state.train_loss,
        eval_loss=said.loss,
        lr=rate_of_last_step(run),
        o_entity_ratio=epoch.o_entity_ratio,
        seen=epoch.seen,
        f1_by_decoding=said.f1_by_decoding,
        confusion=scores.confusion,
        predicted_labels=scores.predicted_labels,
        is_best=False,
        collapsed=scores.collapsed,
    )
    lines = health_lines(health([*state.evaluations, measured], run.config))
    measured = measured.model_copy(update={"health": tuple(lines), **_calibration(run.evaluation, said)})
    evaluation = _judged(run, measured)
    best_step = evaluation.global_step if evaluation.is_best else state.best_step
    write_predictions(_rows(run, run.evaluation, said), run.run_dir.predictions / evaluation_name(state.global_step))
    _keep_predictions(run.run_dir, {best_step, evaluation.global_step})
    return evaluation


def _judged(run: Run, measured: Evaluation) -> Evaluation:
    """With its headline, and whether these are the best weights so far."""
    value = value_in(measured, run.config.metric_for_best)
    guard = None if run.config.guard is None else parse_guard(run.config.guard)
    is_kept = guard is None or keeps(guard, run.state.evaluations, measured)
    return measured.model_copy(update={"metric_value": value, "is_best": is_kept and run.state.is_new_best(value)})


def _field_f1(run: Run, part: EncodedPart, said: "_Said") -> float:
    pages = part.pages
    return score_fields(
        [page.words for page in pages], [page.tags for page in pages], said.tags, run.label_map.labels
    ).f1


def _calibration(part: EncodedPart, said: "_Said") -> dict[str, float]:
    """How sure the model may be taken by its word, before and after the temperature that fits best."""
    log_probs, labels = _words_of(part, said)
    temperature = fit_temperature(log_probs, labels)
    return {"temperature": temperature, **_calibration_at(log_probs, labels, temperature)}


def _calibration_at(log_probs: FloatArray, labels: IntArray, temperature: float | None) -> dict[str, float]:
    """The same with a temperature that is given; None: it is not known."""
    found = {"ece": calibration(log_probs, labels).ece}
    if temperature is not None:
        found["ece_calibrated"] = calibration(log_probs, labels, temperature).ece
    return found


def _words_of(part: EncodedPart, said: "_Said") -> tuple[FloatArray, IntArray]:
    return np.concatenate(said.log_probs), np.concatenate([page.label_ids for page in part.pages])


def score_test_part(run: Run, part: EncodedPart, on_batch: Callable[[], None]) -> FinalScores | None:
    """The best weights on a part that nothing was chosen by; None when their files are not here.

    The model holds the best weights afterwards. `on_batch` is called before each batch and may raise to stop.
    Raises NonFiniteLoss.
    """
    weights = run.run_dir.best / MODEL
    if run.state.best_step is None or not weights.exists():
        return None
    run.model.load_state_dict(load_file(weights), strict=True)
    said = _tag(run, part, on_batch)
    words = word_report(said.scores.confusion)
    write_predictions(_rows(run, part, said), run.run_dir.predictions / TEST)
    return FinalScores(
        global_step=run.state.best_step,
        metric_name=TEST_METRIC_NAME,
        metric_value=said.scores.f1,
        precision=said.scores.precision,
        recall=said.scores.recall,
        per_label=said.scores.per_label,
        loss=said.loss,
        pages=len(part.pages),
        macro_f1=said.scores.macro_f1,
        field_f1=_field_f1(run, part, said),
        word_accuracy=words.word_accuracy,
        balanced_accuracy=words.balanced_accuracy,
        **_calibration_at(*_words_of(part, said), _best_temperature(run)),
    )


def _best_temperature(run: Run) -> float | None:
    """That was fitted to the evaluation part at the best weights."""
    found = (each.temperature for each in run.state.evaluations if each.global_step == run.state.best_step)
    return next(found, None)


@dataclass(frozen=True, slots=True)
class _Said:
    """What the model said of a part, decoded as the run wants it."""

    log_probs: list[FloatArray]
    tags: list[list[str]]
    loss: float
    scores: Scores
    f1_by_decoding: dict[str, float]


def _tag(run: Run, part: EncodedPart, on_batch: Callable[[], None]) -> _Said:
    found = score_words(run, part, on_batch)
    if not math.isfinite(found.loss):
        raise NonFiniteLoss(())
    names = _names(run)
    truth = [page.tags for page in part.pages]
    single = run.config.single_valued_labels
    ways = {name: (name, ()) for name in DECODINGS} | (
        {f"{run.config.decoding}, single": (run.config.decoding, single)} if single else {}
    )
    tags = {name: decode(found.log_probs, names, decoding, labels) for name, (decoding, labels) in ways.items()}
    scores = {name: score(truth, each, run.label_map.labels) for name, each in tags.items()}
    chosen = list(ways)[-1] if single else run.config.decoding
    return _Said(found.log_probs, tags[chosen], found.loss, scores[chosen], {n: each.f1 for n, each in scores.items()})


def _names(run: Run) -> list[str]:
    return [name for _, name in sorted(run.label_map.id2label.items())]


def _rows(run: Run, part: EncodedPart, said: _Said) -> Iterator[PredictedPage]:
    names = _names(run)
    truth = [page.tags for page in part.pages]
    predicted, true = (confidences(said.log_probs, tags, names) for tags in (said.tags, truth))
    for page, tags, sure, sure_of_truth in zip(part.pages, said.tags, predicted, true, strict=True):
        yield PredictedPage(
            page_id=page.page_id,
            index=tuple(page.order.tolist()),
            words=page.words,
            true=page.tags,
            predicted=tuple(tags),
            confidence=tuple(round(p, DIGITS) for p in sure if p is not None),
            true_confidence=tuple(None if p is None else round(p, DIGITS) for p in sure_of_truth),
        )


def _keep_predictions(run_dir: RunDir, steps: set[int | None]) -> None:
    kept = {run_dir.predictions / evaluation_name(step) for step in steps if step is not None}
    for path in run_dir.predictions.glob("eval-*.jsonl.gz"):
        if path not in kept:
            path.unlink()

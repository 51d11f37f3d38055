"""Scores of a run: each evaluation, whose best and last predictions are kept, and the test part at the end."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from safetensors.torch import load_file

from receipt_layoutlm.checkpoint import MODEL
from receipt_layoutlm.decoding import Decoding, decode
from receipt_layoutlm.encoded_part import EncodedPart
from receipt_layoutlm.events import Evaluation
from receipt_layoutlm.metrics import METRIC_NAME, Scores, score
from receipt_layoutlm.predictions import TEST, PredictedPage, evaluation_name, write_predictions
from receipt_layoutlm.run_dir import RunDir
from receipt_layoutlm.run_record import FinalScores
from receipt_layoutlm.train_epoch import Epoch
from receipt_layoutlm.train_setup import Run
from receipt_layoutlm.train_state import NonFiniteLoss
from receipt_layoutlm.train_step import rate_of_last_step
from receipt_layoutlm.word_scores import FloatArray, confidences, score_words

DECODINGS: Final[tuple[Decoding, ...]] = ("argmax", "viterbi")
TEST_METRIC_NAME = "test_f1"
DIGITS = 4  # of a stored confidence


def evaluate(run: Run, epoch: Epoch, on_batch: Callable[[], None]) -> Evaluation:
    """Evaluate the run as it stands and write its predictions; the state stays as it is.

    `on_batch` is called before each batch and may raise to stop. Raises NonFiniteLoss.
    """
    said = _tag(run, run.evaluation, on_batch)
    scores, state = said.scores, run.state
    evaluation = Evaluation(
        global_step=state.global_step,
        epoch=state.global_step / run.plan.steps_per_epoch,
        metric_name=METRIC_NAME,
        metric_value=scores.f1,
        precision=scores.precision,
        recall=scores.recall,
        per_label=scores.per_label,
        train_loss=state.train_loss,
        eval_loss=said.loss,
        lr=rate_of_last_step(run),
        o_entity_ratio=epoch.o_entity_ratio,
        seen=epoch.seen,
        f1_by_decoding=said.f1_by_decoding,
        confusion=scores.confusion,
        predicted_labels=scores.predicted_labels,
        is_best=state.is_new_best(scores.f1),
        collapsed=scores.collapsed,
    )
    best_step = evaluation.global_step if evaluation.is_best else state.best_step
    write_predictions(_rows(run, run.evaluation, said), run.run_dir.predictions / evaluation_name(state.global_step))
    _keep_predictions(run.run_dir, {best_step, evaluation.global_step})
    return evaluation


def score_test_part(run: Run, part: EncodedPart, on_batch: Callable[[], None]) -> FinalScores | None:
    """The best weights on a part that nothing was chosen by; None when their files are not here.

    The model holds the best weights afterwards. `on_batch` is called before each batch and may raise to stop. Raises NonFiniteLoss.
    """
    weights = run.run_dir.best / MODEL
    if run.state.best_step is None or not weights.exists():
        return None
    run.model.load_state_dict(load_file(weights), strict=True)
    said = _tag(run, part, on_batch)
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
    )


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
    tags = {name: decode(found.log_probs, names, name) for name in DECODINGS}
    scores = {name: score(truth, each, run.label_map.labels) for name, each in tags.items()}
    chosen = run.config.decoding
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

"""Scores of a run: each evaluation, whose best and last predictions are kept, and the test part at the end."""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from safetensors.torch import load_file

from receipt_layoutlm.checkpoint import MODEL
from receipt_layoutlm.encoded_part import EncodedPart
from receipt_layoutlm.events import Evaluation
from receipt_layoutlm.metrics import METRIC_NAME, score
from receipt_layoutlm.predictions import TEST, PredictedPage, evaluation_name, write_predictions
from receipt_layoutlm.run_dir import RunDir
from receipt_layoutlm.run_record import FinalScores
from receipt_layoutlm.train_setup import Run, autocast
from receipt_layoutlm.train_state import NonFiniteLoss
from receipt_layoutlm.train_step import rate_of_last_step

if TYPE_CHECKING:
    from receipt_layoutlm.tasks.layoutlm import Predictions

TEST_METRIC_NAME = "test_f1"
DIGITS = 4  # of a stored confidence


def evaluate(run: Run, o_entity_ratio: float | None, on_batch: Callable[[], None]) -> Evaluation:
    """Evaluate the run as it stands and write its predictions; the state stays as it is.

    `on_batch` is called before each batch and may raise to stop. Raises NonFiniteLoss.
    """
    with autocast(run.device):
        predictions = run.task.predict(
            run.model,
            run.evaluation,
            run.label_map,
            run.config.effective_eval_batch_size,
            run.tokenizer.pad_token_id,
            run.device,
            on_batch,
        )
    if not math.isfinite(predictions.loss):
        raise NonFiniteLoss(())
    scores = score([page.tags for page in run.evaluation.pages], predictions.tags, run.label_map.labels)
    state = run.state
    evaluation = Evaluation(
        global_step=state.global_step,
        epoch=state.global_step / run.plan.steps_per_epoch,
        metric_name=METRIC_NAME,
        metric_value=scores.f1,
        precision=scores.precision,
        recall=scores.recall,
        per_label=scores.per_label,
        train_loss=state.train_loss,
        eval_loss=predictions.loss,
        lr=rate_of_last_step(run),
        o_entity_ratio=o_entity_ratio,
        confusion=scores.confusion,
        predicted_labels=scores.predicted_labels,
        is_best=state.is_new_best(scores.f1),
        collapsed=scores.collapsed,
    )
    best_step = evaluation.global_step if evaluation.is_best else state.best_step
    path = run.run_dir.predictions / evaluation_name(evaluation.global_step)
    write_predictions(_predicted_pages(run.evaluation, predictions), path)
    _keep_predictions(run.run_dir, {best_step, evaluation.global_step})
    return evaluation


def score_test_part(run: Run, part: EncodedPart, on_batch: Callable[[], None]) -> FinalScores | None:
    """The best weights on a part that nothing was chosen by; None when their files are not here.

    The model holds the best weights afterwards. `on_batch` is called before each batch and may raise to stop.
    """
    weights = run.run_dir.best / MODEL
    if run.state.best_step is None or not weights.exists():
        return None
    run.model.load_state_dict(load_file(weights), strict=True)
    with autocast(run.device):
        predictions = run.task.predict(
            run.model,
            part,
            run.label_map,
            run.config.effective_eval_batch_size,
            run.tokenizer.pad_token_id,
            run.device,
            on_batch,
        )
    scores = score([page.tags for page in part.pages], predictions.tags, run.label_map.labels)
    write_predictions(_predicted_pages(part, predictions), run.run_dir.predictions / TEST)
    return FinalScores(
        global_step=run.state.best_step,
        metric_name=TEST_METRIC_NAME,
        metric_value=scores.f1,
        precision=scores.precision,
        recall=scores.recall,
        per_label=scores.per_label,
        loss=predictions.loss,
        pages=len(part.pages),
    )


def _predicted_pages(part: EncodedPart, predictions: "Predictions") -> Iterator[PredictedPage]:
    for number, page in enumerate(part.pages):
        true_confidence = predictions.true_confidence[number]
        yield PredictedPage(
            page_id=page.page_id,
            index=tuple(page.order.tolist()),
            words=page.words,
            true=page.tags,
            predicted=tuple(predictions.tags[number]),
            confidence=tuple(predictions.confidence[number].round(DIGITS).tolist()),
            true_confidence=tuple(None if math.isnan(p) else p for p in true_confidence.round(DIGITS).tolist()),
        )


def _keep_predictions(run_dir: RunDir, steps: set[int | None]) -> None:
    kept = {run_dir.predictions / evaluation_name(step) for step in steps if step is not None}
    for path in run_dir.predictions.glob("eval-*.jsonl.gz"):
        if path not in kept:
            path.unlink()

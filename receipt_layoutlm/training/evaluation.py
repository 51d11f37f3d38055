"""Evaluations of a run: model selection, stored predictions, and the test set at the end."""

import math
from collections.abc import Callable
from typing import Any

from safetensors.torch import load_file

from receipt_layoutlm.data.check_report import Finding
from receipt_layoutlm.metric_names import parse_guard
from receipt_layoutlm.run.events import Evaluation
from receipt_layoutlm.run.manifest import MODEL
from receipt_layoutlm.run.predictions import TEST, evaluation_name, write_predictions
from receipt_layoutlm.run.record import FinalScores
from receipt_layoutlm.run.scores import headline_name, meets
from receipt_layoutlm.run.state import NonFiniteLoss
from receipt_layoutlm.training.setup import Run
from receipt_layoutlm.training.step import rate_of_last_step


def evaluate(run: Run, epoch: Any, on_batch: Callable[[], None]) -> tuple[Evaluation, list[Finding]]:
    """Evaluate the run and write its predictions; the state is left unchanged.

    `on_batch` is called before each batch and may raise to stop. Raises NonFiniteLoss.
    """
    state, config = run.state, run.config
    scores, predictions = run.task.validate(epoch, run.compute, on_batch)
    if not math.isfinite(scores.eval_loss):
        raise NonFiniteLoss(())
    value = scores.value(config.metric_for_best)
    is_guarded = config.guard is None or meets(parse_guard(config.guard), state.evaluations, scores)
    evaluation = Evaluation(
        **dict(scores),
        global_step=state.global_step,
        epoch=state.global_step / run.plan.steps_per_epoch,
        metric_name=headline_name(config.metric_for_best),
        metric_value=value,
        train_loss=state.train_loss,
        lr=rate_of_last_step(run),
        is_best=is_guarded and state.is_new_best(value),
    )
    findings = run.task.findings([*state.evaluations, evaluation])
    health = tuple(finding.line for finding in findings)
    remedy = next((finding.remedy for finding in findings), {})
    evaluation = evaluation.model_copy(update={"health": health, "remedy": remedy})
    best_step = evaluation.global_step if evaluation.is_best else state.best_step
    folder = run.run_dir.predictions
    write_predictions(predictions, folder / evaluation_name(evaluation.global_step))
    kept = {evaluation_name(step) for step in (best_step, evaluation.global_step) if step is not None}
    for path in folder.glob("eval-*.jsonl.gz"):
        if path.name not in kept:
            path.unlink()
    return evaluation, findings


def score_test_set(run: Run, on_batch: Callable[[], None]) -> FinalScores | None:
    """Scores of the best weights on the test set; None when their files are not on this machine.

    The model holds the best weights afterwards. `on_batch` is called before each batch and may raise to stop. Raises
    NonFiniteLoss.
    """
    weights = run.run_dir.best / MODEL
    best = next((each for each in run.state.evaluations if each.global_step == run.state.best_step), None)
    if best is None or not weights.exists():
        return None
    run.task.model.load_state_dict(load_file(weights), strict=True)
    scores, predictions = run.task.test(best, run.compute, on_batch)
    if not math.isfinite(scores.loss):
        raise NonFiniteLoss(())
    write_predictions(predictions, run.run_dir.predictions / TEST)
    return scores

"""Scores of a run: each evaluation, whose best and last predictions are kept, and the test part at the end."""

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file

from receipt_layoutlm.checkpoint import MODEL
from receipt_layoutlm.encoding import EncodedPart
from receipt_layoutlm.events import Evaluation
from receipt_layoutlm.metrics import METRIC_NAME, score
from receipt_layoutlm.run_dir import RunDir
from receipt_layoutlm.run_record import FinalScores
from receipt_layoutlm.train_setup import Run, autocast
from receipt_layoutlm.train_state import NonFiniteLoss
from receipt_layoutlm.train_step import rate_of_last_step

TEST_METRIC_NAME = "test_f1"


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
    path = _predictions_of(run.run_dir, evaluation.global_step)
    _write_predictions(run.run_dir, run.evaluation, predictions.tags, path)
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
    _write_predictions(run.run_dir, part, predictions.tags, run.run_dir.predictions / "test.jsonl.gz")
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


def _write_predictions(run_dir: RunDir, part: EncodedPart, tags: list[list[str]], path: Path) -> None:
    """For each page its id, words, true and predicted tags, in reading order."""
    run_dir.predictions.mkdir(exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with gzip.open(partial, "wt", encoding="utf-8", compresslevel=6) as file:
        for page, predicted in zip(part.pages, tags, strict=True):
            row = {"page_id": page.page_id, "words": page.words, "true": page.tags, "predicted": predicted}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    partial.replace(path)


def _predictions_of(run_dir: RunDir, step: int) -> Path:
    return run_dir.predictions / f"eval-{step}.jsonl.gz"


def _keep_predictions(run_dir: RunDir, steps: set[int | None]) -> None:
    kept = {_predictions_of(run_dir, step) for step in steps if step is not None}
    for path in run_dir.predictions.glob("eval-*.jsonl.gz"):
        if path not in kept:
            path.unlink()

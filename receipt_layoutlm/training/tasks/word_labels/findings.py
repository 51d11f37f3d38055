"""Findings: problems of a run by its evaluations, each with the options that may solve it. Pure functions."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.check_report import Finding, warning
from receipt_layoutlm.run.events import Evaluation
from receipt_layoutlm.run.word_scores import word_report

GAP: Final = 0.10
"""Tolerated difference between the F1 of training pages and of the validation set."""

ACCURACY_GAP: Final = 0.05
"""Difference between word accuracy and balanced accuracy from which on classes count as unbalanced."""

RISING_EVALUATIONS: Final = 3
RISE: Final = 0.05
"""The evaluation loss is rising if its minimum is at least so many evaluations old and exceeded by this fraction."""

FLAT_EVALUATIONS: Final = 4
FLAT: Final = 0.01
"""The training loss is flat if so many evaluations in a row lie within this fraction of their maximum."""

_DIGITS: Final = 9  # rounds differences, so that the last bit does not decide at a bound
_FLAG: Final = re.compile(r"--[a-z][a-z-]*")


class _Advice(NamedTuple):
    """option: config key of an advice that applies once; None for one that can be followed repeatedly."""

    text: str
    option: str | None = None


_CLASS_WEIGHTS: Final = _Advice("raise --class-weights (sqrt-inverse)", "class_weights")
_SAMPLING: Final = _Advice("oversample pages with rare labels with --balanced-sampling", "balanced_sampling")
_RATIO: Final = _Advice("supervise fewer O words with a lower --o-entity-ratio", "o_entity_ratio")
_SMOOTHING: Final = _Advice("raise --label-smoothing", "label_smoothing")
_PATIENCE: Final = _Advice("stop earlier with --early-stopping-patience", "early_stopping_patience")
_LEARNING_RATE: Final = _Advice("lower --lr")
_FEWER_EPOCHS: Final = _Advice("train for fewer --epochs")
_DROPOUT: Final = _Advice("raise --dropout")


def findings(history: Sequence[Evaluation], config: WordLabelsConfig) -> list[Finding]:
    """Problems of the latest evaluation, most important first; `history` is in order of time.

    Options that the config already sets are not advised. A collapsed model has no other finding, since all others
    would follow from it.
    """
    if not history:
        return []
    if history[-1].collapsed:
        label = next(iter(history[-1].predicted_labels), "one class")
        more = _Advice("raise --warmup-ratio"), _Advice("train for more --epochs")
        advice = _join(config, _LEARNING_RATE, *more, _RATIO)
        return [warning("collapsed", f"every word is predicted as {label}: {advice}")]
    return [finding for check in CHECKS for finding in check(history, config)]


def unrecognised_labels(history: Sequence[Evaluation], config: WordLabelsConfig) -> Iterator[Finding]:
    """Labels with true entities and recall 0."""
    support = {label: row.support for label, row in history[-1].per_label.items() if row.support and not row.recall}
    if support:
        unweighted = [label for label in support if label not in config.label_weight]
        rarest = min(unweighted, key=support.__getitem__, default=None)
        weight = (
            _Advice("--label-weight", "label_weight") if rarest is None else _Advice(f"set --label-weight {rarest}=2")
        )
        advice = _join(config, _CLASS_WEIGHTS, weight, _SAMPLING, _RATIO, _Advice("label more of their entities"))
        labels = ", ".join(f"{label} (support {entities})" for label, entities in support.items())
        yield warning("labels_never_found", f"recall is 0 for {labels}: {advice}", support)


def overfitting(history: Sequence[Evaluation], config: WordLabelsConfig) -> Iterator[Finding]:
    """Training pages score higher than the validation set."""
    train_f1, f1 = history[-1].scores.get("train_f1"), history[-1].scores.get("f1")
    if train_f1 is not None and f1 is not None and round(train_f1 - f1, _DIGITS) > GAP:
        augment, pages = _Advice("vary pages with --augment", "augment"), _Advice("add pages of other merchants")
        advice = _join(config, _DROPOUT, _SMOOTHING, _FEWER_EPOCHS, augment, pages)
        yield warning(
            "overfitting", f"f1 is {train_f1:.3f} on training pages and {f1:.3f} on the validation set: {advice}"
        )


def rising_evaluation_loss(history: Sequence[Evaluation], config: WordLabelsConfig) -> Iterator[Finding]:
    """The evaluation loss rises while the training loss falls."""
    place = min(range(len(history)), key=lambda number: history[number].eval_loss)
    lowest, latest = history[place], history[-1]
    age = len(history) - 1 - place
    if age < RISING_EVALUATIONS or latest.train_loss is None or lowest.train_loss is None:
        return
    if latest.eval_loss >= lowest.eval_loss * (1 + RISE) and latest.train_loss < lowest.train_loss:
        yield warning(
            "evaluation_loss_rising",
            f"since step {lowest.global_step} the evaluation loss rose from {lowest.eval_loss:.4f} to "
            f"{latest.eval_loss:.4f} while the training loss fell: "
            f"{_join(config, _PATIENCE, _FEWER_EPOCHS, _LEARNING_RATE, _SMOOTHING, _DROPOUT)}",
        )


def flat_training_loss(history: Sequence[Evaluation], config: WordLabelsConfig) -> Iterator[Finding]:
    """The training loss no longer changes."""
    recent = history[-FLAT_EVALUATIONS:]
    losses = [evaluation.train_loss for evaluation in recent if evaluation.train_loss is not None]
    if len(losses) == FLAT_EVALUATIONS and min(losses) >= max(losses) * (1 - FLAT):
        yield warning(
            "loss_flat",
            f"the training loss stayed at {losses[-1]:.4f} over the last {FLAT_EVALUATIONS} evaluations: raise --lr "
            f"if the scores are poor; if they are good, save time: {_join(config, _PATIENCE, _FEWER_EPOCHS)}",
        )


def unbalanced_classes(history: Sequence[Evaluation], config: WordLabelsConfig) -> Iterator[Finding]:
    """Accuracy is high because of frequent classes."""
    words = word_report(history[-1].confusion)
    if round(words.word_accuracy - words.balanced_accuracy, _DIGITS) >= ACCURACY_GAP:
        recall, label = min((row.word_recall, label) for label, row in words.rows.items() if row.words)
        focal = _Advice("raise --focal-gamma", "focal_gamma")
        yield warning(
            "unbalanced",
            f"word accuracy is {words.word_accuracy:.3f}, but balanced accuracy only {words.balanced_accuracy:.3f} "
            f"(recall of {label} {recall:.3f}): {_join(config, _CLASS_WEIGHTS, focal, _SAMPLING, _RATIO)}",
        )


CHECKS: Final[Sequence[Callable[[Sequence[Evaluation], WordLabelsConfig], Iterator[Finding]]]] = (
    unrecognised_labels,
    overfitting,
    rising_evaluation_loss,
    flat_training_loss,
    unbalanced_classes,
)


def _join(config: WordLabelsConfig, *advice: _Advice) -> str:
    """The advice that is still open; if it names no option, also the options that are already set."""
    fields = WordLabelsConfig.model_fields
    left = [text for text, option in advice if option is None or getattr(config, option) == fields[option].default]
    text = f"{', '.join(left[:-1])} or {left[-1]}" if len(left) > 1 else "".join(left)
    if "--" in text:
        return text
    flags = _FLAG.findall(" ".join(text for text, _ in advice))
    return "; ".join(filter(None, (text, f"{', '.join(flags)} are already set")))

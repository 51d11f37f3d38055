"""Findings: problems of a run by its evaluations, each with the option that may solve it. Pure functions.

They look at the latest evaluation, and for trends at the ones before it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.check_report import Finding, warning
from receipt_layoutlm.run.events import Evaluation
from receipt_layoutlm.run.word_scores import word_report

GAP: Final = 0.10
"""The score on training pages may be this much above that on evaluation pages."""

ACCURACY_GAP: Final = 0.05
"""Balanced accuracy has to be less than this below the accuracy of words."""

RISING_EVALUATIONS: Final = 3
RISE: Final = 0.05
"""The evaluation loss rises when its lowest was so many evaluations ago and it is this share above that by now."""

FLAT_EVALUATIONS: Final = 4
FLAT: Final = 0.01
"""The training loss is flat when so many evaluations in a row lie within this share of the highest of them."""

_DIGITS: Final = 9  # so that a difference of exactly a bound is not decided by the last bit
_FLAG: Final = re.compile(r"--[a-z][a-z-]*")


class _Knob(NamedTuple):
    """What to turn. option: its key, where it is turned once and for all; None where there is always more to turn."""

    advice: str
    option: str | None = None


_CLASS_WEIGHTS: Final = _Knob("raise --class-weights (sqrt-inverse)", "class_weights")
_SAMPLING: Final = _Knob("show pages with rare labels more often with --balanced-sampling", "balanced_sampling")
_RATIO: Final = _Knob("learn fewer words O with a lower --o-entity-ratio", "o_entity_ratio")
_SMOOTHING: Final = _Knob("raise --label-smoothing", "label_smoothing")
_PATIENCE: Final = _Knob("end earlier with --early-stopping-patience", "early_stopping_patience")
_FEWER_EPOCHS: Final = _Knob("train for fewer --epochs")
_DROPOUT: Final = _Knob("raise --dropout")


def findings(history: Sequence[Evaluation], config: WordLabelsConfig | None = None) -> list[Finding]:
    """Everything that is wrong by the latest of these evaluations, oldest first; none of nothing.

    With the run's options, none is named that is turned already. A model that predicts one class has only that
    said of it: the rest follows from it.
    """
    if not history:
        return []
    if history[-1].collapsed:
        return [_collapsed(history[-1], config)]
    return [
        *_unseen_labels(history[-1], config),
        *_gap(history[-1], config),
        *_rising(history, config),
        *_flat(history, config),
        *_unbalanced(history[-1], config),
    ]


def _to_turn(config: WordLabelsConfig | None, *knobs: _Knob) -> str:
    """What is left to do; where no option is left for it, also which ones are on."""
    left = [knob.advice for knob in knobs if not _is_turned(config, knob.option)]
    text = f"{', '.join(left[:-1])} or {left[-1]}" if len(left) > 1 else "".join(left)
    if "--" in text:
        return text
    flags = _FLAG.findall(" ".join(knob.advice for knob in knobs))
    return "; ".join(filter(None, (text, f"{', '.join(flags)} are on already")))


def _is_turned(config: WordLabelsConfig | None, option: str | None) -> bool:
    if config is None or option is None:
        return False
    return bool(getattr(config, option) != WordLabelsConfig.model_fields[option].default)


def _collapsed(latest: Evaluation, config: WordLabelsConfig | None) -> Finding:
    label = next(iter(latest.predicted_labels), "one class")
    todo = _to_turn(
        config, _Knob("lower --lr"), _Knob("raise --warmup-ratio"), _Knob("train for more --epochs"), _RATIO
    )
    return warning("collapsed", f"every word is predicted as {label}: {todo}")


def _unseen_labels(latest: Evaluation, config: WordLabelsConfig | None) -> Iterator[Finding]:
    support = {label: row.support for label, row in latest.per_label.items() if row.support and not row.recall}
    if support:
        named = ", ".join(f"{label} ({entities})" for label, entities in support.items())
        todo = _to_turn(
            config, _CLASS_WEIGHTS, _label_weight(support, config), _SAMPLING, _RATIO, _Knob("label more of them")
        )
        yield warning("labels_never_found", f"not one of the true entities was found of {named}: {todo}", support)


def _label_weight(support: Mapping[str, int], config: WordLabelsConfig | None) -> _Knob:
    """For the rarest that has no weight of its own yet."""
    plain = [label for label in support if config is None or label not in config.label_weight]
    rarest = min(plain, key=support.__getitem__, default=None)
    return _Knob("--label-weight", "label_weight") if rarest is None else _Knob(f"give --label-weight {rarest}=2")


def _gap(latest: Evaluation, config: WordLabelsConfig | None) -> Iterator[Finding]:
    train_f1, f1 = latest.scores.get("train_f1"), latest.scores.get("f1")
    if train_f1 is not None and f1 is not None and round(train_f1 - f1, _DIGITS) > GAP:
        more = _Knob("add pages of other merchants")
        todo = _to_turn(
            config, _DROPOUT, _SMOOTHING, _FEWER_EPOCHS, _Knob("change pages with --augment", "augment"), more
        )
        yield warning(
            "overfitting",
            f"f1 is {train_f1:.3f} on training pages and {f1:.3f} on the validation set: {todo}",
        )


def _rising(history: Sequence[Evaluation], config: WordLabelsConfig | None) -> Iterator[Finding]:
    place = min(range(len(history)), key=lambda number: history[number].eval_loss)
    lowest, latest = history[place], history[-1]
    ago = len(history) - 1 - place
    if ago < RISING_EVALUATIONS or latest.train_loss is None or lowest.train_loss is None:
        return
    if latest.eval_loss >= lowest.eval_loss * (1 + RISE) and latest.train_loss < lowest.train_loss:
        todo = _to_turn(config, _PATIENCE, _FEWER_EPOCHS, _Knob("lower --lr"), _SMOOTHING, _DROPOUT)
        yield warning(
            "evaluation_loss_rising",
            f"since step {lowest.global_step} the evaluation loss rose from {lowest.eval_loss:.4f} to "
            f"{latest.eval_loss:.4f} while the training loss fell: {todo}",
        )


def _flat(history: Sequence[Evaluation], config: WordLabelsConfig | None) -> Iterator[Finding]:
    losses = [each.train_loss for each in history[-FLAT_EVALUATIONS:] if each.train_loss is not None]
    if len(losses) == FLAT_EVALUATIONS and min(losses) >= max(losses) * (1 - FLAT):
        yield warning(
            "loss_flat",
            f"the training loss stayed at {losses[-1]:.4f} over the last {FLAT_EVALUATIONS} evaluations: raise --lr "
            f"if the scores are poor; if they are good, {_to_turn(config, _PATIENCE, _FEWER_EPOCHS)} to save the time",
        )


def _unbalanced(latest: Evaluation, config: WordLabelsConfig | None) -> Iterator[Finding]:
    words = word_report(latest.confusion)
    if round(words.word_accuracy - words.balanced_accuracy, _DIGITS) >= ACCURACY_GAP:
        worst = min((row.word_recall, label) for label, row in words.rows.items() if row.words)
        todo = _to_turn(config, _CLASS_WEIGHTS, _Knob("raise --focal-gamma", "focal_gamma"), _SAMPLING, _RATIO)
        yield warning(
            "unbalanced",
            f"{words.word_accuracy:.3f} of the words are right, but on average over the classes only "
            f"{words.balanced_accuracy:.3f} (of {worst[1]} {worst[0]:.3f}): {todo}",
        )

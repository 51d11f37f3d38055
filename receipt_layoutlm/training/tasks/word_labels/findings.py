"""Findings: the problem of a run by the curve of its evaluations, with the first option to change. Pure functions.

A score that rises is left alone until the run ends, and the first evaluations say nothing. There is at most one
finding, the one whose remedy comes first.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Final

from pydantic import JsonValue

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.check_report import Finding, warning
from receipt_layoutlm.flags import typed
from receipt_layoutlm.metric_names import LOSS
from receipt_layoutlm.run.events import Evaluation
from receipt_layoutlm.run.word_scores import word_report

EARLY_EVALUATIONS: Final = 4
EARLY_EPOCHS: Final = 2
"""Before so many evaluations and epochs, and during warm-up, scores say little."""

SHORT_EPOCHS: Final = 3
SHORT_STEPS: Final = 100
"""Of a run too short to be judged by its score."""

RECENT: Final = 3
SCORE_STEP: Final = 0.01
"""The score rises if the best of so many evaluations exceeds all earlier ones by this, and falls if it is below."""

LAST_RISE: Final = 0.02
"""Of a score that would go on to rise in a longer run."""

FLAT_EVALUATIONS: Final = 4
"""Evaluations without a rise from which on the score is a plateau."""

HIGH: Final = 0.95
"""A score that needs no advice."""

POOR: Final = 0.5
"""A plateau below this is one of a wrong learning rate rather than of the data."""

GAP: Final = 0.10
"""Tolerated difference between the F1 of training pages and of the validation set."""

LOSS_RISE: Final = 0.05
"""The evaluation loss rises if it exceeds its minimum, which is not recent, by this fraction."""

ACCURACY_GAP: Final = 0.05
"""Difference between word accuracy and balanced accuracy from which on classes count as unbalanced."""

_DIGITS: Final = 9  # rounds differences, so that the last bit does not decide at a bound


@dataclass(frozen=True)
class _Curve:
    """Evaluations in order of time, of a run with this config."""

    history: Sequence[Evaluation]
    config: WordLabelsConfig
    epochs: int

    @property
    def latest(self) -> Evaluation:
        return self.history[-1]

    @cached_property
    def scores(self) -> list[float]:
        """The headline, or F1 where that is a loss."""
        if self.config.metric_for_best == LOSS:
            return [each.scores.get("f1", 0.0) for each in self.history]
        return [each.metric_value for each in self.history]

    @property
    def has_ended(self) -> bool:
        return self.latest.epoch >= self.epochs

    @property
    def is_early(self) -> bool:
        first = max(min(EARLY_EPOCHS, self.epochs / 2), self.config.warmup_ratio * self.epochs)
        return not self.has_ended and (len(self.history) < EARLY_EVALUATIONS or self.latest.epoch < first)

    @property
    def is_short(self) -> bool:
        """Too short to be judged, except by training longer."""
        return self.epochs < SHORT_EPOCHS or self.latest.global_step < SHORT_STEPS

    @property
    def rise(self) -> float:
        """By how much the recent best exceeds the best before it, or the first of few; negative if it is below."""
        recent, before = self.scores[-RECENT:], self.scores[:-RECENT] or self.scores[:1]
        return round(max(recent) - max(before), _DIGITS)

    @property
    def is_rising(self) -> bool:
        return self.rise >= SCORE_STEP and self.scores[-1] > min(self.scores[-RECENT:])

    @property
    def best(self) -> Evaluation:
        return self.history[max(range(len(self.history)), key=self.scores.__getitem__)]

    @cached_property
    def lowest_loss(self) -> Evaluation | None:
        """The evaluation from which on the loss rises while the training loss falls; None if it does not."""
        place = min(range(len(self.history)), key=lambda number: self.history[number].eval_loss)
        lowest, latest = self.history[place], self.latest
        if len(self.history) - 1 - place < RECENT or latest.train_loss is None or lowest.train_loss is None:
            return None
        is_rising = latest.eval_loss >= lowest.eval_loss * (1 + LOSS_RISE) and latest.train_loss < lowest.train_loss
        return lowest if is_rising else None


def findings(history: Sequence[Evaluation], config: WordLabelsConfig, pretraining_epochs: int = 0) -> list[Finding]:
    """The finding of the latest evaluation, if there is any; `history` is in order of time.

    An option that the config already sets is not advised again.
    """
    if not history:
        return []
    curve = _Curve(history, config, config.epochs + pretraining_epochs)
    if curve.is_early:
        return []
    checks = CHECKS
    if curve.is_rising and not curve.latest.collapsed:
        checks = AT_THE_END if curve.has_ended else ()
    return list(islice((finding for check in checks for finding in check(curve)), 1))


def collapsed(curve: _Curve) -> Iterator[Finding]:
    """One class is predicted for every word."""
    if curve.latest.collapsed:
        config, label = curve.config, next(iter(curve.latest.predicted_labels), "one class")
        text = f"every word is predicted as {label}"
        if max(curve.scores) > POOR:
            yield _finding(
                "collapsed", f"{text}, although the score was {max(curve.scores):.2f}", {"lr": config.lr / 2}
            )
        elif (rate := _usual_rate(config)) is not None:
            yield _finding("collapsed", text, {"lr": rate})
        elif curve.is_short or config.o_entity_ratio is not None:
            yield _finding("collapsed", text, _longer(config))
        else:
            yield _finding("collapsed", text, {"o_entity_ratio": 2.0})


def still_rising(curve: _Curve) -> Iterator[Finding]:
    """The run ended while the score rose, or before it could tell."""
    last = curve.scores[-1]
    if not curve.has_ended or last >= HIGH:
        return
    if last == max(curve.scores) and curve.rise >= LAST_RISE:
        shown = ", ".join(f"{value:.2f}" for value in curve.scores[-EARLY_EVALUATIONS:])
        yield _finding("still_rising", f"the score still rose when the run ended ({shown})", _longer(curve.config))
    elif curve.is_short:
        text = f"{curve.latest.global_step} steps are too few to judge the run by its score, {last:.2f}"
        yield _finding("too_short", text, _longer(curve.config))


def unrecognised_labels(curve: _Curve) -> Iterator[Finding]:
    """Labels with true entities and recall 0."""
    rows = curve.latest.per_label.items()
    support = {label: row.support for label, row in rows if row.support and not row.recall}
    if not support:
        return
    unweighted = [label for label in support if label not in curve.config.label_weight]
    rarest = min(unweighted, key=support.__getitem__, default=None)
    weights: dict[str, JsonValue] = {**curve.config.label_weight}
    remedies: list[dict[str, JsonValue]] = [
        _unset(curve.config, "class_weights", "sqrt-inverse"),
        {"label_weight": {**weights, rarest: 2.0}} if rarest is not None else {},
        _unset(curve.config, "balanced_sampling", True),
        _unset(curve.config, "o_entity_ratio", 2.0),
    ]
    labels = ", ".join(f"{label} (support {entities})" for label, entities in support.items())
    text = f"recall is 0 for {labels}"
    yield _finding("labels_never_found", text, _first(remedies), "label more of their entities", support)


def overfitting(curve: _Curve) -> Iterator[Finding]:
    """The score falls while the evaluation loss rises, or training pages score much higher."""
    best, latest = curve.best, curve.latest
    lowest = curve.lowest_loss
    train_f1, f1 = latest.scores.get("train_f1"), latest.scores.get("f1")
    if lowest is not None and -curve.rise >= SCORE_STEP:
        text = (
            f"since step {best.global_step} the score fell from {max(curve.scores):.3f} to {curve.scores[-1]:.3f}, and "
            f"since step {lowest.global_step} the evaluation loss rose from {lowest.eval_loss:.4f} to "
            f"{latest.eval_loss:.4f}"
        )
    elif train_f1 is not None and f1 is not None and round(train_f1 - f1, _DIGITS) > GAP:
        text = f"f1 is {train_f1:.3f} on training pages and {f1:.3f} on the validation set, and rises no more"
    else:
        return
    remedies = [
        _unset(curve.config, "augment", ["entities", "drop", "ocr", "boxes"]),
        _unset(curve.config, "early_stopping_patience", RECENT),
        _unset(curve.config, "dropout", 0.2),
    ]
    yield _finding("overfitting", text, _first(remedies), "add pages of other merchants")


def rising_evaluation_loss(curve: _Curve) -> Iterator[Finding]:
    """The evaluation loss rises at a score that does not change: the model gets too confident."""
    if (lowest := curve.lowest_loss) is not None:
        text = (
            f"since step {lowest.global_step} the evaluation loss rose from {lowest.eval_loss:.4f} to "
            f"{curve.latest.eval_loss:.4f} while the score stayed at {curve.scores[-1]:.3f}"
        )
        remedies = [
            _unset(curve.config, "label_smoothing", 0.1),
            _unset(curve.config, "early_stopping_patience", RECENT),
        ]
        yield _finding("evaluation_loss_rising", text, _first(remedies), "use the confidences after calibration")


def poor_plateau(curve: _Curve) -> Iterator[Finding]:
    """A low score that no longer changes, at an unusual learning rate."""
    rate = _usual_rate(curve.config)
    if curve.scores[-1] < POOR and _is_flat(curve) and rate is not None:
        yield _finding("plateau", f"the score stays at {curve.scores[-1]:.3f}", {"lr": rate})


def unbalanced_classes(curve: _Curve) -> Iterator[Finding]:
    """Accuracy is high because of frequent classes."""
    words = word_report(curve.latest.confusion)
    if round(words.word_accuracy - words.balanced_accuracy, _DIGITS) < ACCURACY_GAP:
        return
    recall, label = min((row.word_recall, label) for label, row in words.rows.items() if row.words)
    text = (
        f"word accuracy is {words.word_accuracy:.3f}, but balanced accuracy only {words.balanced_accuracy:.3f} "
        f"(recall of {label} {recall:.3f})"
    )
    remedies = [
        _unset(curve.config, "class_weights", "sqrt-inverse"),
        _unset(curve.config, "o_entity_ratio", 2.0),
        _unset(curve.config, "balanced_sampling", True),
    ]
    if remedy := _first(remedies):
        yield _finding("unbalanced", text, remedy)


def plateau(curve: _Curve) -> Iterator[Finding]:
    """The score no longer changes."""
    if curve.scores[-1] < HIGH and _is_flat(curve):
        text = f"the score has stayed at {curve.scores[-1]:.3f} for {FLAT_EVALUATIONS} evaluations"
        if remedy := _unset(curve.config, "early_stopping_patience", RECENT):
            yield _finding("plateau", f"{text}; the best weights are kept, so stopping earlier saves time", remedy)


CHECKS: Final[Sequence[Callable[[_Curve], Iterator[Finding]]]] = (
    collapsed,
    still_rising,
    unrecognised_labels,
    overfitting,
    rising_evaluation_loss,
    poor_plateau,
    unbalanced_classes,
    plateau,
)

AT_THE_END: Final = (still_rising, unrecognised_labels, unbalanced_classes)
"""Checks of a run that has ended with a rising score."""


def _is_flat(curve: _Curve) -> bool:
    before, recent = curve.scores[:-FLAT_EVALUATIONS], curve.scores[-FLAT_EVALUATIONS:]
    return bool(before) and max(recent) - max(before) < SCORE_STEP and max(recent) - min(recent) < SCORE_STEP


def _usual_rate(config: WordLabelsConfig) -> float | None:
    """The learning rate of the recipe for these weights; None if the run's is within a factor of two."""
    usual = config.recipes["receipts"].variant(config.pretrained).options["lr"]
    assert isinstance(usual, float)
    return None if usual / 2 <= config.lr <= usual * 2 else usual


def _longer(config: WordLabelsConfig) -> dict[str, JsonValue]:
    return {"epochs": 2 * config.epochs}


def _unset(config: WordLabelsConfig, option: str, value: JsonValue) -> dict[str, JsonValue]:
    """The option with this value, unless the run sets it already."""
    return {option: value} if getattr(config, option) == WordLabelsConfig.model_fields[option].default else {}


def _first(remedies: Iterable[dict[str, JsonValue]]) -> dict[str, JsonValue]:
    return next(filter(None, remedies), {})


def _finding(
    check: str, text: str, remedy: dict[str, JsonValue], otherwise: str = "", examples: Iterable[str] = ()
) -> Finding:
    """A finding with the options to try, or what else to do."""
    words = [word for name, value in remedy.items() for word in typed(name, value)]
    advice = f"try {' '.join(words)}" if words else otherwise
    return warning(check, f"{text}: {advice}", examples).model_copy(update={"remedy": remedy})

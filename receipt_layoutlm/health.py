"""What is wrong with a training run, from its evaluations, each with the option to turn. Pure functions.

It looks at the latest evaluation, and for trends at the ones before it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from receipt_layoutlm.check_report import Finding, warning
from receipt_layoutlm.events import Evaluation
from receipt_layoutlm.word_report import word_report

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


def health(history: Sequence[Evaluation]) -> list[Finding]:
    """Everything that is wrong by the latest of these evaluations, oldest first; none of nothing.

    A model that predicts one class has only that said of it: the rest follows from it.
    """
    if not history:
        return []
    if history[-1].collapsed:
        return [_collapsed(history[-1])]
    return [
        *_unseen_labels(history[-1]),
        *_gap(history[-1]),
        *_rising(history),
        *_flat(history),
        *_unbalanced(history[-1]),
    ]


def health_lines(findings: Iterable[Finding]) -> list[str]:
    """One line a finding, for terminal, log and report."""
    return [f"{finding.check}: {finding.message}" for finding in findings]


def _collapsed(latest: Evaluation) -> Finding:
    label = next(iter(latest.predicted_labels), "one class")
    return warning(
        "collapsed",
        f"every word is predicted as {label}: lower --lr or raise --warmup-ratio, train for more --epochs, or learn "
        "fewer words O with a lower --o-entity-ratio",
    )


def _unseen_labels(latest: Evaluation) -> Iterator[Finding]:
    support = {label: row.support for label, row in latest.per_label.items() if row.support and not row.recall}
    if support:
        named = ", ".join(f"{label} ({entities})" for label, entities in support.items())
        rarest = min(support, key=support.__getitem__)
        yield warning(
            "labels_never_found",
            f"not one of the true entities was found of {named}: raise --class-weights (sqrt-inverse) or "
            f"--label-weight {rarest}=2, show their pages more often with --balanced-sampling, lower "
            "--o-entity-ratio, or label more of them",
            support,
        )


def _gap(latest: Evaluation) -> Iterator[Finding]:
    if latest.train_f1 is not None and latest.f1 is not None and round(latest.train_f1 - latest.f1, _DIGITS) > GAP:
        yield warning(
            "overfitting",
            f"f1 is {latest.train_f1:.3f} on pages it was trained on and {latest.f1:.3f} on others: raise --dropout or "
            "--label-smoothing, train for fewer --epochs, change pages with --augment, or add pages of other merchants",
        )


def _rising(history: Sequence[Evaluation]) -> Iterator[Finding]:
    place = min(range(len(history)), key=lambda number: history[number].eval_loss)
    lowest, latest = history[place], history[-1]
    ago = len(history) - 1 - place
    if ago < RISING_EVALUATIONS or latest.train_loss is None or lowest.train_loss is None:
        return
    if latest.eval_loss >= lowest.eval_loss * (1 + RISE) and latest.train_loss < lowest.train_loss:
        yield warning(
            "evaluation_loss_rising",
            f"since step {lowest.global_step} the evaluation loss rose from {lowest.eval_loss:.4f} to "
            f"{latest.eval_loss:.4f} while the training loss fell: end earlier with --early-stopping-patience or fewer "
            "--epochs, lower --lr, or raise --label-smoothing or --dropout",
        )


def _flat(history: Sequence[Evaluation]) -> Iterator[Finding]:
    losses = [each.train_loss for each in history[-FLAT_EVALUATIONS:] if each.train_loss is not None]
    if len(losses) == FLAT_EVALUATIONS and min(losses) >= max(losses) * (1 - FLAT):
        yield warning(
            "loss_flat",
            f"the training loss stayed at {losses[-1]:.4f} over the last {FLAT_EVALUATIONS} evaluations: raise --lr "
            "if the scores are poor; if they are good, save the time with --early-stopping-patience or fewer --epochs",
        )


def _unbalanced(latest: Evaluation) -> Iterator[Finding]:
    words = word_report(latest.confusion)
    if round(words.word_accuracy - words.balanced_accuracy, _DIGITS) >= ACCURACY_GAP:
        worst = min((row.word_recall, label) for label, row in words.rows.items() if row.words)
        yield warning(
            "unbalanced",
            f"{words.word_accuracy:.3f} of the words are right, but on average over the classes only "
            f"{words.balanced_accuracy:.3f} (of {worst[1]} {worst[0]:.3f}): raise --class-weights (sqrt-inverse) or "
            "--focal-gamma, turn on --balanced-sampling, or lower --o-entity-ratio",
        )

"""By which number weights are the best ones: its name, its value in an evaluation, and the guard beside it."""

from receipt_layoutlm.metric_names import LOSS, Guard, label_in
from receipt_layoutlm.run.events import Evaluation


def headline_name(name: str) -> str:
    """Under which name the headline is stored. A loss is negated, since a headline is better when it is greater."""
    return f"negative_eval_{LOSS}" if name == LOSS else f"eval_{name}"


def value_in(evaluation: Evaluation, name: str) -> float:
    """The metric's value; a label that nobody learned counts 0. Greater is better, so a loss is negated."""
    if name == LOSS:
        return -evaluation.eval_loss
    if (label := label_in(name)) is not None:
        row = evaluation.per_label.get(label)
        return 0.0 if row is None else float(getattr(row, name.partition("_")[0]))
    value = getattr(evaluation, name)
    return 0.0 if value is None else float(value)


def keeps(guard: Guard, history: list[Evaluation], new: Evaluation) -> bool:
    """Whether a new evaluation holds the guard against the best before it."""
    best = max((value_in(each, guard.metric) for each in history), default=0.0)
    return value_in(new, guard.metric) >= guard.share * best

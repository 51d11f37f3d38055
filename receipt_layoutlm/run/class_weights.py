"""Class weights of a run, as stored in its record."""

from pydantic import BaseModel, ConfigDict

from receipt_layoutlm.configs.word_labels import ClassWeightScheme
from receipt_layoutlm.data.labels import OUTSIDE


class ClassWeights(BaseModel):
    """The loss weight of each label's words, including O.

    words: number of words in the training set. clipped: labels whose weight was outside the bounds.
    """

    model_config = ConfigDict(frozen=True)

    scheme: ClassWeightScheme
    weights: dict[str, float]
    words: dict[str, int]
    clipped: tuple[str, ...]

    @property
    def is_plain(self) -> bool:
        """Whether all weights are equal, so that the loss needs none."""
        return len(set(self.weights.values())) == 1


def weights_text(weights: ClassWeights) -> str:
    """One line: each label's weight with its words in the training set, and the clipped weights."""
    labels = sorted(weights.weights, key=lambda label: (label != OUTSIDE, label))  # a stored document has no order
    rows = [f"{label} {weights.weights[label]:.3g} ({weights.words[label]} words)" for label in labels]
    clipped = f"; clipped: {', '.join(weights.clipped)}" if weights.clipped else ""
    return f"{weights.scheme}: {', '.join(rows)}{clipped}"

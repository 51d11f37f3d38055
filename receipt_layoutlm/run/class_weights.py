"""Class weights of a run as its record keeps them."""

from pydantic import BaseModel, ConfigDict

from receipt_layoutlm.configs.word_labels import ClassWeightScheme
from receipt_layoutlm.data.labels import OUTSIDE


class ClassWeights(BaseModel):
    """What each label's words weigh, O among them; the run record keeps it.

    words: of the training part. clipped: the labels whose weight lay outside the bounds.
    """

    model_config = ConfigDict(frozen=True)

    scheme: ClassWeightScheme
    weights: dict[str, float]
    words: dict[str, int]
    clipped: tuple[str, ...]

    @property
    def is_plain(self) -> bool:
        """Whether all weigh the same, so that the loss needs none."""
        return len(set(self.weights.values())) == 1


def weights_text(weights: ClassWeights) -> str:
    """One line: each label's weight with its words in the training part, and which weights were clipped."""
    labels = sorted(weights.weights, key=lambda label: (label != OUTSIDE, label))  # a store gives them in any order
    rows = [f"{label} {weights.weights[label]:.3g} ({weights.words[label]} words)" for label in labels]
    clipped = f"; clipped: {', '.join(weights.clipped)}" if weights.clipped else ""
    return f"{weights.scheme}: {', '.join(rows)}{clipped}"

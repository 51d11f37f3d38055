"""Recipes: options of a training that belong together, by name. A recipe belongs to a task.

What a person gives ranks above a recipe, and a recipe above the defaults. Figures are of docs/findings/accuracy.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

SMALL_WEIGHTS: Final = "minilm"
UNMEASURED: Final = "not measured"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The options of a recipe for some weights, and what they reach on SROIE with new merchants, on one CPU thread."""

    weights: str | None  # a value of --pretrained; None: any other
    options: Mapping[str, object]
    f1: str = UNMEASURED
    cpu_time: str = UNMEASURED
    memory: str = UNMEASURED
    is_default: bool = False  # the recipe of these weights unless another is named
    source: str = ""  # of values that were not measured here


@dataclass(frozen=True)
class Recipe:
    """A recipe; `pretrained` are the weights of a run that names none."""

    purpose: str
    variants: tuple[Variant, ...]
    pretrained: str | None = None

    def variant(self, pretrained: str) -> Variant:
        """The variant for these weights."""
        return next(each for each in self.variants if each.weights in (pretrained, None))


_QUICK: Final = Variant(weights=None, options={"sample_size": 200, "epochs": 3})

COMMON_RECIPES: Final[Mapping[str, Recipe]] = {"quick": Recipe("A trial of data and options.", (_QUICK,))}
"""Of a task without recipes of its own."""

_RECEIPTS: Final[Mapping[str, object]] = {
    "label_smoothing": 0.1,
    "augment": ("entities", "drop", "ocr", "boxes"),
    "single_valued_labels": ("MERCHANT_NAME", "ADDRESS_LINE", "GRAND_TOTAL"),
}

WORD_LABELS_RECIPES: Final[Mapping[str, Recipe]] = {
    "receipts": Recipe(
        "Receipts, also of merchants that are not in the training set.",
        (
            Variant(
                weights=SMALL_WEIGHTS,
                options={"epochs": 12, "batch_size": 8, "lr": 4e-4, **_RECEIPTS},
                f1="0.890 ± 0.010",
                cpu_time="19 min",
                memory="3.2 GB",
                is_default=True,
            ),
            Variant(
                weights=None,
                options={"epochs": 20, "early_stopping_patience": 5, "batch_size": 16, "lr": 5e-5, **_RECEIPTS},
                source="for base size on a GPU: learning rate and batch size as usual for LayoutLM, epochs and "
                "patience of the original system, the rest as measured with minilm",
            ),
        ),
        pretrained=SMALL_WEIGHTS,
    ),
    "quick": Recipe(
        "A trial of data and options in minutes, not for its score.",
        (
            Variant(
                weights=SMALL_WEIGHTS,
                options={**_QUICK.options, "lr": 4e-4},
                f1="0.487",
                cpu_time="3.7 min",
                memory="2.0 GB",
            ),
            _QUICK,
        ),
    ),
    "original": Recipe(
        "The defaults of the original system, which are those of the options.",
        (
            Variant(weights=SMALL_WEIGHTS, options={}),
            Variant(weights=None, options={}, is_default=True, source="the field's usual values for base size"),
        ),
    ),
}

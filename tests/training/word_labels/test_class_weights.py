"""Class weights: definitions, bounds, and factors of individual labels."""

import pytest

from receipt_layoutlm.configs.word_labels import ClassWeightScheme
from receipt_layoutlm.run.class_weights import ClassWeights
from receipt_layoutlm.training.tasks.word_labels.class_weights import class_weights

WORDS = {"O": 800, "DATE": 100, "TAX": 2, "TIP": 0}
WIDE = (0.0, 1e9)


def weigh(scheme: ClassWeightScheme, clip: tuple[float, float] = WIDE, **factors: float) -> ClassWeights:
    return class_weights(scheme, WORDS, clip, factors)


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("none", {"O": 1.0, "DATE": 1.0, "TAX": 1.0}),
        ("inverse", {"O": 1.0, "DATE": 8.0, "TAX": 400.0}),
        ("sqrt-inverse", {"O": 1.0, "DATE": 8**0.5, "TAX": 20.0}),
        ("balanced", {"O": 902 / 2400, "DATE": 902 / 300, "TAX": 902 / 6}),
        ("effective", {"O": 1.0, "DATE": 7.7, "TAX": 384.5}),
    ],
)
def test_each_scheme_follows_its_definition(scheme: ClassWeightScheme, expected: dict[str, float]) -> None:
    weights = weigh(scheme).weights
    assert {label: weights[label] for label in expected} == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("scheme", ["none", "inverse", "sqrt-inverse", "balanced", "effective"])
def test_a_label_without_words_weighs_one(scheme: ClassWeightScheme) -> None:
    assert weigh(scheme).weights["TIP"] == 1.0


def test_what_lies_outside_the_bounds_is_clipped_and_named() -> None:
    found = weigh("inverse", clip=(0.5, 10.0))
    assert (found.weights["TAX"], found.weights["DATE"]) == (10.0, 8.0)
    assert found.clipped == ("TAX",)


def test_factors_come_after_the_bounds() -> None:
    found = weigh("inverse", clip=(0.5, 10.0), TAX=2.0)
    assert found.weights["TAX"] == 20.0


def test_factors_alone_are_a_table_by_label() -> None:
    found = weigh("none", DATE=3.0)
    assert (found.weights["DATE"], found.weights["TAX"]) == (3.0, 1.0)
    assert not found.is_plain


def test_without_scheme_and_factors_the_loss_needs_no_weights() -> None:
    assert weigh("none").is_plain

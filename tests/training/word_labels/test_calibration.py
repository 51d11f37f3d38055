"""The temperature is of maximum likelihood, and the calibration error follows its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from receipt_layoutlm.training.tasks.word_labels.scoring.calibration import (
    COLDEST,
    HOTTEST,
    FloatArray,
    IntArray,
    calibration,
    fit_temperature,
)

C = 5


def drawn(words: int, scale: float = 2.0) -> tuple[FloatArray, IntArray]:
    """Logits, and labels drawn by the probabilities that these mean: perfectly calibrated."""
    draw = np.random.default_rng(7)
    logits = draw.normal(0, scale, (words, C))
    gumbel = draw.gumbel(size=(words, C))
    return logits, (logits + gumbel).argmax(-1)


def log_softmax(logits: FloatArray) -> FloatArray:
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("k", [0.25, 0.5, 1, 3, 8])
def test_scaled_logits_get_their_scale_as_temperature(k: float) -> None:
    logits, labels = drawn(20_000)
    assert fit_temperature(logits * k, labels) == pytest.approx(k, rel=0.02)
    unscaled = fit_temperature(logits, labels)
    assert fit_temperature(logits * k, labels) == pytest.approx(unscaled * k, rel=1e-6)


def test_log_probabilities_are_as_good_as_logits() -> None:
    logits, labels = drawn(2_000)
    assert fit_temperature(log_softmax(3 * logits), labels) == pytest.approx(fit_temperature(3 * logits, labels))
    assert calibration(log_softmax(logits), labels).ece == pytest.approx(calibration(logits, labels).ece)


def test_a_perfectly_calibrated_sample_has_almost_no_error_and_an_overconfident_one_has() -> None:
    logits, labels = drawn(40_000)
    assert calibration(logits, labels).ece < 0.01
    assert calibration(4 * logits, labels).ece > 0.1
    assert calibration(4 * logits, labels, fit_temperature(4 * logits, labels)).ece < 0.01


@given(
    arrays(np.float32, (12, C), elements=st.floats(-30, 30, width=32)),
    arrays(np.int64, 12, elements=st.integers(-1, C - 1)),
)
def test_the_likelihood_never_gets_worse_and_no_nearby_temperature_is_better(
    logits: FloatArray, labels: IntArray
) -> None:
    temperature = fit_temperature(logits, labels)
    fitted = calibration(logits, labels, temperature).nll
    assert COLDEST <= temperature <= HOTTEST
    assert fitted <= calibration(logits, labels).nll
    if (logits.max(-1) == logits[np.arange(12), labels])[labels >= 0].all():
        return  # no word is wrong: always surer would be likelier
    for other in (temperature * 0.97, temperature * 1.03):
        if COLDEST <= other <= HOTTEST:
            assert fitted <= calibration(logits, labels, other).nll + 1e-6


def test_nothing_is_learned_from_no_words_or_from_words_that_are_all_right() -> None:
    logits, _ = drawn(50)
    assert fit_temperature(logits[:0], np.zeros(0, np.int64)) == 1
    assert fit_temperature(logits, np.full(50, -100)) == 1
    assert fit_temperature(logits, logits.argmax(-1)) == 1
    empty = calibration(logits, np.full(50, -100), 2.0)
    assert (empty.words, empty.ece, empty.nll, empty.reliability, empty.temperature) == (0, 0, 0, (), 2.0)


def test_unlabelled_words_do_not_count() -> None:
    logits, labels = drawn(100)
    known = np.where(np.arange(100) % 2, labels, -100)
    assert calibration(logits, known) == calibration(logits[1::2], labels[1::2])
    assert fit_temperature(3 * logits, known) == fit_temperature(3 * logits[1::2], labels[1::2])


def test_an_impossible_class_is_no_obstacle() -> None:
    logits, labels = drawn(2_000)
    wider = np.concatenate((logits, np.full((2_000, 1), -np.inf)), axis=1)
    assert fit_temperature(3 * wider, labels) == pytest.approx(fit_temperature(3 * logits, labels))


def of_confidence(*confidences: float) -> FloatArray:
    """Two classes; class 0 has this probability."""
    return np.log(np.array([[each, 1 - each] for each in confidences]))


def test_the_error_is_the_distance_of_each_bin_weighted_by_its_words() -> None:
    scores = of_confidence(0.9, 0.92, 0.91, 0.6)
    found = calibration(scores, np.array([0, 0, 1, 0]))
    # bins of 1/15: (0.8667, 0.9333] holds three with 2 of 3 right, (0.5333, 0.6] one that is right
    assert [(row.words, round(row.low * 15), round(row.high * 15)) for row in found.reliability] == [
        (1, 8, 9),
        (3, 13, 14),
    ]
    assert [row.accuracy for row in found.reliability] == pytest.approx([1, 2 / 3])
    assert [row.confidence for row in found.reliability] == pytest.approx([0.6, 0.91])
    assert found.ece == pytest.approx((0.4 + 3 * (0.91 - 2 / 3)) / 4)
    assert found.nll == pytest.approx(-np.log([0.9, 0.92, 0.09, 0.6]).mean())


def test_certain_words_are_in_the_last_bin() -> None:
    found = calibration(np.array([[0.0, -100.0]]), np.array([0]))
    assert (found.reliability[0].high, found.ece) == (1, 0)

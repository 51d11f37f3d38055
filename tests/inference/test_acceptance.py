"""Which fields may be accepted unseen: thresholds, their bound, and the doubts about the others."""

import math
import random
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from receipt_layoutlm.inference.acceptance import (
    CONFIDENCE,
    Acceptance,
    AcceptanceRule,
    CalibrationError,
    CheckedField,
    ErrorClusters,
    Threshold,
    fields_needed,
    single_labels,
    threshold,
    upper_bound,
)
from receipt_layoutlm.inference.certainty import Certainty, certainties


def fields(right: Sequence[bool], groups: int = 10_000) -> list[CheckedField]:
    """Fields from the most certain to the least."""
    return [
        CheckedField(certainty=1 - place / len(right) / 2, right=each, group=place % groups)
        for place, each in enumerate(right)
    ]


def design_effect(of: Sequence[CheckedField]) -> Fraction:
    clusters = ErrorClusters()
    for field in of:
        clusters.add(field)
    return clusters.design_effect


def binomial_tail(errors: int, count: int, share: float) -> float:
    """Probability of at most so many errors."""
    return sum(math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(errors + 1))


@pytest.mark.parametrize(("errors", "count"), [(0, 59), (1, 200), (7, 400), (30, 90)])
def test_the_bound_is_the_share_that_makes_so_few_errors_improbable(errors: int, count: int) -> None:
    bound = upper_bound(errors, count)
    assert binomial_tail(errors, count, bound) == pytest.approx(1 - CONFIDENCE, rel=1e-5)
    assert upper_bound(count, count) == 1


@pytest.mark.parametrize("max_error", [0.01, 0.02, 0.05])
def test_right_fields_are_accepted_once_there_are_enough_of_them(max_error: float) -> None:
    enough = fields_needed(max_error)
    assert threshold(fields([True] * (enough - 1)), max_error, ("A",)).certainty is None
    found = threshold(fields([True] * enough), max_error, ("A",))
    assert (found.fields, found.errors) == (enough, 0)
    assert found.bound <= max_error


def test_the_threshold_lies_before_the_errors_that_are_too_many() -> None:
    found = threshold(fields([True] * 300 + [False] * 100), 0.02, ("A",))
    assert 300 <= found.fields <= 302
    assert found.certainty == pytest.approx(1 - (found.fields - 1) / 800)


def test_fields_of_equal_certainty_are_accepted_together_or_not() -> None:
    equal = [CheckedField(certainty=0.9, right=place >= 40, group=place) for place in range(400)]
    assert threshold(equal, 0.05, ("A",)).certainty is None


def test_a_field_without_certainty_is_never_accepted() -> None:
    unread = [CheckedField(certainty=0, right=True, group=place) for place in range(400)]
    assert threshold(unread, 0.05, ("A",)).certainty is None


def test_a_field_that_is_more_likely_wrong_than_right_is_never_accepted() -> None:
    """However many others have no error: the next merchant may have nothing but such fields."""
    sure = [CheckedField(certainty=0.9, right=True, group=place) for place in range(300)]
    doubtful = [CheckedField(certainty=certainty, right=True, group=300) for certainty in (0.51, 0.49)]
    assert threshold([*sure, *doubtful], 0.05, ("A",)).certainty == 0.51


def test_errors_of_one_merchant_count_as_fewer_fields() -> None:
    spread = [CheckedField(certainty=0.9, right=place % 100 != 0, group=place // 10) for place in range(500)]
    together = [CheckedField(certainty=0.9, right=place >= 5, group=place // 10) for place in range(500)]
    assert design_effect(spread) < 1.5
    assert design_effect(together) > 4
    assert threshold(spread, 0.03, ("A",)).certainty == 0.9
    assert threshold(together, 0.03, ("A",)).certainty is None


def test_the_promise_holds_for_independent_fields() -> None:
    """Of 300 calibrations at 5 %, by a model whose certainty is its probability to be right."""
    source, broken = random.Random(1), 0
    for _ in range(300):
        drawn = [source.random() ** 0.2 for _ in range(300)]
        found = threshold(
            [
                CheckedField(certainty=certainty, right=source.random() < certainty, group=place)
                for place, certainty in enumerate(drawn)
            ],
            0.05,
            ("A",),
        )
        if found.certainty is not None:
            # mean of 1 - c over the accepted, c being the 0.2th power of a uniform number
            accepted = np.linspace(found.certainty**5, 1, 1001) ** 0.2
            broken += float(1 - accepted.mean()) > 0.05
    assert broken <= 0.08 * 300


def acceptance(**of: list[CheckedField]) -> Acceptance:
    return Acceptance(model="m", pages=9, groups=9, single=("TOTAL",), fields={k: tuple(v) for k, v in of.items()})


def test_a_label_with_few_fields_shares_its_promise_and_one_with_many_has_its_own() -> None:
    found = acceptance(MANY=fields([True] * 400), FEW=fields([True] * 50), RARE=fields([True] * 20)).thresholds(0.05)
    assert found["MANY"].labels == ("MANY",)
    assert found["FEW"].labels == found["RARE"].labels == ("FEW", "RARE")
    assert found["FEW"] == found["RARE"]
    assert found["FEW"].fields == 70


def test_labels_are_single_where_nearly_every_page_has_one_value() -> None:
    pages = [{"TOTAL": 1, "ITEM": 1 + place % 2} for place in range(100)]
    pages[0]["TOTAL"] = 2
    assert single_labels(pages) == ("TOTAL",)


NAMES = ["O", "B-TOTAL", "I-TOTAL"]


def log_probs(of_total: Sequence[float]) -> np.ndarray:
    """(words, classes) of words whose probability of TOTAL is given."""
    return np.log([[1 - p, p * 0.75, p * 0.25] for p in of_total])


def test_certainty_has_the_words_the_ends_and_the_rival_of_an_entity() -> None:
    words, tags = ("sum", "1.00", "RM", "pay", "2.00"), ("O", "B-TOTAL", "I-TOTAL", "O", "O")
    (found,) = certainties(words, tags, log_probs([0.1, 0.9, 0.8, 0.2, 0.4]), NAMES)
    assert found.words == pytest.approx(0.8)
    assert found.ends == pytest.approx(0.9 * 0.8)
    assert (found.rival, found.rival_word) == (pytest.approx(0.4), 4)
    assert found.value(single=True) == pytest.approx(0.8 * 0.72 * 0.6)
    assert found.value(single=False) == pytest.approx(0.8 * 0.72)


def test_the_same_text_printed_again_is_no_rival() -> None:
    words, tags = ("1.00", "paid", "1.00"), ("B-TOTAL", "O", "O")
    (found,) = certainties(words, tags, log_probs([0.9, 0.1, 0.6]), NAMES)
    assert found.rival == pytest.approx(0.1)
    (alone,) = certainties(("1.00",), ("B-TOTAL",), log_probs([0.9]), NAMES)
    assert (alone.rival, alone.rival_word) == (0, None)


@pytest.mark.parametrize(
    ("certainty", "doubt"),
    [
        (Certainty(0.9, 0.9, 0.1, 0), None),
        (Certainty(0.5, 0.9, 0.1, 0), "low confidence"),
        (Certainty(0.9, 0.5, 0.1, 0), "its first or last word is uncertain"),
        (Certainty(0.9, 0.9, 0.6, 1), "another candidate: 2.00"),
    ],
)
def test_the_doubt_names_what_is_least_certain(certainty: Certainty, doubt: str | None) -> None:
    limit = Threshold(0.6, 100, 0, 0.03, ("TOTAL",))
    rule = AcceptanceRule(0.05, frozenset({"TOTAL"}), {"TOTAL": limit})
    assert rule.doubt("TOTAL", certainty, ("1.00", "2.00")) == doubt


def test_too_few_calibration_fields_are_said_to_be_the_reason() -> None:
    rule = acceptance(TOTAL=fields([True] * 20)).rule(0.01)
    sure = Certainty(1, 1, 0, None)
    for label in ("TOTAL", "NEVER_SEEN"):
        assert rule.doubt(label, sure, ()) == (
            "the calibration has too few fields that are right to promise at most 1.0% errors"
        )


def test_a_calibration_of_other_weights_a_damaged_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "acceptance.json"
    with pytest.raises(CalibrationError, match="run `layoutlm-cli calibrate`"):
        Acceptance.read(tmp_path, "m")
    path.write_text(acceptance(TOTAL=fields([True])).model_dump_json())
    assert Acceptance.read(tmp_path, "m").single == ("TOTAL",)
    with pytest.raises(CalibrationError, match="other weights"):
        Acceptance.read(tmp_path, "n")
    path.write_text("{")
    with pytest.raises(CalibrationError, match="damaged"):
        Acceptance.read(tmp_path, "m")

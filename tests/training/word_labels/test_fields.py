"""A field value counts by its text, once a page, at any position; amounts by their number."""

import pytest

from receipt_layoutlm.run.scores import LabelScore
from receipt_layoutlm.training.tasks.word_labels.scoring.entities import SetScores
from receipt_layoutlm.training.tasks.word_labels.scoring.fields import normalised, score_fields

WORDS = ["ACME", "TOTAL", "RM", "9.00", "CASH", "9.00", "10.00"]
TRUE = ["B-MERCHANT_NAME", "O", "O", "B-GRAND_TOTAL", "O", "O", "O"]
LABELS = ["GRAND_TOTAL", "MERCHANT_NAME"]


def fields(predicted: list[str], true: list[str] = TRUE, labels: list[str] = LABELS) -> SetScores:
    return score_fields([WORDS], [true], [predicted], labels)


def tagged(**tags: str) -> list[str]:
    """Tags of WORDS by place: _3="B-GRAND_TOTAL"."""
    return [tags.get(f"_{place}", "O") for place in range(len(WORDS))]


def test_the_same_amount_elsewhere_on_the_page_is_right() -> None:
    found = fields(tagged(_0="B-MERCHANT_NAME", _5="B-GRAND_TOTAL"))
    assert (found.precision, found.recall, found.f1) == (1, 1, 1)
    assert found.per_label["GRAND_TOTAL"] == LabelScore(precision=1, recall=1, f1=1, support=1)


def test_a_currency_before_the_amount_changes_nothing() -> None:
    assert fields(tagged(_2="B-GRAND_TOTAL", _3="I-GRAND_TOTAL")).per_label["GRAND_TOTAL"].f1 == 1


def test_one_value_found_twice_counts_once() -> None:
    assert fields(tagged(_3="B-GRAND_TOTAL", _5="B-GRAND_TOTAL")).precision == 1


def test_another_value_is_wrong_and_counts_against_precision() -> None:
    found = fields(tagged(_3="B-GRAND_TOTAL", _6="B-GRAND_TOTAL"))
    assert (found.precision, found.recall) == (0.5, 0.5)


def test_a_value_under_another_label_is_wrong() -> None:
    assert fields(tagged(_3="B-MERCHANT_NAME")).f1 == 0


def test_a_value_of_another_page_is_wrong() -> None:
    found = score_fields([["9.00"], ["9.00"]], [["B-TAX"], ["O"]], [["O"], ["B-TAX"]], ["TAX"])
    assert found.f1 == 0


def test_only_the_labels_asked_for_count() -> None:
    found = fields(tagged(_0="B-GRAND_TOTAL", _3="B-DATE"), labels=["DATE"])
    assert list(found.per_label) == ["DATE"]
    assert (found.precision, found.recall) == (0, 0)
    assert fields(TRUE, labels=["GRAND_TOTAL"]).f1 == 1


def test_a_page_without_the_label_and_without_a_prediction_of_it_counts_nothing() -> None:
    assert score_fields([["x"], ["9"]], [["O"], ["B-TAX"]], [["O"], ["B-TAX"]], ["TAX"]).f1 == 1


def test_unlabelled_words_belong_to_no_value() -> None:
    found = score_fields([["9.00", "off", "7"]], [["B-TAX", "-", "-"]], [["B-TAX", "I-TAX", "B-TAX"]], ["TAX"])
    assert (found.precision, found.recall) == (1, 1)


EQUAL = [
    ("RM 1,234.50", "1234.5"),
    ("$1,234.50", "1.234,50"),
    ("9.00", "9"),
    ("RM9.00", "rm 9"),
    ("RM.9.00", "9.00"),
    ("12,5 €", "12.50"),
    ("-5.00", "5.00-"),
    ("-$5.00", "$-5.00"),
    ("9 . 00", "9.00"),
    ("Rp 1.234.567", "1,234,567"),
    ("25,000", "25000"),
    ("0.00", "$0"),
    ("9.00.", "9.00"),
    ("TAN  Woon\tYANN ,", "tan woon yann"),
    ("ＡＢＣ １", "abc 1"),
    ("DATE:", "Date"),
    ("Straße", "STRASSE"),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_texts_that_mean_the_same_are_equal(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


DIFFERENT = [
    ("9.00", "90.0"),
    ("5.00", "-5.00"),
    ("9.000", "9,000"),
    ("AB1234", "CD1234"),
    ("NO 5", "5"),
    ("007", "7"),
    ("1/12/2018", "11/2/2018"),
    ("01.02.18", "1.02.18"),
    ("6%", "6.00"),
    ("8:30", "8.30"),
    ("TAN WOON", "TANWOON"),
    (":", "."),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_texts_of_different_meaning_are_different(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)

"""accept or ask, and why: certainty, unreadable values, amounts that do not add up, doubts of the OCR."""

from collections.abc import Sequence

import pytest

from receipt_layoutlm.data.page import Page
from receipt_layoutlm.inference.acceptance import AcceptanceRule, Threshold
from receipt_layoutlm.inference.certainty import Certainty
from receipt_layoutlm.inference.extraction import ExtractedEntity, PagePrediction, extraction_of

SURE = Certainty(0.99, 0.99, 0.0, None)
LABELS = ("SUBTOTAL", "TAX", "GRAND_TOTAL", "DATE", "MERCHANT_NAME")
RULE = AcceptanceRule(0.05, frozenset(LABELS), {label: Threshold(0.9, 100, 0, 0.03, LABELS) for label in LABELS})


def fields(
    rows: Sequence[tuple[str, str]],
    ocr: Sequence[float] | None = None,
    certainty: Certainty = SURE,
    rule: AcceptanceRule | None = RULE,
) -> list[ExtractedEntity]:
    """The entities of a page with a word a field, by label and text."""
    count = len(rows)
    boxes = tuple((0, 10 * place, 9, 10 * place + 9) for place in range(count))
    page = Page("p", "g", tuple(text for _, text in rows), boxes, ("O",) * count, 100, 100)
    prediction = PagePrediction(
        order=tuple(range(count)),
        tags=tuple(f"B-{label}" for label, _ in rows),
        confidences=(0.99,) * count,
        certainties=(certainty,) * count,
    )
    extraction = extraction_of(
        page, prediction, source="s", number=1, model="m", date_order="dmy", ocr_confidences=ocr, rule=rule
    )
    return list(extraction.entities)


AMOUNTS = (("SUBTOTAL", "10.00"), ("TAX", "0.60"), ("GRAND_TOTAL", "10.60"))


def test_certain_fields_are_accepted_and_without_a_rule_nothing_is_decided() -> None:
    assert [(field.decision, field.doubts) for field in fields(AMOUNTS)] == [("accept", ())] * 3
    assert [field.certainty for field in fields(AMOUNTS)] == [0.9801] * 3
    assert {(field.decision, field.certainty) for field in fields(AMOUNTS, rule=None)} == {(None, None)}


def test_amounts_that_do_not_add_up_are_asked_about_and_rounding_is_allowed() -> None:
    wrong = fields([("SUBTOTAL", "10.00"), ("TAX", "0.60"), ("GRAND_TOTAL", "16.00"), ("DATE", "25/12/2018")])
    assert [field.decision for field in wrong] == ["ask", "ask", "ask", "accept"]
    assert wrong[0].doubts == ("amounts do not add up: 10.00 + 0.60 is not 16.00",)
    assert {field.decision for field in fields([*AMOUNTS[:2], ("GRAND_TOTAL", "10.65")])} == {"accept"}
    assert {field.decision for field in fields([*AMOUNTS[:2], ("GRAND_TOTAL", "10.66")])} == {"ask"}


def test_amounts_are_not_compared_where_one_is_missing_or_has_two_values() -> None:
    assert {field.decision for field in fields(AMOUNTS[::2])} == {"accept"}
    assert {field.decision for field in fields([*AMOUNTS, ("TAX", "0.90")])} == {"accept"}


def test_a_value_that_cannot_be_read_is_asked_about() -> None:
    (field,) = fields([("DATE", "yesterday")])
    assert (field.decision, field.doubts) == ("ask", ("'yesterday' is no date",))


def test_words_that_the_ocr_is_unsure_of_are_named() -> None:
    first, second = fields([("MERCHANT_NAME", "SH0P"), ("GRAND_TOTAL", "1.00")], ocr=(0.6, 0.99))
    assert (first.decision, first.doubts) == ("ask", ("the OCR is unsure of SH0P",))
    assert second.decision == "accept"


@pytest.mark.parametrize("certainty", [Certainty(0.5, 0.99, 0, None), Certainty(0.99, 0.99, 0.7, 0)])
def test_an_uncertain_field_is_asked_about(certainty: Certainty) -> None:
    (field,) = fields([("MERCHANT_NAME", "SHOP")], certainty=certainty)
    assert field.decision == "ask"

"""Gold and predicted entities of a page are paired, and their differences named."""

from dataclasses import replace

import pytest

from receipt_layoutlm.data.page import Page
from receipt_layoutlm.reports.overlay import Kind, Mark, Overlay, entity_marks, gold_of, line_boxes

WORDS = ("ACME", "STORES", "12/05/2018", "TOTAL", "10.70")
TAGS = ("B-MERCHANT_NAME", "I-MERCHANT_NAME", "B-DATE", "O", "B-GRAND_TOTAL")
BOXES = ((100, 100, 300, 140), (320, 100, 500, 140), (100, 200, 300, 240), (100, 300, 200, 340), (600, 300, 700, 340))
PAGE = Page("r-1", "acme", WORDS, BOXES, TAGS, 400, 800)


def found(*predicted: Mark, page: Page = PAGE) -> list[tuple[str, str | None, str | None]]:
    """Kind, gold label and predicted label of each finding."""
    overlay = Overlay(page, predicted, gold_of(page))
    return [
        (each.kind, each.gold and each.gold.label, each.predicted and each.predicted.label) for each in overlay.findings
    ]


def test_equal_entities_are_right_and_each_difference_has_its_name() -> None:
    predicted = (Mark("MERCHANT_NAME", (0,)), Mark("GRAND_TOTAL", (2,)), Mark("DATE", (3,)))
    assert found(*predicted) == [
        ("wrong words", "MERCHANT_NAME", "MERCHANT_NAME"),
        ("wrong label", "DATE", "GRAND_TOTAL"),
        ("spurious", None, "DATE"),
        ("missed", "GRAND_TOTAL", None),
    ]
    assert [kind for kind, *_ in found(*gold_of(PAGE) or ())] == ["right"] * 3


def test_an_entity_in_two_pieces_is_one_with_wrong_words_and_a_spurious_one() -> None:
    kinds = [kind for kind, *_ in found(Mark("MERCHANT_NAME", (0,)), Mark("MERCHANT_NAME", (1,)))]
    assert kinds == ["wrong words", "spurious", "missed", "missed"]


def test_an_equal_entity_is_not_taken_by_another_that_shares_its_words() -> None:
    predicted = (Mark("DATE", (0, 1, 2)), Mark("MERCHANT_NAME", (0, 1)))
    assert sorted(found(*predicted)) == [
        ("missed", "GRAND_TOTAL", None),
        ("right", "MERCHANT_NAME", "MERCHANT_NAME"),
        ("wrong words", "DATE", "DATE"),
    ]


def test_nothing_is_judged_without_gold_labels_or_on_unlabelled_words() -> None:
    unlabelled = replace(PAGE, tags=("-",) * 5)
    assert gold_of(unlabelled) is None
    assert found(Mark("DATE", (2,)), page=unlabelled) == [("not judged", None, "DATE")]
    partly = replace(PAGE, tags=("B-MERCHANT_NAME", "I-MERCHANT_NAME", "-", "-", "O"))
    predicted = (Mark("DATE", (2,)), Mark("DATE", (3, 4)))
    assert found(*predicted, page=partly) == [
        ("missed", "MERCHANT_NAME", None), ("not judged", None, "DATE"), ("spurious", None, "DATE"),
    ]  # fmt: skip


def test_the_confidence_of_an_entity_is_that_of_its_least_certain_word() -> None:
    order = (4, 3, 0, 1, 2)
    assert entity_marks(("O", "O", "B-X", "I-X", "B-Y"), order, (0.1, 0.2, 0.9, 0.4, 0.8)) == (
        Mark("X", (0, 1), 0.4),
        Mark("Y", (2,), 0.8),
    )
    assert Overlay(PAGE, (Mark("X", (0,), 0.9), Mark("Y", (1,)), Mark("Z", (2,), 0.7))).lowest_confidence == 0.7


def test_gold_entities_are_in_reading_order_whatever_the_order_of_the_words() -> None:
    back = replace(PAGE, words=WORDS[::-1], boxes=BOXES[::-1], tags=("B-GRAND_TOTAL", "O", "B-DATE", *TAGS[:2]))
    assert gold_of(back) == (Mark("MERCHANT_NAME", (4, 3)), Mark("DATE", (2,)), Mark("GRAND_TOTAL", (0,)))


def test_an_entity_over_two_lines_has_a_box_on_each() -> None:
    assert line_boxes(PAGE, Mark("X", (0, 1, 2))) == [(100, 100, 500, 140), (100, 200, 300, 240)]


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_is_counted(kind: Kind) -> None:
    predicted = (Mark("MERCHANT_NAME", (0, 1)), Mark("DATE", (2, 3)), Mark("X", (4,)))
    counts = {"right": 1, "wrong words": 1, "wrong label": 1}
    assert Overlay(PAGE, predicted, gold_of(PAGE)).count(kind) == counts.get(kind, 0)

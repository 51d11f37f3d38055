"""Of all the words that have the total's value, one is the total."""

from decimal import Decimal

import pytest

from receipt_layoutlm.data.importers.value_match import amount, find_total
from receipt_layoutlm.data.page import Box


def chosen(value: str, *lines: str, tall: int | None = None) -> tuple[int, str] | None:
    """The line and the words that are chosen; line `tall` is printed twice as large as the others."""
    words: list[str] = []
    boxes: list[Box] = []
    number: list[int] = []
    for index, line in enumerate(lines):
        for place, word in enumerate(line.split()):
            words.append(word)
            boxes.append((place * 100, index * 50, place * 100 + 80, index * 50 + (40 if index == tall else 20)))
            number.append(index)
    span = find_total(words, boxes, value)
    return None if span is None else (number[span.begin], " ".join(words[span.begin : span.end]))


@pytest.mark.parametrize(
    ("text", "value"),
    [("9.00", "9.00"), ("RM9.00", "9.00"), ("$1,234.50", "1234.50"), ("-0.02", "-0.02"), ("9.00SR", "9.00")],
)
def test_a_currency_and_thousands_separators_are_no_part_of_the_number(text: str, value: str) -> None:
    assert amount(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "RM", "12/03/2018", "1.2.3", "20:15"])
def test_what_is_no_amount_has_no_number(text: str) -> None:
    assert amount(text) is None


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (["TOTAL 9.00", "CASH 9.00"], 0),
        (["SUBTOTAL 9.00", "T0TAL: 9.00", "CASH 9.00"], 1),
        (["TOTAL 9.00", "SUB TOTAL 9.00"], 0),
        (["TOTAL INCL. GST 9.00", "TOTAL GST 9.00"], 0),
        (["TOTAL 9.00", "TOTAL ROUNDED 9.00"], 1),
        (["TOTAL 9.00", "TOTAL 8.50 0.50 9.00"], 0),
        (["ITEM 9.00", "NETT 9.00", "CASH 9.00"], 1),
        (["CASH 9.00"], 0),
    ],
)
def test_the_line_that_says_total_comes_first_then_the_last(lines: list[str], line: int) -> None:
    assert chosen("9.00", *lines) == (line, "9.00")


def test_of_two_lines_that_say_total_the_larger_one_is_chosen() -> None:
    assert chosen("9.00", "TOTAL 9.00", "TOTAL 9.00", tall=0) == (0, "9.00")


def test_an_amount_in_two_pieces_is_found_and_its_caption_is_no_part_of_it() -> None:
    assert chosen("112.45", "TOTAL RM 112. 45") == (0, "112. 45")


@pytest.mark.parametrize("value", ["", "NINE", "8.00", "9"])
def test_a_value_that_no_word_has_is_not_found(value: str) -> None:
    assert chosen(value, "TOTAL 9.00") is None


def test_a_currency_in_the_value_does_not_matter() -> None:
    assert chosen("$8.20", "TOTAL RM8.20") == (0, "RM8.20")

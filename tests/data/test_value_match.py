"""Values of a whole receipt, its total among them, are found among its words."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipt_layoutlm.data.importers.value_match import (
    PageText,
    WordSpan,
    amount,
    bare,
    find_total,
    misread_digits,
    nearest,
    occurrences,
)
from receipt_layoutlm.data.page import Box


def spelled(words: str, value: str) -> list[str]:
    texts = words.split()
    return [" ".join(texts[span.begin : span.end]) for span in occurrences(PageText(texts), value)]


def closest(words: str, value: str) -> str | None:
    texts = words.split()
    span = nearest(PageText(texts), value)
    return None if span is None else " ".join(texts[span.begin : span.end])


@pytest.mark.parametrize(
    ("words", "value", "found"),
    [
        ("MR D.I.Y. (JOHOR) SDN BHD", "mr diy (johor)", ["MR D.I.Y. (JOHOR)"]),
        ("KEDAI KO PI 12", "KEDAIKOPI", ["KEDAI KO PI"]),
        ("DATE:12/03/2018 09:15", "12/03/2018", ["DATE:12/03/2018"]),
        ("12/03/2018 and 12-03-2018", "12.03.2018", ["12/03/2018", "12-03-2018"]),
        ("001-2018-03-18-77", "2018-03-18", ["001-2018-03-18-77"]),
        ("NO 11/2/18 1/2/18", "1/2/18", ["1/2/18"]),
        ("9112181", "1/2/18", []),
        ("A : B", "A B", ["A : B"]),
        ("SOMETHING", "", []),
        ("SOMETHING", " - ", []),
        ("", "A", []),
    ],
)
def test_only_letters_and_digits_count(words: str, value: str, found: list[str]) -> None:
    assert spelled(words, value) == found


@pytest.mark.parametrize(
    ("words", "value", "found"),
    [
        ("THE PASAR M1NI LESTARl TEL", "PASAR MINI LESTARI", "PASAR M1NI LESTARl"),
        ("PERNIAGAAN ZHENG HUl NO", "PERNIAGAAN ZHENG HUI", "PERNIAGAAN ZHENG HUl"),
        ("AEON CO (M) BHD", "AEON CO. (M) SDN BHD", None),
        ("ANOTHER SHOP ALTOGETHER", "PASAR MINI LESTARI", None),
        ("ABC", "ABD", None),
        ("", "PASAR MINI", None),
    ],
)
def test_one_edit_in_five_characters_is_allowed(words: str, value: str, found: str | None) -> None:
    assert closest(words, value) == found


def test_letters_that_are_taken_for_digits_are_the_same_on_both_sides() -> None:
    assert misread_digits("O5 MAR 2Ol8") == misread_digits("05 mar 2018")


@given(st.lists(st.text("ABC019.-", min_size=1, max_size=5), min_size=1, max_size=12), st.data())
def test_a_run_of_words_is_always_found_and_covers_what_spells_it(words: list[str], data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(words) - 1))
    end = data.draw(st.integers(begin + 1, len(words)))
    value = "".join(words[begin:end])

    spans = occurrences(PageText(words), value)

    assert bool(spans) == bool(bare(value))
    assert all(bare(value) in bare("".join(words[span.begin : span.end])) for span in spans)


@given(st.text("ABCDEFGH", min_size=10, max_size=30), st.data())
def test_the_nearest_words_are_no_further_than_the_edits_made(text: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(1, len(text) - 2))
    damaged = text[:place] + "1" + text[place + 1 :]
    words = ["XX", *[damaged[i : i + 5] for i in range(0, len(damaged), 5)], "YY"]

    span = nearest(PageText(words), text)

    assert span is not None and span.edits <= 1
    assert isinstance(span, WordSpan)


# the total


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


def test_boxes_without_height_do_not_keep_a_total_from_being_found() -> None:
    assert find_total(["TOTAL", "3.70"], [(0, 5, 9, 5), (10, 5, 19, 5)], "3.70") == WordSpan(1, 2, 0)


def test_an_amount_in_two_pieces_is_found_and_its_caption_is_no_part_of_it() -> None:
    assert chosen("112.45", "TOTAL RM 112. 45") == (0, "112. 45")


@pytest.mark.parametrize("value", ["", "NINE", "8.00", "9"])
def test_a_value_that_no_word_has_is_not_found(value: str) -> None:
    assert chosen(value, "TOTAL 9.00") is None


def test_a_currency_in_the_value_does_not_matter() -> None:
    assert chosen("$8.20", "TOTAL RM8.20") == (0, "RM8.20")

"""Values of a whole receipt are found among its words, though spacing, punctuation and single letters differ."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipt_layoutlm.data.importers.value_match import Span, Text, bare, misread_digits, nearest, occurrences


def spelled(words: str, value: str) -> list[str]:
    texts = words.split()
    return [" ".join(texts[span.begin : span.end]) for span in occurrences(Text(texts), value)]


def closest(words: str, value: str) -> str | None:
    texts = words.split()
    span = nearest(Text(texts), value)
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

    spans = occurrences(Text(words), value)

    assert bool(spans) == bool(bare(value))
    assert all(bare(value) in bare("".join(words[span.begin : span.end])) for span in spans)


@given(st.text("ABCDEFGH", min_size=10, max_size=30), st.data())
def test_the_nearest_words_are_no_further_than_the_edits_made(text: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(1, len(text) - 2))
    damaged = text[:place] + "1" + text[place + 1 :]
    words = ["XX", *[damaged[i : i + 5] for i in range(0, len(damaged), 5)], "YY"]

    span = nearest(Text(words), text)

    assert span is not None and span.edits <= 1
    assert isinstance(span, Span)

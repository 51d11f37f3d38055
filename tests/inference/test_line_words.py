import numpy as np
import pytest

from receipt_layoutlm.inference.line_words import Character, LineWord, cut_line

HEIGHT = 40
STEP = 20  # pixels of a character
THIN, WIDE = 4, 12  # gaps in pixels; 12 is 0.3 of the height


def line(text: str, *, wide: str = "") -> list[LineWord]:
    """The words of a line printed with one character a step; `_` in `wide` is a wide gap before the character above it.

    A space in the text is one that the recogniser emitted.
    """
    characters, ink = [], np.zeros(0, bool)
    follows_space = False
    for place, letter in enumerate(text):
        if letter == " ":
            follows_space = True
            continue
        gap = WIDE if follows_space or wide[place : place + 1] == "_" else THIN
        column = (len(ink) + gap + (STEP - THIN) // 2) // STEP
        ink = np.concatenate([ink, np.zeros(gap, bool), np.ones(STEP - THIN, bool)])
        characters.append(Character(letter, column, 0.99, follows_space))
        follows_space = False
    return cut_line(characters, len(ink) / STEP, ink, HEIGHT)


def test_a_line_is_cut_at_the_spaces_of_the_recogniser() -> None:
    assert [word.text for word in line("TOTAL RM 9.00")] == ["TOTAL", "RM", "9.00"]


def test_a_gap_wider_than_the_others_of_the_line_ends_a_word() -> None:
    words = line("GSTSUMMARY", wide="   _")

    assert [word.text for word in words] == ["GST", "SUMMARY"]
    assert words[0].end < words[1].begin


def test_letters_set_wide_apart_are_one_word() -> None:
    assert [word.text for word in line("TOTAL", wide=" ____")] == ["TOTAL"]


@pytest.mark.parametrize(("text", "wide"), [("RM180.00", "     _"), ("RM180.00", "      _"), ("12/05/2018", "  _  _")])
def test_a_number_is_not_cut_at_its_point(text: str, wide: str) -> None:
    assert [word.text for word in line(text, wide=wide)] == [text]


def test_chinese_is_cut_from_latin_letters_and_currency_but_not_from_digits() -> None:
    assert [word.text for word in line("合計￥1200")] == ["合計", "￥1200"]
    assert [word.text for word in line("2018年5月")] == ["2018年5月"]
    assert [word.text for word in line("現金CASH")] == ["現金", "CASH"]


def test_words_begin_and_end_with_their_ink() -> None:
    first, second = line("AB CD")  # of 88 pixels

    assert (first.begin, first.end) == (THIN / 88, 40 / 88)
    assert (second.begin, second.end) == (52 / 88, 1.0)


def test_a_word_is_as_certain_as_its_least_certain_character() -> None:
    characters = [Character("9", 0, 0.98, False), Character("0", 1, 0.41, False)]

    assert cut_line(characters, 2, np.ones(80, bool), HEIGHT)[0].confidence == 0.41


def test_a_line_without_characters_has_no_words() -> None:
    assert cut_line([], 1, np.zeros(80, bool), HEIGHT) == []

"""A printed line's box is shared out among its words: all of it, in order, nothing twice."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receipt_layoutlm.data.lines import bounds, split_line

WORD = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1, max_size=12)
LENGTH = st.floats(0, 5000)


@given(st.lists(WORD, min_size=1, max_size=12), st.sampled_from((" ", "  ", "\t ")), LENGTH, LENGTH, LENGTH)
def test_widths_add_up_order_is_kept_and_nothing_overlaps(
    words: list[str], space: str, left: float, top: float, width: float
) -> None:
    split = split_line(f" {space.join(words)} ", (left, top, left + width, top + 9))

    assert [text for text, _ in split] == words
    boxes = [box for _, box in split]
    assert boxes[0][0] == left and boxes[-1][2] == pytest.approx(left + width)
    assert all(after[0] >= before[2] - 1e-6 for before, after in pairwise(boxes))
    characters = sum(map(len, words))
    gaps = width * (len(words) - 1) / (characters + len(words) - 1)
    assert sum(box[2] - box[0] for box in boxes) == pytest.approx(width - gaps, abs=1e-6)
    assert all((box[1], box[3]) == (top, top + 9) for box in boxes)


def test_each_character_is_equally_wide() -> None:
    assert split_line("TOTAL 9.00", (0, 0, 100, 10)) == [("TOTAL", (0, 0, 50, 10)), ("9.00", (60, 0, 100, 10))]


def test_a_line_without_text_has_no_words() -> None:
    assert split_line("  ", (0, 0, 100, 10)) == []


def test_the_bounds_do_not_depend_on_the_order_of_the_corners() -> None:
    assert bounds((9, 1, 9, 5, 2, 5, 2, 1)) == bounds((2, 1, 9, 1, 9, 5, 2, 5)) == (2, 1, 9, 5)

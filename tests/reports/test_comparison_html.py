"""Two models side by side: differences with their intervals, and the pages that flipped with both drawings."""

from collections.abc import Sequence

import pytest

from receipt_layoutlm.reports.comparison_html import FLIPPED_PAGES, FlippedPage, comparison_html
from receipt_layoutlm.reports.judged_pages import JudgedPage
from receipt_layoutlm.run.paired import PairedScores, compare_runs
from tests.reports.test_overlay_html import HOSTILE, Parsed
from tests.support.reports import TRUE, WORDS, judged

WRONG = ("B-TOTAL", "I-TOTAL", "O", "O")


def flipped(page_id: str, predicted: Sequence[Sequence[str]], words: tuple[str, ...] = WORDS) -> FlippedPage:
    overlays = [JudgedPage(*judged(page_id, each, words)).overlay() for each in predicted]
    assert overlays[0] is not None and overlays[1] is not None
    return FlippedPage(overlays[0], overlays[1])


def scored(count: int = 12) -> PairedScores:
    """The second run is right where the first is wrong, on every third page; each page is a group of its own."""
    runs = [{}, {}]  # type: ignore[var-annotated]
    for number in range(count):
        first = WRONG if number % 3 == 0 else TRUE
        for run, predicted in zip(runs, (first, TRUE), strict=True):
            run[f"p{number}"] = judged(f"p{number}", predicted)[0]
    return compare_runs([runs[0]], [runs[1]], {})


def page(first: str = "before", other: str = "after", words: tuple[str, ...] = WORDS, flips: int = 1) -> str:
    pages = [flipped(f"p{number}", (WRONG, TRUE), words) for number in range(flips)]
    options = {"--lr": (0.1, 0.2), "--epochs": (None, first)}
    return comparison_html(first, other, scored(), options, [], pages)


def test_both_drawings_of_a_flipped_page_stand_beside_each_other_with_the_errors_of_each() -> None:
    text = page()
    assert text.count('class="drawn"') == 2
    shown = " ".join(filter(None, Parsed(text).texts))
    assert "4 pages became right, the first 1 of them" in shown and "0 pages became wrong" in shown
    assert "≠ wrong label TOTAL gold SHOP ACME STORES" in shown
    assert "F1 0.7" in shown and "95 % interval +0." in shown and "--lr 0.1 0.2" in shown


def test_an_interval_that_holds_zero_shows_no_difference() -> None:
    same = {f"p{number}": judged(f"p{number}", TRUE)[0] for number in range(9)}
    text = comparison_html("a", "b", compare_runs([same], [same], {}), {}, [], [])
    assert "no difference shown" in text and "None." in text


def test_at_most_so_many_pages_are_drawn() -> None:
    assert page(flips=30).count('class="flip"') == FLIPPED_PAGES


@pytest.mark.parametrize("text", HOSTILE)
def test_names_options_and_words_are_shown_as_text_and_as_nothing_else(text: str) -> None:
    plain, hostile = Parsed(page("x", "x", ("x", "x", "x", "x"))), Parsed(page(text, text, (text,) * 4))
    assert hostile.elements == plain.elements
    assert hostile.elements["script"] == 0
    assert {(tag, name) for tag, name, _ in hostile.attributes} == {(tag, name) for tag, name, _ in plain.attributes}

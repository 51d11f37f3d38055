"""Entities of a page, to compare pages by, and the page as it is read."""

from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.reading_order import order_of_words, rearranged


def spans(page: Page) -> list[tuple[str, tuple[str, ...]]]:
    """Entities as label and words, in the page's order."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for word, tag in zip(page.words, page.tags, strict=True):
        if tag[0] == "B":
            found.append((tag[2:], (word,)))
        elif tag[0] == "I":
            found[-1] = (tag[2:], (*found[-1][1], word))
    return found


def page_in_reading_order(page: Page) -> Page:
    return rearranged(page, order_of_words(page))

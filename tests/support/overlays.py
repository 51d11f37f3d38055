"""A page with gold and predicted entities of every kind."""

from receipt_layoutlm.data.page import Page
from receipt_layoutlm.reports.overlay import EntityMark, Overlay, gold_of

WORDS = ("ACME", "STORES", "12/05/2018", "TOTAL", "10.70", "Thanks", "Tax", "0.60")
TAGS = ("B-SHOP", "I-SHOP", "B-DATE", "O", "B-TOTAL", "O", "-", "B-TAX")
BOXES = (
    (100, 100, 300, 140), (320, 100, 500, 140), (100, 200, 300, 240), (100, 300, 200, 340), (600, 300, 700, 340),
    (100, 400, 300, 440), (100, 500, 200, 540), (600, 500, 700, 540),
)  # fmt: skip
PREDICTED = (
    EntityMark("SHOP", (0,), 0.5),  # wrong words
    EntityMark("TIME", (2,), 0.6, "2018-05-12"),  # wrong label
    EntityMark("TOTAL", (4,), 0.9),  # right
    EntityMark("SHOP", (5,), 0.7),  # spurious
    EntityMark("TAX", (6,), 0.8),  # not judged
)  # the tax is missed


def page_with(words: tuple[str, ...] = WORDS, page_id: str = "r-1") -> Page:
    return Page(page_id, "acme", words, BOXES, TAGS, 400, 800)


def overlay_with(words: tuple[str, ...] = WORDS, page_id: str = "r-1") -> Overlay:
    page = page_with(words, page_id)
    return Overlay(page, PREDICTED, gold_of(page), (0.95,) * len(words), source="receipts.jsonl", number=3)

"""Generates plausible receipts: typeset, scanned with a slight skew, and read with OCR errors.

Page i depends on the seed and i only, so a longer sample begins with the shorter one. Names come from Faker, so another
version of it may give other pages.
"""

import random
from collections.abc import Iterator, Sequence

from faker import Faker

from receipt_layoutlm.data.jsonl import normalised_name
from receipt_layoutlm.data.page import PAGE_EXTENT, Box, Page
from receipt_layoutlm.data.sample_layouts import PrintedRow, random_purchase, rows
from receipt_layoutlm.data.sample_merchants import Merchant, merchant, seeded

_PAGES_PER_MERCHANT = 6
_OPEN_MERCHANTS = 3  # at any page; merchants come and go, since no page may depend on the length of the sample
_MARGIN = 50  # thousandths, on each side
_JITTER = 2  # thousandths, of a word's box
_MAX_SKEW = 0.008  # of the whole scan
_MISREAD = 0.012  # share of words with an OCR error
_CONFUSIONS = {"0": "O", "1": "l", "5": "S", "8": "B", "O": "0", "I": "l", "S": "5", "B": "8", "e": "c", ".": ","}
_CHARACTER_ASPECT = 0.55  # width of a character over its line's height


def generate_pages(count: int, seed: int) -> list[Page]:
    """`count` labelled receipts of 40 to 140 words, about six of each merchant, which is their group.

    Boxes have jitter and a slight skew; a few words are misread.
    """
    fake = Faker("en_US")
    merchants: dict[int, Merchant] = {}
    pages = []
    for index in range(count):
        draw = seeded(seed, f"page {index}")
        number = max(index // _PAGES_PER_MERCHANT - draw.randrange(_OPEN_MERCHANTS), 0)
        if number not in merchants:
            merchants[number] = merchant(fake, seed, number)
        pages.append(_page(f"sample-{seed}-{index:05d}", merchants[number], draw))
    return pages


def _page(page_id: str, seller: Merchant, draw: random.Random) -> Page:
    """A purchase printed, read by OCR and scanned."""
    printed = rows(random_purchase(seller, draw), draw)
    words, tags, boxes = [], [], []
    for text, tag, box in _typeset(printed, seller.columns):
        misreadable = [place for place, character in enumerate(text) if character in _CONFUSIONS]
        if misreadable and draw.random() < _MISREAD:
            place = draw.choice(misreadable)
            text = text[:place] + _CONFUSIONS[text[place]] + text[place + 1 :]
        words.append(text)
        tags.append(tag)
        boxes.append(box)
    skew = draw.uniform(-_MAX_SKEW, _MAX_SKEW)
    for index, (x0, y0, x1, y1) in enumerate(boxes):
        dx, dy = draw.randint(-_JITTER, _JITTER), draw.randint(-_JITTER, _JITTER)
        dy += round(skew * ((x0 + x1) / 2 - PAGE_EXTENT / 2))
        x0, y0, x1, y1 = (min(max(value, 0), PAGE_EXTENT) for value in (x0 + dx, y0 + dy, x1 + dx, y1 + dy))
        boxes[index] = (x0, y0, x1, y1)
    line_height = seller.columns**-1 / _CHARACTER_ASPECT  # over the print's width
    print_height = line_height * sum(row.scale for row in printed)
    width = draw.randint(420, 900)
    return Page(
        page_id=page_id,
        group=normalised_name(seller.name),
        words=tuple(words),
        boxes=tuple(boxes),
        tags=tuple(tags),
        width=width,
        height=round(width * print_height),
    )


def _typeset(printed: Sequence[PrintedRow], columns: int) -> Iterator[tuple[str, str, Box]]:
    """Words with their tags and boxes in print: rows share the page's height by their scale, characters its width."""
    extent = PAGE_EXTENT - 2 * _MARGIN
    unit = extent / sum(row.scale for row in printed)
    y = float(_MARGIN)
    for row in printed:
        characters = sum(cell.length + 1 for cell in row.cells)
        scale = min(row.scale, columns / characters) if characters else row.scale  # one line has to hold them
        character = extent / columns * scale
        top, bottom = round(y + 0.12 * unit * row.scale), round(y + 0.88 * unit * row.scale)
        for cell in row.cells:
            share_left_of_edge = {"left": 0.0, "center": 0.5, "right": 1.0}[cell.align]
            x = _MARGIN + cell.at * extent - share_left_of_edge * cell.length * character
            for text, tag in cell.tagged_words():
                yield text, tag, (round(x), top, round(x + len(text) * character), bottom)
                x += (len(text) + 1) * character
        y += unit * row.scale

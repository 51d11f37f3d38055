"""Generates plausible receipts: typeset, scanned with a slight skew, and read with OCR errors.

Page i depends on the seed and i only, so a longer sample begins with the shorter one. Names come from Faker, so another
version of it may give other pages.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from faker import Faker

from receipt_layoutlm.data.jsonl import normalised_name
from receipt_layoutlm.data.page import PAGE_EXTENT, Box, Page
from receipt_layoutlm.data.sample_layouts import Cell, PrintedRow, random_purchase, rows
from receipt_layoutlm.data.sample_merchants import Merchant, merchant, seeded

_PAGES_PER_MERCHANT = 6
_OPEN_MERCHANTS = 3  # at any page; merchants come and go, since no page may depend on the length of the sample
_MARGIN = 50  # thousandths, on each side
_JITTER = 2  # thousandths, of a word's box
_MAX_SKEW = 0.008  # of the whole scan
_MISREAD = 0.012  # share of words with an OCR error
_CONFUSIONS = {"0": "O", "1": "l", "5": "S", "8": "B", "O": "0", "I": "l", "S": "5", "B": "8", "e": "c", ".": ","}
_CHARACTER_ASPECT = 0.55  # width of a character over its line's height


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    box: Box
    tag: str


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
    printed = rows(random_purchase(seller, draw), draw)
    line_height = seller.columns**-1 / _CHARACTER_ASPECT  # over the print's width
    print_height = line_height * sum(row.scale for row in printed)
    words = [_scanned(word, draw) for word in _typeset(printed, seller.columns)]
    skew = draw.uniform(-_MAX_SKEW, _MAX_SKEW)
    boxes = tuple(_moved(word.box, skew, draw) for word in words)
    width = draw.randint(420, 900)
    return Page(
        page_id=page_id,
        group=normalised_name(seller.name),
        words=tuple(word.text for word in words),
        boxes=boxes,
        tags=tuple(word.tag for word in words),
        width=width,
        height=round(width * print_height),
    )


def _typeset(printed: Sequence[PrintedRow], columns: int) -> Iterator[_Word]:
    """Words with their boxes in print: rows share the page's height by their scale, characters its width."""
    unit = (PAGE_EXTENT - 2 * _MARGIN) / sum(row.scale for row in printed)
    y = float(_MARGIN)
    for row in printed:
        character = (PAGE_EXTENT - 2 * _MARGIN) / columns * _fitting_scale(row, columns)
        top, bottom = round(y + 0.12 * unit * row.scale), round(y + 0.88 * unit * row.scale)
        for cell in row.cells:
            for text, tag, x in _words_of(cell, character):
                yield _Word(text, (round(x), top, round(x + len(text) * character), bottom), tag)
        y += unit * row.scale


def _fitting_scale(row: PrintedRow, columns: int) -> float:
    """The row's scale, reduced until its characters fit into one line."""
    characters = sum(_length(cell) + 1 for cell in row.cells)
    return min(row.scale, columns / characters) if characters else row.scale


def _length(cell: Cell) -> int:
    return len(" ".join(span.text for span in cell.spans).strip())


def _words_of(cell: Cell, character: float) -> Iterator[tuple[str, str, float]]:
    """Text, tag and left edge of each word of a cell."""
    edge = _MARGIN + cell.at * (PAGE_EXTENT - 2 * _MARGIN)
    x = edge - {"left": 0.0, "center": 0.5, "right": 1.0}[cell.align] * _length(cell) * character
    for span in cell.spans:
        for place, text in enumerate(span.text.split()):
            inside = place > 0 or span.continues
            yield text, f"{'I' if inside else 'B'}-{span.label}" if span.label else "O", x
            x += (len(text) + 1) * character


def _moved(box: Box, skew: float, draw: random.Random) -> Box:
    """The box on the scan: skewed with the page, with jitter, inside the page."""
    dx, dy = draw.randint(-_JITTER, _JITTER), draw.randint(-_JITTER, _JITTER)
    dy += round(skew * ((box[0] + box[2]) / 2 - PAGE_EXTENT / 2))
    x0, y0, x1, y1 = (min(max(v, 0), PAGE_EXTENT) for v in (box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy))
    return x0, y0, x1, y1


def _scanned(word: _Word, draw: random.Random) -> _Word:
    """The word as OCR reads it, sometimes with one wrong character."""
    places = [place for place, character in enumerate(word.text) if character in _CONFUSIONS]
    if not places or draw.random() >= _MISREAD:
        return word
    place = draw.choice(places)
    text = word.text[:place] + _CONFUSIONS[word.text[place]] + word.text[place + 1 :]
    return _Word(text, word.box, word.tag)

"""Plausible receipts for trying things out: generated, typeset, scanned a little crooked and read with errors.

Page i of a seed depends on the seed and i alone, so a longer sample begins with the shorter one. The names come
from Faker: another version of it may give other pages.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from faker import Faker

from receipt_layoutlm.data.jsonl import normalised_name
from receipt_layoutlm.data.page import PAGE_EXTENT, Box, Page
from receipt_layoutlm.data.sample_layouts import Cell, Row, receipt, rows
from receipt_layoutlm.data.sample_merchants import Merchant, merchant, seeded

_PAGES_PER_MERCHANT = 6
_OPEN_MERCHANTS = 3  # at any one time; a page knows no later page, so merchants come and go
_MARGIN = 50  # thousandths, on each side
_JITTER = 2  # thousandths, of a word's box
_SKEW = 0.008  # at most, of the whole scan
_MISREAD = 0.012  # share of words that the reader gets wrong
_CONFUSIONS = {"0": "O", "1": "l", "5": "S", "8": "B", "O": "0", "I": "l", "S": "5", "B": "8", "e": "c", ".": ","}
_CHARACTER_ASPECT = 0.55  # width of a character over its line's height


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    box: Box
    tag: str


def generate_pages(count: int, seed: int) -> list[Page]:
    """`count` labelled receipts, 40 to 140 words each, of one merchant for about six pages.

    Every page carries boxes with jitter and a slight skew, and a few misread words. `group` is the merchant.
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
    printed = rows(receipt(seller, draw), draw)
    line_height = seller.columns**-1 / _CHARACTER_ASPECT  # over the print's width
    print_height = line_height * sum(row.scale for row in printed)
    words = [_scanned(word, draw) for word in _typeset(printed, seller.columns)]
    skew = draw.uniform(-_SKEW, _SKEW)
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


def _typeset(printed: Sequence[Row], columns: int) -> Iterator[_Word]:
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


def _fitting_scale(row: Row, columns: int) -> float:
    """The row's scale, or what makes its characters fit into one line."""
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
    """The box on the scan: turned with the page, a little off, inside the page."""
    dx, dy = draw.randint(-_JITTER, _JITTER), draw.randint(-_JITTER, _JITTER)
    dy += round(skew * ((box[0] + box[2]) / 2 - PAGE_EXTENT / 2))
    x0, y0, x1, y1 = (min(max(v, 0), PAGE_EXTENT) for v in (box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy))
    return x0, y0, x1, y1


def _scanned(word: _Word, draw: random.Random) -> _Word:
    """The word as it is read: now and then with one character taken for another."""
    places = [place for place, character in enumerate(word.text) if character in _CONFUSIONS]
    if not places or draw.random() >= _MISREAD:
        return word
    place = draw.choice(places)
    text = word.text[:place] + _CONFUSIONS[word.text[place]] + word.text[place + 1 :]
    return _Word(text, word.box, word.tag)

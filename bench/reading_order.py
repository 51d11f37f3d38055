"""What jitter does to the reading order, beside sorting words by their top edge, and for which distance of lines.

    python bench/reading_order.py [SROIE/train.jsonl SROIE/dev.jsonl]

Each word of a real page is moved by itself by up to so many thousandths, in x and y. Generated pages say from which
distance of their lines on nothing changes; half of them are tables with names on the left and prices on the right.
Last, the entities that the order tears apart in pages of several layouts, for each way of giving boxes.
"""

import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from layouts import FORMS, cord_like, count_entities, funsd_like

from receipt_layoutlm.data.order_check import torn_entities
from receipt_layoutlm.data.page import Box, Page
from receipt_layoutlm.data.reading_order import printed_lines, reading_order
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.data.snapshot import read_jsonl

JITTERS = (0, 1, 3)  # thousandths
TRIES = 4
PITCHES = (12, 13, 14, 15, 16, 20)
GENERATED = 3000
LAYOUT_PAGES = 300  # of each generated layout
Order = Callable[[Sequence[Box]], list[int]]


def by_top(boxes: Sequence[Box]) -> list[int]:
    return sorted(range(len(boxes)), key=lambda i: (boxes[i][1], boxes[i][0]))


def moved(boxes: Sequence[Box], jitter: int, draw: random.Random) -> list[Box]:
    """Boxes with each one a little off, and all of them still on the page."""
    found = []
    for x0, y0, x1, y1 in boxes:
        dx = min(max(draw.randint(-jitter, jitter), -x0), 1000 - x1)
        dy = min(max(draw.randint(-jitter, jitter), -y0), 1000 - y1)
        found.append((x0 + dx, y0 + dy, x1 + dx, y1 + dy))
    return found


def entities(page: Page) -> list[list[int]]:
    """Words of each entity of several words."""
    found: list[list[int]] = []
    for word, tag in enumerate(page.tags):
        if tag[0] == "B":
            found.append([word])
        elif tag[0] == "I":
            found[-1].append(word)
    return [words for words in found if len(words) > 1]


def whole(page: Page, order: Sequence[int]) -> list[bool]:
    """Whether each entity stands in one piece."""
    place = {word: i for i, word in enumerate(order)}
    places = [[place[word] for word in words] for words in entities(page)]
    return [max(each) - min(each) == len(each) - 1 for each in places]


def evenness(boxes: Sequence[Box]) -> tuple[float, float]:
    """Of a page's lines, the smallest distance and the largest unevenness, in thousandths."""
    heights = [[(boxes[word][1] + boxes[word][3]) / 2 for word in line] for line in printed_lines(boxes)]
    gaps = [min(below) - max(above) for above, below in pairwise(heights)]
    return min(gaps, default=1000.0), max(max(line) - min(line) for line in heights)


def tell_real(pages: Sequence[Page], name: str, order_of: Order) -> list[bool]:
    """Prints the table of one order; returns whether each page keeps it in each try of the largest jitter."""
    for jitter in JITTERS:
        intact, same, seconds = [], [], 0.0
        for page in pages:
            expected = order_of(page.boxes)
            for attempt in range(TRIES):
                boxes = moved(page.boxes, jitter, random.Random(f"{page.page_id} {attempt}"))
                began = time.process_time()
                order = order_of(boxes)
                seconds += time.process_time() - began
                intact += whole(page, order)
                same.append(order == expected)
        shares = sum(intact) / len(intact), sum(same) / len(same)
        told = f"entities in one piece {shares[0]:.4f}, pages in the same order {shares[1]:.4f}"
        print(f"{name:14} jitter {jitter}: {told}, {seconds / len(same) * 1000:.2f} ms a page")
    return same


def generated(pitch: int, draw: random.Random) -> list[list[Box]]:
    """Boxes by printed line; sizes differ along a line, some rows of a table have no price."""
    is_table, lines = draw.random() < 0.5, []
    for number in range(draw.randint(1, min(25, 900 // pitch))):
        x, middle, line = draw.randint(10, 60 if is_table else 300), 40 + number * pitch, []
        for _ in range(draw.randint(1, 4)):
            half, width = draw.randint(pitch // 4, pitch * 2 // 5), draw.randint(14, 90)
            line.append((x, middle - half, x + width, middle + half))
            x += width + draw.randint(7, 20 if is_table else 60)
        if is_table and draw.random() < 0.9:
            half, right = draw.randint(pitch // 4, pitch * 2 // 5), draw.randint(880, 960)
            line.append((right - 60, middle - half, right, middle + half))
        lines.append(line)
    return lines


def kept(pitch: int) -> int:
    """How many generated pages come back line by line as they were printed."""
    draw, count = random.Random(pitch), 0
    for _ in range(GENERATED):
        lines = generated(pitch, draw)
        places = iter(range(1000))
        expected = [[next(places) for _ in line] for line in lines]
        count += printed_lines(moved([box for line in lines for box in line], JITTERS[-1], draw)) == expected
    return count


def tell_torn(layouts: Mapping[str, Sequence[Page]]) -> None:
    """Prints the torn entities of each layout, for each way of giving boxes."""
    for form, with_boxes in FORMS.items():
        told = []
        for name, pages in layouts.items():
            changed = [with_boxes(page) for page in pages]
            torn = sum(len(torn_entities(page)) for page in changed)
            told.append(f"{name} {torn} of {count_entities(changed)}")
        print(f"torn with {form}: {', '.join(told)}", flush=True)


def main(files: Sequence[str]) -> None:
    pages = [page for file in files for page in read_jsonl(Path(file))]
    if pages:
        tell_real(pages, "by top edge", by_top)
        same = tell_real(pages, "reading order", reading_order)
        clear = [gap > 4 * JITTERS[-1] + uneven for gap, uneven in (evenness(page.boxes) for page in pages)]
        for title, is_clear in (("clear", True), ("other", False)):
            tries = [kept for number, kept in enumerate(same) if clear[number // TRIES] is is_clear]
            print(f"{len(tries) // TRIES} pages with {title} distances of lines: {sum(tries) / len(tries):.4f}")
    for pitch in PITCHES:
        print(f"lines {pitch} apart: {kept(pitch)} of {GENERATED} generated pages kept")
    layouts: dict[str, Sequence[Page]] = {
        "CORD-like": cord_like(LAYOUT_PAGES, 0),
        "FUNSD-like": funsd_like(LAYOUT_PAGES, 0),
        "generated receipts": generate_pages(LAYOUT_PAGES, 0),
    }
    tell_torn(layouts | ({"SROIE": pages} if pages else {}))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Generated pages in the layouts of CORD and FUNSD, and the ways in which files give their boxes."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from receipt_layoutlm.data.page import PAGE_EXTENT, Box, Page
from receipt_layoutlm.data.tags import entities

Word = tuple[str, str, Box]  # text, tag, box
_GAP = 30  # thousandths between two segments of a printed line
_TEXTS = "NASI GORENG ES TEH MANIS AYAM BAKAR KOPI SUSU ROTI PANGGANG Kentang Goreng Large Iced Lemon Tea".split()
_FORM = "Date Brand Name Region Division Manager Account Number Total Cost Period Comments Address Fax Phone".split()


def cord_like(count: int, seed: int) -> list[Page]:
    """Receipts of a menu table (name, count, price) with a second line for some items, and of captions with amounts."""
    draw = random.Random(f"cord {seed}")
    return [_page(f"cord-{number}", list(_menu(draw))) for number in range(count)]


def _menu(draw: random.Random) -> Iterator[Word]:
    y, height, pitch = 60, draw.randint(12, 18), draw.randint(22, 32)
    for _ in range(draw.randint(2, 9)):
        name = _phrase(draw, _TEXTS, draw.randint(1, 4))
        yield from _segment(f"{draw.randint(1, 4)} x", "QUANTITY", 40, y, height)
        yield from _segment(name, "PRODUCT_NAME", 130, y, height)
        yield from _segment(f"{draw.randint(5, 90)},000", "LINE_TOTAL", 820, y, height)
        y += pitch
        if draw.random() < 0.3:
            yield from _segment(f"@ {draw.randint(5, 90)},000 each", "UNIT_PRICE", 170, y, height)
            y += pitch
    for caption, label in (("Sub Total", "SUBTOTAL"), ("Tax 10 %", "TAX"), ("Grand Total", "GRAND_TOTAL")):
        yield from _segment(caption, None, 130, y, height)
        yield from _segment(f"Rp {draw.randint(50, 900)},000", label, 780, y, height)
        y += pitch


def funsd_like(count: int, seed: int) -> list[Page]:
    """Forms: a header, questions with answers in one or two columns, and a paragraph over several lines."""
    draw = random.Random(f"funsd {seed}")
    return [_page(f"funsd-{number}", list(_form(draw))) for number in range(count)]


def _form(draw: random.Random) -> Iterator[Word]:
    y, height, pitch = 50, draw.randint(10, 14), draw.randint(18, 26)
    yield from _segment(_phrase(draw, _FORM, 4).upper(), "HEADER", draw.randint(200, 400), y, height + 4)
    y += 2 * pitch
    for _ in range(draw.randint(5, 12)):
        for x in (60, 540) if draw.random() < 0.6 else (60,):
            question = _phrase(draw, _FORM, draw.randint(1, 3)) + ":"
            yield from _segment(question, "QUESTION", x, y, height)
            answer = _phrase(draw, _TEXTS, draw.randint(1, 3))
            yield from _segment(answer, "ANSWER", x + 260, y + draw.randint(-1, 1), height)
        y += pitch
    for number in range(draw.randint(2, 5)):
        continues = number > 0
        yield from _segment(_phrase(draw, _TEXTS, draw.randint(5, 9)), "ANSWER", 60, y, height, continues)
        y += pitch


def _phrase(draw: random.Random, texts: Sequence[str], count: int) -> str:
    return " ".join(draw.choice(texts) for _ in range(count))


def _segment(text: str, label: str | None, x: int, y: int, height: int, continues: bool = False) -> Iterator[Word]:
    """The words of a text; characters are 9 wide, words 8 apart."""
    for number, word in enumerate(text.split()):
        tag = "O" if label is None else f"{'I' if number or continues else 'B'}-{label}"
        yield word, tag, (min(x, 990), y, min(x + 9 * len(word), PAGE_EXTENT), y + height)
        x += 9 * len(word) + 8


def _page(page_id: str, words: Sequence[Word]) -> Page:
    texts, tags, boxes = zip(*words, strict=True)
    return Page(page_id, page_id, texts, boxes, tags, 800, 1000)


def segments(page: Page) -> list[range]:
    """Words in succession that follow each other on a printed line without a wide gap."""
    cuts = [0]
    for word in range(1, len(page.words)):
        (_, top, right, bottom), (left, other_top, _, other_bottom) = page.boxes[word - 1 : word + 1]
        is_level = abs(top + bottom - other_top - other_bottom) < bottom - top
        if not is_level or not -_GAP < left - right < _GAP:
            cuts.append(word)
    return [range(start, end) for start, end in zip(cuts, [*cuts[1:], len(page.words)], strict=True)]


def with_line_boxes(page: Page) -> Page:
    """Each word with the box of its segment."""
    boxes: list[Box] = []
    for words in segments(page):
        x0s, y0s, x1s, y1s = zip(*page.boxes[words.start : words.stop], strict=True)
        boxes += [(min(x0s), min(y0s), max(x1s), max(y1s))] * len(words)
    return replace(page, boxes=tuple(boxes))


def with_jitter(page: Page) -> Page:
    """Each edge of each box moved by up to 3 thousandths, by itself."""
    draw = random.Random(page.page_id)
    boxes = []
    for box in page.boxes:
        x0, y0, x1, y1 = (min(max(value + draw.randint(-3, 3), 0), PAGE_EXTENT) for value in box)
        boxes.append((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))
    return replace(page, boxes=tuple(boxes))


def with_wide_boxes(page: Page) -> Page:
    """Each box widened by a third on either side, so that neighbours overlap."""
    boxes = []
    for x0, y0, x1, y1 in page.boxes:
        more = (x1 - x0) // 3
        boxes.append((max(x0 - more, 0), y0, min(x1 + more, PAGE_EXTENT), y1))
    return replace(page, boxes=tuple(boxes))


def listed_twice(page: Page) -> Page:
    """All words once more, after the last one."""
    return replace(page, words=page.words * 2, boxes=page.boxes * 2, tags=page.tags * 2)


def lines_listed_twice(page: Page) -> Page:
    """The words of each segment once more, after its last one; an entity over several segments becomes one for each."""
    tags = list(page.tags)
    for words in segments(page):
        if tags[words.start][0] == "I":
            tags[words.start] = f"B{tags[words.start][1:]}"
    order = [word for words in segments(page) for word in (*words, *words)]
    return replace(
        page,
        words=tuple(page.words[word] for word in order),
        boxes=tuple(page.boxes[word] for word in order),
        tags=tuple(tags[word] for word in order),
    )


FORMS: dict[str, Callable[[Page], Page]] = {
    "word boxes": lambda page: page,
    "word boxes, jitter": with_jitter,
    "word boxes, a third wider": with_wide_boxes,
    "word boxes, wider, jitter": lambda page: with_jitter(with_wide_boxes(page)),
    "line boxes": with_line_boxes,
    "line boxes, jitter": lambda page: with_jitter(with_line_boxes(page)),
    "word boxes twice": listed_twice,
    "word boxes twice, jitter": lambda page: with_jitter(listed_twice(page)),
    "line boxes twice": lambda page: listed_twice(with_line_boxes(page)),
    "line boxes twice, jitter": lambda page: with_jitter(listed_twice(with_line_boxes(page))),
    "each line twice": lines_listed_twice,
    "each line twice, jitter": lambda page: with_jitter(lines_listed_twice(page)),
    "line boxes, each line twice, jitter": lambda page: with_jitter(with_line_boxes(lines_listed_twice(page))),
}
"""Ways in which a file gives the boxes of a page."""


def count_entities(pages: Sequence[Page]) -> int:
    return sum(len(entities(page.tags)) for page in pages)

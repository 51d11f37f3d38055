"""Units and arrangements of boxes: what is converted, what is refused with the option that reads it, and what stays."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from receipt_layoutlm.data.boxes import BoxOptions, BoxOrder, BoxUnit, Origin
from receipt_layoutlm.data.jsonl import LabelledLine, ReadOptions, read_labelled_lines
from receipt_layoutlm.data.page import Box, DataError
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.data.source_text import TextOptions

Numbers = Sequence[float]
LINES = [
    "Corner Shop",
    "12 Elm Street",
    "Date 2021-03-01",
    "Tea 2.50",
    "Bun 1.20",
    "Milk 0.99",
    "TOTAL 4.69",
    "CASH 5.00",
]
PRICE_X = 700


def receipt(top: int = 50, pitch: int = 100, lines: Sequence[str] = LINES) -> tuple[list[str], list[Box]]:
    """Words and boxes in thousandths: names at the left, the last word of a line at the right."""
    words: list[str] = []
    boxes: list[Box] = []
    for number, line in enumerate(lines):
        x = 80
        *names, last = line.split()
        for word in names:
            boxes.append((x, top + number * pitch, x + 22 * len(word), top + number * pitch + 24))
            x += 22 * len(word) + 20
        boxes.append((PRICE_X, top + number * pitch, PRICE_X + 22 * len(last), top + number * pitch + 24))
        words += [*names, last]
    return words, boxes


def read(
    tmp_path: Path,
    pages: Sequence[tuple[Sequence[str], Sequence[Numbers]]],
    options: BoxOptions | None = None,
    size: tuple[float, float] | None = None,
    notes: list[str] | None = None,
) -> list[LabelledLine]:
    path = tmp_path / "pages.jsonl"
    extra = {"width": size[0], "height": size[1]} if size else {}
    path.write_text(
        "".join(
            json.dumps({"id": str(number), "words": words, "bboxes": boxes, "labels": ["O"] * len(words), **extra})
            + "\n"
            for number, (words, boxes) in enumerate(pages)
        )
    )

    def refuse(error: DataError) -> None:
        raise error

    text = TextOptions(note=(notes if notes is not None else []).append)
    return read_labelled_lines(path, ReadOptions(text, options or BoxOptions()), refuse)


def shares(box: Box) -> Numbers:
    return [value / 1000 for value in box]


def percent(box: Box) -> Numbers:
    return [value / 10 for value in box]


def pixels(width: int, height: int) -> Callable[[Box], Numbers]:
    return lambda box: [round(value * extent / 1000) for value, extent in zip(box, (width, height) * 2, strict=True)]


def turned(
    pages: Sequence[tuple[list[str], list[Box]]], turn: Callable[[Box], Numbers]
) -> list[tuple[list[str], list[Numbers]]]:
    return [(words, [turn(box) for box in boxes]) for words, boxes in pages]


PAGES = [receipt(top=50), receipt(top=60), receipt(top=30, pitch=90)]


def near(boxes: Sequence[Box], expected: Sequence[Box]) -> bool:
    return all(
        abs(one - other) <= 2
        for box, other_box in zip(boxes, expected, strict=True)
        for one, other in zip(box, other_box, strict=True)
    )


def test_shares_are_converted_though_a_value_exceeds_one(tmp_path: Path) -> None:
    given = turned(PAGES, shares)
    given[0][1][-1] = [0.7, 0.75, 1.0004, 0.774]
    pages = read(tmp_path, given)
    assert pages[1].boxes == tuple(PAGES[1][1])
    assert pages[0].boxes[-1] == (700, 750, 1000, 774)


@pytest.mark.parametrize("size", [(380, 610), (480, 640), (300, 900), (1100, 1600), (1700, 2400)])
def test_pixels_are_converted_by_width_and_height(tmp_path: Path, size: tuple[int, int]) -> None:
    pages = read(tmp_path, turned(PAGES, pixels(*size)), size=size)
    assert near(pages[0].boxes, PAGES[0][1])
    assert (pages[0].width, pages[0].height) == size


def test_pixels_or_thousandths_are_read_as_the_option_says(tmp_path: Path) -> None:
    page = read(tmp_path, turned(PAGES[:1], pixels(900, 950)), BoxOptions(BoxUnit.PIXELS), (900, 950))[0]
    assert near(page.boxes, PAGES[0][1])
    page = read(tmp_path, turned(PAGES, pixels(380, 610)), BoxOptions(BoxUnit.THOUSANDTHS), (380, 610))[0]
    assert page.boxes == tuple(tuple(pixels(380, 610)(box)) for box in PAGES[0][1])


def test_boxes_that_end_at_the_images_edges_need_the_unit(tmp_path: Path) -> None:
    size = (850, 900)
    given = turned([receipt(top=40 + 5 * number, pitch=90 + number) for number in range(6)], pixels(*size))
    wide = [(words, [(box[0], box[1], box[2] * 1.08, box[3]) for box in boxes]) for words, boxes in given]
    with pytest.raises(DataError, match="--boxes pixels or --boxes thousandths says which"):
        read(tmp_path, wide, size=size)
    assert read(tmp_path, wide, BoxOptions(BoxUnit.PIXELS), size)[0].boxes[-1][2] > 850
    assert len(read(tmp_path, wide[:3], size=size)) == 3, "three pages may end there by chance"


@pytest.mark.parametrize("whole", [int, round])
def test_thousandths_of_whole_pixels_are_told_from_pixels(tmp_path: Path, whole: Callable[[float], int]) -> None:
    size = (850, 900)
    given = turned([receipt(top=40 + 5 * number, pitch=90 + number) for number in range(8)], pixels(*size))

    def thousandths(box: Numbers) -> Numbers:
        return [whole(1000 * value / extent) for value, extent in zip(box, size * 2, strict=True)]

    narrow = [(words, [[*box[:2], box[2] * 0.9, box[3] * 0.98] for box in boxes]) for words, boxes in given]
    made = [(words, [thousandths([round(value) for value in box]) for box in boxes]) for words, boxes in narrow]
    notes: list[str] = []
    assert read(tmp_path, made, size=size, notes=notes)[0].boxes == tuple(map(tuple, made[0][1]))
    assert notes == []
    moved = [(words, [[value + 1 for value in box] for box in boxes]) for words, boxes in made]
    with pytest.raises(DataError, match="--boxes pixels or --boxes thousandths says which"):
        read(tmp_path, moved, size=size)


def test_pixels_of_a_narrow_image_are_told_by_a_value_beyond_the_thousandths(tmp_path: Path) -> None:
    size = (800, 1080)
    given = turned([receipt(top=50, pitch=125)] * 2, pixels(*size))
    assert max(max(box) for _, boxes in given for box in boxes) in range(1001, 1050)
    wide = [(words, [[box[0], box[1], box[2] * 1.1, box[3]] for box in boxes]) for words, boxes in given]
    expected = [(box[0], box[1], min(round(1.1 * box[2]), 1000), box[3]) for box in receipt(top=50, pitch=125)[1]]
    assert near(read(tmp_path, wide, size=size)[0].boxes, expected)


def test_pixels_need_the_size_of_each_page(tmp_path: Path) -> None:
    path = tmp_path / "pages.jsonl"
    words, boxes = turned(PAGES[:1], pixels(600, 900))[0]
    page = {"words": words, "bboxes": boxes, "labels": ["O"] * len(words)}
    sized = {"width": 600, "height": 900}
    path.write_text("".join(json.dumps({"id": str(n), **page, **(sized if n else {})}) + "\n" for n in range(3)))
    bad: list[DataError] = []
    read_labelled_lines(path, ReadOptions(), bad.append)
    assert [error.line for error in bad] == [1]
    assert "need width and height" in bad[0].reason


def test_pixels_without_width_and_height_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="seem to be pixels; write the image's width and height"):
        read(tmp_path, turned(PAGES, pixels(1700, 2400)))
    with pytest.raises(DataError, match=r"into a corner .* pixels of small images; write width and height"):
        read(tmp_path, turned(PAGES, pixels(380, 480)))
    with pytest.raises(DataError, match="need width and height"):
        read(tmp_path, turned(PAGES, pixels(380, 610)), BoxOptions(BoxUnit.PIXELS))


def test_pixels_that_may_be_thousandths_are_noted_with_their_reach(tmp_path: Path) -> None:
    small = [(words, [pixels(700, 800)(box) for box in boxes]) for words, boxes in (receipt(top) for top in range(5))]
    notes: list[str] = []

    read(tmp_path, small, notes=notes)

    assert len(notes) == 1 and "if they are pixels of images of about this size, write width and height" in notes[0]
    assert near(read(tmp_path, small, BoxOptions(BoxUnit.PIXELS), size=(700, 800))[0].boxes, receipt(0)[1])
    for kept in ([receipt(top + 180) for top in range(5)], small[:4]):  # words down to the end of a page; too few pages
        read(tmp_path, kept, notes=(quiet := []))
        assert quiet == []


def test_percent_is_refused_and_read_by_its_option(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"percent of the page \(--boxes percent\)"):
        read(tmp_path, turned(PAGES, percent))
    assert read(tmp_path, turned(PAGES, percent), BoxOptions(BoxUnit.PERCENT))[0].boxes == tuple(PAGES[0][1])


def test_percent_on_pages_of_few_words_is_refused_too(tmp_path: Path) -> None:
    lines = [["Tea 2.50", f"TOTAL {'9' * count}.00", "Thanks you"] for count in range(1, 9)]
    pages = [receipt(top=10 * number, lines=of_page) for number, of_page in enumerate(lines, start=1)]
    with pytest.raises(DataError, match="--boxes percent"):
        read(tmp_path, turned(pages, percent))


@pytest.mark.parametrize("unit", [shares, percent])
def test_pages_in_different_units_are_refused_with_both_lines(tmp_path: Path, unit: Callable[[Box], Numbers]) -> None:
    given = [*turned(PAGES[:1], unit), *turned(PAGES[1:], list)]
    with pytest.raises(
        DataError, match=r"pages.jsonl:1: its boxes seem to be \w+ of the page .*, those of line 2 thousandths"
    ):
        read(tmp_path, given)


def test_thousandths_among_pixels_are_refused_with_both_lines(tmp_path: Path) -> None:
    tall = [receipt(top=50, pitch=number) for number in range(115, 121)]
    given = turned(tall[:3], pixels(1700, 2400)) + turned(tall[3:], list)
    with pytest.raises(DataError, match=r"pages.jsonl:4: its boxes seem to be thousandths .* those of line 1 pixels"):
        read(tmp_path, given, size=(1700, 2400))
    assert len(read(tmp_path, given, BoxOptions(BoxUnit.PIXELS), (1700, 2400))) == 6
    few = turned(tall[:5], pixels(1700, 2400)) + turned(tall[5:], list)
    assert len(read(tmp_path, few, size=(1700, 2400))) == 6, "a single page may be a small receipt"


ARRANGED: list[tuple[Callable[[Box], Numbers], str, BoxOptions]] = [
    (lambda b: [b[1], b[0], b[3], b[2]], "--box-order y0x0y1x1", BoxOptions(order=BoxOrder.Y_FIRST)),
    (lambda b: [b[0], b[2], b[1], b[3]], "--box-order x0x1y0y1", BoxOptions(order=BoxOrder.BY_AXIS)),
    (lambda b: [b[0], b[1], b[2] - b[0], b[3] - b[1]], "--box-order xywh", BoxOptions(order=BoxOrder.SIZED)),
    (lambda b: [b[1], b[3], b[0], b[2]], "--box-order y0y1x0x1", BoxOptions(order=BoxOrder.BY_AXIS_Y_FIRST)),
    (lambda b: [b[1], b[0], b[3] - b[1], b[2] - b[0]], "--box-order yxhw", BoxOptions(order=BoxOrder.SIZED_Y_FIRST)),
    (lambda b: [b[0], 1000 - b[3], b[2], 1000 - b[1]], "--origin bottom-left", BoxOptions(origin=Origin.BOTTOM_LEFT)),
    (lambda b: [b[0], 1000 - b[1], b[2], 1000 - b[3]], "--origin bottom-left", BoxOptions(origin=Origin.BOTTOM_LEFT)),
]


@pytest.mark.parametrize(("arrange", "option", "options"), ARRANGED)
@pytest.mark.parametrize("count", [1, 3])
def test_another_arrangement_is_refused_and_read_by_its_option(
    tmp_path: Path, arrange: Callable[[Box], Numbers], option: str, options: BoxOptions, count: int
) -> None:
    given = turned(PAGES[:count], arrange)
    with pytest.raises(DataError, match=option):
        read(tmp_path, given)
    assert read(tmp_path, given, options)[0].boxes == tuple(PAGES[0][1])


@pytest.mark.parametrize(("arrange", "option", "options"), ARRANGED[:5])
def test_another_arrangement_of_shares_is_refused_too(
    tmp_path: Path, arrange: Callable[[Box], Numbers], option: str, options: BoxOptions
) -> None:
    given = [(words, [[value / 1000 for value in box] for box in boxes]) for words, boxes in turned(PAGES, arrange)]
    with pytest.raises(DataError, match=option):
        read(tmp_path, given)
    assert near(read(tmp_path, given, options)[0].boxes, PAGES[0][1])


def test_another_arrangement_of_pixels_is_refused_too(tmp_path: Path) -> None:
    given = [(words, [[b[1], b[0], b[3], b[2]] for b in boxes]) for words, boxes in turned(PAGES, pixels(1700, 2400))]
    with pytest.raises(DataError, match="--box-order y0x0y1x1"):
        read(tmp_path, given, BoxOptions(BoxUnit.PIXELS), (2400, 2400))


def test_boxes_without_area_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="17 of 17 boxes have no area"):
        read(tmp_path, turned(PAGES[:1], lambda box: [box[0], box[1], box[0], box[1]]))


# what must stay as it is


def rotated(box: Box) -> Box:
    return (1000 - box[3], box[0], 1000 - box[1], box[2])


def rotated_back(box: Box) -> Box:
    return (box[1], 1000 - box[2], box[3], 1000 - box[0])


def upside_down(box: Box) -> Box:
    return (1000 - box[2], 1000 - box[3], 1000 - box[0], 1000 - box[1])


def in_a_part(box: Box) -> Box:
    return (box[0] * 3 // 10, box[1] * 3 // 10, box[2] * 3 // 10, box[3] * 3 // 10)


def flat_page(box: Box) -> Box:
    return (box[0] // 3, box[1], box[2] // 3, box[3])


@pytest.mark.parametrize("size", [None, (459, 949), (754, 1000), (1000, 1000), (1700, 2400)])
@pytest.mark.parametrize("turn", [list, rotated, rotated_back, upside_down, flat_page])
def test_plausible_thousandths_are_kept(
    tmp_path: Path, turn: Callable[[Box], Numbers], size: tuple[int, int] | None
) -> None:
    given = turned(PAGES, turn)
    if turn is flat_page and size == (459, 949):
        size = None  # more likely pixels
    assert [page.boxes for page in read(tmp_path, given, size=size)] == [tuple(map(tuple, boxes)) for _, boxes in given]


@pytest.mark.parametrize(
    ("size", "unit"), [((1700, 2400), None), (None, BoxUnit.THOUSANDTHS)], ids=["large image", "as the option says"]
)
def test_texts_that_fill_a_part_of_the_page_are_kept(
    tmp_path: Path, size: tuple[int, int] | None, unit: BoxUnit | None
) -> None:
    given = turned(PAGES, in_a_part)
    pages = read(tmp_path, given, BoxOptions(unit), size=size)
    assert [page.boxes for page in pages] == [tuple(map(tuple, boxes)) for _, boxes in given]


@pytest.mark.parametrize("size", [None, (380, 610), (800, 1200)])
def test_five_words_are_kept(tmp_path: Path, size: tuple[int, int] | None) -> None:
    words, boxes = receipt(lines=["Tea 2.50", "TOTAL 2.50", "Thanks"])
    assert read(tmp_path, [(words, boxes)], size=size)[0].boxes == tuple(boxes)


def test_words_in_any_order_and_line_boxes_prove_no_arrangement(tmp_path: Path) -> None:
    words, boxes = PAGES[0]
    mixed = sorted(range(len(words)), key=lambda index: (index * 7) % len(words))
    shuffled = [words[index] for index in mixed], [boxes[index] for index in mixed]
    lines = words, [(80, box[1], 900, box[3]) for box in boxes]
    assert len(read(tmp_path, [shuffled, lines])) == 2


def test_generated_receipts_are_kept(tmp_path: Path) -> None:
    pages = generate_pages(40, 3)
    given = [(list(page.words), list(page.boxes)) for page in pages]
    assert [line.boxes for line in read(tmp_path, given)] == [page.boxes for page in pages]


@pytest.mark.parametrize("scale", [1, 1000])
def test_centres_are_told_from_corners_by_words_that_would_overlap(tmp_path: Path, scale: int) -> None:
    pages = generate_pages(4, 3)

    def centred(box: Box) -> Numbers:
        numbers = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1])
        return [number / scale for number in numbers]

    given = turned([(list(page.words), list(page.boxes)) for page in pages], centred)
    with pytest.raises(DataError, match=r"the centre's x and y, width, height \(--box-order cxcywh"):
        read(tmp_path, given)
    lines = read(tmp_path, given, BoxOptions(order=BoxOrder.CENTRED))
    assert all(near(line.boxes, page.boxes) for line, page in zip(lines, pages, strict=True))

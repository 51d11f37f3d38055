"""The picture of a page."""

import io
from dataclasses import replace

import pytest
from PIL import Image, ImageColor

from receipt_layoutlm.reports.canvas import STYLES
from receipt_layoutlm.reports.overlay import Kind, Overlay
from receipt_layoutlm.reports.overlay_png import overlay_png
from tests.support.overlays import overlay_with

SIZE = (400, 800)


def drawing(overlay: Overlay) -> Image.Image:
    return Image.open(io.BytesIO(overlay_png(overlay)))


def colours(picture: Image.Image, box: tuple[int, int, int, int]) -> set[tuple[int, int, int]]:
    found = picture.crop(box).getcolors(1 << 24)
    assert found is not None
    return {colour for _, colour in found if isinstance(colour, tuple)}  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "box"),
    [
        (Kind.WRONG_WORDS, (30, 70, 210, 120)),
        (Kind.WRONG_LABEL, (30, 150, 130, 200)),
        (Kind.RIGHT, (230, 230, 290, 280)),
        (Kind.SPURIOUS, (30, 310, 130, 360)),
        (Kind.MISSED, (230, 390, 290, 440)),
    ],
)
def test_a_field_is_drawn_in_the_colour_of_its_kind_at_its_words(kind: Kind, box: tuple[int, int, int, int]) -> None:
    overlay = replace(overlay_with(), image=Image.new("RGB", SIZE, "white"))
    assert ImageColor.getrgb(STYLES[kind].colour) in colours(drawing(overlay), box)
    assert colours(drawing(replace(overlay, gold=None, predicted=())), box) == {(255, 255, 255)}


def test_the_picture_of_the_page_lies_below_the_fields() -> None:
    picture = drawing(replace(overlay_with(), image=Image.new("L", SIZE, 200)))
    assert picture.getpixel((2, 2)) == (200, 200, 200)
    assert picture.width == 400 and picture.height > 800  # a line of counts below it


def test_words_are_drawn_without_a_picture_whatever_their_boxes_and_letters() -> None:
    words = ("\x00", "咖啡", "قهوة", "W" * 2000, "😀", "a", "b", "c")
    overlay = overlay_with(words)
    flat = replace(overlay.page, boxes=((0, 0, 0, 0), (1000, 1000, 1000, 1000), *overlay.page.boxes[2:]))
    picture = drawing(replace(overlay, page=flat))
    assert (0, 0, 0) in colours(picture, (0, 0, *picture.size))

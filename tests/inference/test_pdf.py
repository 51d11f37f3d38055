from pathlib import Path

import pytest

from receipt_layoutlm.inference.pdf import count_pages, page_size, render, text_layer
from receipt_layoutlm.inference.scanned_page import ScanError
from tests.support.scans import receipt_picture, text_of, write_pdf

RECEIPT = text_of("ACME STORES Ltd", 20, 360) + text_of("Total", 20, 300) + text_of("RM 33.90", 170, 300)
WORDS = {"ACME", "STORES", "Ltd", "Total", "RM", "33.90"}
COVERING = "q 300 0 0 400 0 0 cm /I1 Do Q\n"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "scan.jpg"
    receipt_picture().save(path)
    return path


def test_the_words_of_a_pdf_lie_where_they_are_printed(tmp_path: Path) -> None:
    layer = text_layer(write_pdf(tmp_path / "r.pdf", [RECEIPT]), 1)

    assert layer is not None
    boxes = dict(zip(layer.words, layer.boxes, strict=True))
    assert boxes.keys() == WORDS
    x0, y0, x1, y1 = boxes["Total"]
    assert x0 == round(20 / 300 * 1000)
    assert y0 < (400 - 305) / 400 * 1000 < y1  # through the middle of its letters
    assert x1 < boxes["RM"][0] == round(170 / 300 * 1000)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_pdf_that_shows_its_text_on_the_side_is_turned_upright(tmp_path: Path, rotation: int) -> None:
    upright = text_layer(write_pdf(tmp_path / "r.pdf", [RECEIPT]), 1)
    turned = text_layer(write_pdf(tmp_path / "turned.pdf", [RECEIPT], rotation=rotation), 1)

    assert upright is not None
    assert turned is not None
    assert turned.rotation == 360 - rotation
    boxes = dict(zip(turned.words, turned.boxes, strict=True))
    assert boxes.keys() == WORDS
    for word, box in zip(upright.words, upright.boxes, strict=True):
        assert boxes[word] == pytest.approx(box, abs=1)


def test_text_written_on_the_side_of_an_upright_page_is_turned(tmp_path: Path) -> None:
    downwards = write_pdf(tmp_path / "down.pdf", [text_of("Total RM 33.90", 100, 300, matrix="0 -1 1 0")])
    upwards = write_pdf(tmp_path / "up.pdf", [text_of("Total RM 33.90", 100, 100, matrix="0 1 -1 0")])

    layers = [text_layer(path, 1) for path in (downwards, upwards)]

    assert [layer and (layer.words, layer.rotation) for layer in layers] == [
        (("Total", "RM", "33.90"), 270),
        (("Total", "RM", "33.90"), 90),
    ]


def test_characters_apart_are_words_of_their_own_and_kerned_ones_are_not(tmp_path: Path) -> None:
    kerned = "BT /F1 12 Tf 20 300 Td [(TO)-50(TAL)-900(12)10(.50)] TJ ET"

    layer = text_layer(write_pdf(tmp_path / "r.pdf", [kerned]), 1)

    assert layer is not None
    assert layer.words == ("TOTAL", "12.50")


def test_words_outside_the_page_are_left_out(tmp_path: Path) -> None:
    layer = text_layer(write_pdf(tmp_path / "r.pdf", [text_of("Gone", -200, 300) + text_of("Here", 50, 300)]), 1)

    assert layer is not None
    assert layer.words == ("Here",)


@pytest.mark.parametrize(
    "content",
    [
        "",
        text_of("ACME STORES", 20, 360, mode=3),  # invisible
        text_of("\001\002\003\004\005", 20, 360),  # codes without a meaning
        COVERING + text_of("Page 1", 20, 360),  # a scan with a stamp on it
        RECEIPT * 10 + COVERING,  # a scan with text beneath
    ],
    ids=["no-text", "invisible", "garbled", "stamped-scan", "text-beneath"],
)
def test_text_that_does_not_say_what_the_page_shows_is_not_used(tmp_path: Path, picture: Path, content: str) -> None:
    assert text_layer(write_pdf(tmp_path / "r.pdf", [content], picture=picture), 1) is None


def test_text_on_a_background_is_used(tmp_path: Path, picture: Path) -> None:
    lines = "".join(text_of(f"{number} pieces of bread", 20, 380 - 20 * number) for number in range(10))

    assert text_layer(write_pdf(tmp_path / "r.pdf", [COVERING + lines], picture=picture), 1) is not None


def test_a_page_is_drawn_with_220_dots_an_inch_and_a_poster_with_fewer(tmp_path: Path) -> None:
    receipt, poster = (
        write_pdf(tmp_path / "r.pdf", [RECEIPT]),
        write_pdf(tmp_path / "p.pdf", [RECEIPT], size=(9000, 9000)),
    )

    image = render(receipt, 1)

    assert image.size == (917, 1223)
    assert image.convert("L").getextrema()[0] < 50  # ink
    assert page_size(poster, 1) == (9000, 9000)
    assert render(poster, 1).width ** 2 <= 6_010_000


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: write_pdf(path, [RECEIPT], is_encrypted=True), "is a PDF with a password: save a copy"),
        (lambda path: write_pdf(path, []), "or one without pages"),
        (lambda path: path.write_bytes(b"%PDF-1.4\nand nothing more"), "is a damaged PDF"),
    ],
    ids=["password", "empty", "damaged"],
)
def test_a_bad_pdf_is_an_error_with_file_reason_and_remedy(tmp_path: Path, make: object, reason: str) -> None:
    path = tmp_path / "statement.pdf"
    assert callable(make)
    make(path)

    with pytest.raises(ScanError) as caught:
        count_pages(path)

    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from receipt_layoutlm.inference.scans import ScanError, ScannedPage, ScanOptions, read_scan, upright_image
from tests.support.paths import ROOT, SHARED
from tests.support.scans import RECEIPT, receipt_picture, text_of, write_pdf

WORDS = [word for line in RECEIPT for word in line.split()]
SROIE = SHARED / "sroie_img"


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScanOptions:
    monkeypatch.setenv("LAYOUTLM_CACHE_DIR", str(tmp_path / "cache"))
    return ScanOptions(cache_dir=tmp_path / "cache", threads=1)


def ignore(number: int, pages: int) -> None:
    """Nobody watches."""


def read(path: Path, options: ScanOptions) -> list[ScannedPage]:
    return list(read_scan(path, options=options, on_page=ignore))


def entries(options: ScanOptions) -> list[Path]:
    assert options.cache_dir is not None
    return sorted(path for path in options.cache_dir.rglob("*.json"))


def ink_within(image: Image.Image, box: tuple[int, int, int, int]) -> float:
    """Share of the page's dark pixels that a box in thousandths has."""
    dark = np.asarray(image.convert("L")) < 128
    x0, y0, x1, y1 = (round(value * extent / 1000) for value, extent in zip(box, image.size * 2, strict=True))
    return float(dark[y0:y1, x0:x1].sum() / dark.sum())


def test_a_photograph_becomes_words_with_boxes(tmp_path: Path, options: ScanOptions) -> None:
    path = tmp_path / "r.jpg"
    receipt_picture().save(path)

    [page] = read(path, options)

    assert list(page.words) == WORDS
    assert (page.width, page.height, page.number, page.rotation) == (420, 420, 1, 0)
    assert page.engine.startswith("rapidocr 3.")
    assert all(0.5 < confidence <= 1 for confidence in page.confidences)
    # the boxes are those of the letters: all ink lies in them, and each line's on its own height
    assert sum(ink_within(receipt_picture(), box) for box in page.boxes) > 0.95
    assert [box[1] * 420 // 1000 // 60 for box in page.boxes] == [
        number for number, line in enumerate(RECEIPT) for _ in line.split()
    ]


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_a_page_on_its_side_or_head_is_turned_upright(tmp_path: Path, options: ScanOptions, angle: int) -> None:
    upright, path = receipt_picture(size=(420, 500)), tmp_path / "r.png"
    upright.rotate(-angle, expand=True).save(path)  # by the angle, clockwise

    [page] = read(path, options)

    assert list(page.words) == WORDS
    assert (page.width, page.height, page.rotation) == (420, 500, 360 - angle)
    assert page.notes == (f"turned by {360 - angle} degrees clockwise",)
    assert sum(ink_within(upright, box) for box in page.boxes) > 0.95
    assert upright_image(path, 1, page.rotation) == upright
    assert upright_image(path, 1) == upright  # as the cache has it


def test_a_picture_upright_by_its_exif_needs_no_turn(tmp_path: Path, options: ScanOptions) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    receipt_picture(size=(420, 500)).rotate(90, expand=True).save(tmp_path / "r.jpg", exif=exif)

    [page] = read(tmp_path / "r.jpg", options)

    assert list(page.words) == WORDS
    assert (page.width, page.height, page.rotation, page.notes) == (420, 500, 0, ())


def test_light_letters_on_dark_are_read(tmp_path: Path, options: ScanOptions) -> None:
    receipt_picture().point(lambda value: 255 - value).save(tmp_path / "r.png")

    assert list(read(tmp_path / "r.png", options)[0].words) == WORDS


def test_a_scan_read_once_is_taken_from_the_cache_whatever_its_name(tmp_path: Path, options: ScanOptions) -> None:
    path, copy = tmp_path / "r.jpg", tmp_path / "copy.jpg"
    receipt_picture(["TOTAL 9.00"], (200, 100)).save(path)
    copy.write_bytes(path.read_bytes())
    [page] = read(path, options)
    [entry] = entries(options)
    entry.write_text(entry.read_text().replace("9.00", "8.00"))

    [cached] = read(copy, options)

    assert cached.words == ("TOTAL", "8.00")
    assert read(copy, replace(options, use_cache=False)) == [page]


def test_other_content_is_read_anew(tmp_path: Path, options: ScanOptions) -> None:
    path = tmp_path / "r.png"
    for amount in ("9.00", "7.00"):
        receipt_picture([f"TOTAL {amount}"], (200, 100)).save(path)
        assert read(path, options)[0].words == ("TOTAL", amount)
    assert len(entries(options)) == 2


def test_without_the_cache_nothing_is_stored(tmp_path: Path, options: ScanOptions) -> None:
    receipt_picture(["TOTAL 9.00"], (200, 100)).save(tmp_path / "r.png")

    read(tmp_path / "r.png", replace(options, use_cache=False))

    assert entries(options) == []


def test_the_cache_lies_in_the_folder_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYOUTLM_CACHE_DIR", str(tmp_path / "mine"))
    receipt_picture(["TOTAL 9.00"], (200, 100)).save(tmp_path / "r.png")

    read(tmp_path / "r.png", ScanOptions(threads=1))

    assert len(entries(ScanOptions(cache_dir=tmp_path / "mine"))) == 1


def test_a_pdf_gives_its_own_words_without_a_doubt(tmp_path: Path, options: ScanOptions) -> None:
    path = write_pdf(tmp_path / "r.pdf", [text_of("RM 9.00", 150, 300) + text_of("Total", 20, 300)])

    [page] = read(path, options)

    assert page.words == ("Total", "RM", "9.00")  # in reading order, not in that of the file
    assert page.confidences == (1.0, 1.0, 1.0)
    assert (page.width, page.height, page.engine) == (300, 400, "pdf text")


def test_the_text_of_a_pdf_is_ignored_on_request(tmp_path: Path, options: ScanOptions) -> None:
    path = write_pdf(tmp_path / "r.pdf", [text_of("Total 9.00", 20, 300)])

    [page] = read(path, replace(options, pdf_text="ignore"))

    assert page.words == ("Total", "9.00")
    assert page.engine.startswith("rapidocr")


def test_a_pdf_of_scans_is_read_by_ocr_and_its_blank_pages_are_left_out(tmp_path: Path, options: ScanOptions) -> None:
    receipt_picture().save(tmp_path / "scan.jpg")
    drawn = "q 300 0 0 300 0 50 cm /I1 Do Q"
    path = write_pdf(tmp_path / "r.pdf", [text_of("Cover", 20, 300), "", drawn], picture=tmp_path / "scan.jpg")
    seen: list[tuple[int, int]] = []

    pages = list(read_scan(path, options=options, on_page=lambda number, count: seen.append((number, count))))

    assert [(page.number, page.engine.split()[0]) for page in pages] == [(1, "pdf"), (3, "rapidocr")]
    assert list(pages[1].words) == WORDS
    assert sum(ink_within(upright_image(path, 3), box) for box in pages[1].boxes) > 0.95
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_pages_of_a_long_pdf_are_read_one_at_a_time(tmp_path: Path, options: ScanOptions) -> None:
    path = write_pdf(tmp_path / "r.pdf", [text_of(f"Page {number}", 20, 300) for number in range(1, 41)])
    seen: list[int] = []

    first = list(islice(read_scan(path, options=options, on_page=lambda number, _: seen.append(number)), 2))

    assert [page.words for page in first] == [("Page", "1"), ("Page", "2")]
    assert seen == [1, 2]
    assert read(path, options)[39].words == ("Page", "40")


def blank(path: Path) -> None:
    receipt_picture([]).save(path, "PNG")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (blank, "no text was found: scan it"),
        (lambda path: write_pdf(path, ["", ""]), "no text was found on any of its 2 pages"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: None, "does not exist"),
        (lambda path: path.write_text("TOTAL 9.00"), "is not a JPEG"),
        (lambda path: write_pdf(path, [""], is_encrypted=True), "is a PDF with a password"),
    ],
)
def test_a_file_without_words_is_an_error_that_names_it(
    tmp_path: Path, options: ScanOptions, make: object, reason: str
) -> None:
    path = tmp_path / "r.jpg"
    assert callable(make)
    make(path)

    with pytest.raises(ScanError) as caught:
        read(path, options)

    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)


def test_an_error_arrives_whole_from_another_process() -> None:
    error = ScanError(Path("r.jpg"), "is empty", "copy it once more")

    assert str(pickle.loads(pickle.dumps(error))) == "r.jpg: is empty: copy it once more"


@pytest.mark.parametrize("package", ["PIL", "rapidocr"])
def test_without_the_extra_a_scan_is_an_error_that_names_it(tmp_path: Path, package: str) -> None:
    receipt_picture().save(tmp_path / "r.jpg")
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from pathlib import Path\n"
        "from receipt_layoutlm.inference.scans import ScanOptions, read_scan\n"
        "list(read_scan(Path(sys.argv[1]), options=ScanOptions(use_cache=False), on_page=print))"
    )

    command = [sys.executable, "-c", program, str(tmp_path / "r.jpg")]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert "pip install 'receipt-layoutlm[ocr]'" in child.stderr.splitlines()[-1]


@pytest.fixture
def sroie() -> dict[str, str]:
    """The values of receipt 002, whose scan is among the shared data."""
    if not SROIE.is_dir():
        pytest.skip(f"{SROIE} is not here: the scans of SROIE are not part of the repository")
    with (SHARED / "sroie" / "dev.jsonl").open(encoding="utf-8") as file:
        values: dict[str, str] = json.loads(next(file))["key"]
    return values


def test_the_values_of_a_real_receipt_are_spelled_exactly(sroie: dict[str, str], options: ScanOptions) -> None:
    text = " ".join(read(SROIE / "002.jpg", options)[0].words)

    assert [name for name, value in sroie.items() if value in text] == ["company", "date", "address", "total"]

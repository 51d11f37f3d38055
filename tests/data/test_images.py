"""Image sizes: read from the header, None for what is not an image."""

from pathlib import Path

import pytest

from receipt_layoutlm.data.images import image_size
from tests.support.paths import FIXTURES, SHARED

SROIE = SHARED / "sroie_raw" / "img"

JPEG = (FIXTURES / "sroie/img/000.jpg").read_bytes()


def test_jpeg_and_png_say_their_size() -> None:
    assert image_size(FIXTURES / "sroie/img/000.jpg") == (400, 900)
    assert image_size(FIXTURES / "funsd/training_data/images/0000971160.png") == (300, 400)


@pytest.mark.parametrize("length", range(len(JPEG) - 12))
def test_a_file_that_ends_before_its_size_has_none(tmp_path: Path, length: int) -> None:
    path = tmp_path / "cut.jpg"
    path.write_bytes(JPEG[:length])
    assert image_size(path) is None


def test_what_is_no_image_has_no_size(tmp_path: Path) -> None:
    path = tmp_path / "text.jpg"
    path.write_bytes(b"<html>not found</html>" * 9)
    assert image_size(path) is None


def test_markers_without_a_length_and_filling_bytes_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "filled.jpg"
    path.write_bytes(JPEG[:2] + b"\xff\x01" + b"\xff\xff" + JPEG[2:])
    assert image_size(path) == (400, 900)


@pytest.mark.skipif(not SROIE.is_dir(), reason="the raw receipts are not on this machine")
def test_a_real_scan_says_its_size() -> None:
    assert image_size(SROIE / "002.jpg") == (459, 949)

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from receipt_layoutlm.inference.pictures import MAX_PIXELS, OCR_PIXELS, count_frames, read_frame
from receipt_layoutlm.inference.scanned_page import ScanError
from tests.support.paths import ROOT
from tests.support.scans import receipt_picture

# EXIF orientation -> how the stored picture was made from the upright one
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of two pictures' values, 0..255."""
    assert one.size == other.size
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", STORED)
def test_a_picture_stands_as_its_exif_says(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = receipt_picture(size=(420, 300))
    transposition = STORED[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if transposition is None else upright.transpose(transposition)
    stored.save(tmp_path / f"r.{suffix}", exif=exif, quality=95)

    image, size = read_frame(tmp_path / f"r.{suffix}", 1)

    assert size == (420, 300)
    assert difference(image, upright) < 3


def as_16_bit(picture: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(picture.convert("L"), np.uint16) * 14 + 500)  # 12 bits used, as by many scanners


def on_nothing(picture: Image.Image) -> Image.Image:
    """Black letters, and no paper: what is white is transparent."""
    letters = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    letters.putalpha(picture.convert("L").point(lambda value: 255 - value))
    return letters


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("grey.png", receipt_picture().convert("L")),
        ("black-and-white.tif", receipt_picture().convert("1")),
        ("palette.png", receipt_picture().convert("P")),
        ("transparent.png", on_nothing(receipt_picture())),
        ("grey-transparent.png", on_nothing(receipt_picture()).convert("LA")),
        ("palette-transparent.png", on_nothing(receipt_picture()).quantize(8)),
        ("cmyk.jpg", receipt_picture().convert("CMYK")),
        ("cmyk.tif", receipt_picture().convert("CMYK")),
        ("16-bit.png", as_16_bit(receipt_picture())),
        ("16-bit.tif", as_16_bit(receipt_picture())),
        ("float.tif", receipt_picture().convert("F").point(lambda value: value / 255)),
        ("bitmap.bmp", receipt_picture()),
    ],
)
def test_every_kind_of_pixel_becomes_dark_letters_on_white(tmp_path: Path, name: str, stored: Image.Image) -> None:
    stored.save(tmp_path / name)

    image, _ = read_frame(tmp_path / name, 1)

    assert image.mode == "RGB"
    assert (
        difference(image, receipt_picture()) < 3 < difference(Image.new("RGB", (420, 420), "white"), receipt_picture())
    )


def test_a_tiff_has_its_frames_as_pages_and_an_animation_has_one(tmp_path: Path) -> None:
    first, second = receipt_picture(["one"]), receipt_picture(["two"])
    first.save(tmp_path / "r.tif", save_all=True, append_images=[second])
    first.save(tmp_path / "r.webp", save_all=True, append_images=[second])

    assert (count_frames(tmp_path / "r.tif"), count_frames(tmp_path / "r.webp")) == (2, 1)
    assert difference(read_frame(tmp_path / "r.tif", 2)[0], second) == 0


@pytest.mark.parametrize("name", ["large.jpg", "large.png"])
def test_a_large_photograph_is_scaled_down_and_keeps_its_size_in_words(tmp_path: Path, name: str) -> None:
    receipt_picture().resize((3900, 4100)).save(tmp_path / name)

    image, size = read_frame(tmp_path / name, 1)

    assert size == (3900, 4100)
    assert 0.95 * OCR_PIXELS < image.width * image.height < 1.01 * OCR_PIXELS
    assert difference(image.resize((420, 420)), receipt_picture()) < 5


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_that_claims(width: int, height: int) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def stored(picture: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (stored(receipt_picture(), "JPEG")[:4000], "is damaged or truncated"),
        (stored(receipt_picture(), "PNG")[:2000], "is damaged or truncated"),
        (stored(receipt_picture(), "TIFF")[:2000], "is damaged or truncated"),
        (stored(Image.new("RGB", (1, 1)), "PNG"), "is 1 x 1 pixels, too small for text"),
        (b"Dear Sir, please find enclosed", "is not a JPEG, PNG, TIFF, WebP, BMP or PDF file"),
        (b"\0\0\0\x18ftypheic" + bytes(50), "but HEIC or AVIF: export it as JPEG"),
        (png_that_claims(12_000, 10_001), "has 12000 x 10001 pixels, more than 120 million pixels"),
        (png_that_claims(60_000, 60_000), "more than 120 million pixels"),
    ],
)
def test_a_bad_picture_is_an_error_with_file_reason_and_remedy(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "r.jpg"
    path.write_bytes(content)

    with pytest.raises(ScanError) as caught:
        read_frame(path, 1)

    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


MEMORY = r"""
import re, sys
from pathlib import Path
from receipt_layoutlm.inference.pictures import read_frame
def peak(): return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024
before = peak()
image, size = read_frame(Path(sys.argv[1]), 1)
print(size[0] * size[1], image.width * image.height, peak() - before)
"""


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of a process's memory is read from /proc")
@pytest.mark.parametrize(
    ("name", "mode", "megabytes"), [("r.jpg", "RGB", 150), ("r.png", "RGB", 550), ("r.png", "L", 250)]
)
def test_a_picture_of_100_megapixels_takes_bounded_memory(tmp_path: Path, name: str, mode: str, megabytes: int) -> None:
    picture = receipt_picture().convert(mode).resize((10_000, 10_000))
    picture.save(tmp_path / name)

    command = [sys.executable, "-c", MEMORY, str(tmp_path / name)]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    full, scaled, used = map(int, child.stdout.split())
    assert full == 100_000_000 < MAX_PIXELS
    assert scaled <= 1.01 * OCR_PIXELS
    assert used < megabytes

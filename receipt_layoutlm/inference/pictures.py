"""Decodes photographs and scans in bounded memory: each frame upright by EXIF, in RGB, scaled down for OCR."""

import math
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from receipt_layoutlm.inference.scanned_page import ScanError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 120_000_000
"""Of a picture; decoded it takes up to 4 bytes a pixel, but a JPEG is decoded at a fraction of its size."""

OCR_PIXELS = 6_000_000
"""Size to which larger pictures are scaled down: A4 at 240 dpi."""

MIN_SIDE = 16
"""Pixels; no text can be read in a smaller picture."""

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")
_NAMES = "a JPEG, PNG, TIFF, WebP, BMP or PDF file"
_STRIP_PIXELS = 4_000_000
_ORIENTATION = 0x0112  # the EXIF tag
_ON_ITS_SIDE = (5, 6, 7, 8)  # its values that exchange width and height
_HEIF = b"ftyp"  # at byte 4 of HEIC and AVIF
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error)  # as raised by pillow for damaged files


@contextmanager
def _opened(path: Path) -> Iterator["Image"]:
    """The file, not yet decoded. Errors inside the block are damages of the file."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd EXIF, and of sizes, whose limit here is MAX_PIXELS
            with Image.open(path, formats=FORMATS) as image:
                yield image
    except Image.DecompressionBombError as error:
        raise _too_large(path, str(error).partition(",")[0]) from error
    except UnidentifiedImageError as error:
        with path.open("rb") as file:
            is_heif = file.read(8)[4:] == _HEIF
        remedy = "export it as JPEG" if is_heif else "convert it to one of them"
        raise ScanError(path, f"is not {_NAMES}{' but HEIC or AVIF' if is_heif else ''}", remedy) from error
    except _UNREADABLE as error:
        raise ScanError(path, f"is damaged or truncated ({error})", "copy or scan it once more") from error


def _too_large(path: Path, size: str) -> ScanError:
    return ScanError(path, f"{size}, more than {MAX_PIXELS // 10**6} million pixels", "scale the picture down")


def count_frames(path: Path) -> int:
    """Pages of a TIFF. A second frame of another format is a preview or an animation, not a page."""
    with _opened(path) as image:
        return getattr(image, "n_frames", 1) if image.format == "TIFF" else 1


def read_frame(path: Path, number: int) -> tuple["Image", tuple[int, int]]:
    """The frame `number` from 1: RGB, upright, at most OCR_PIXELS; and its full upright size in pixels."""
    with _opened(path) as image:
        image.seek(number - 1)
        if image.width * image.height > MAX_PIXELS:
            raise _too_large(path, f"has {image.width} x {image.height} pixels")
        if min(image.size) < MIN_SIDE:
            reason = f"is {image.width} x {image.height} pixels, too small for text"
            raise ScanError(path, reason, "scan it with at least 150 dpi")
        return _decoded(image)


def _decoded(image: "Image") -> tuple["Image", tuple[int, int]]:
    from PIL import ImageOps

    full = image.size
    scale = min(1.0, math.sqrt(OCR_PIXELS / (full[0] * full[1])))
    image.draft(None, (math.ceil(full[0] * scale), math.ceil(full[1] * scale)))  # a JPEG, while decoding: 1/2, 1/4, 1/8
    image.load()
    orientation = image.getexif().get(_ORIENTATION, 1)
    scaled = _rgb(image, (max(round(full[0] * scale), 1), max(round(full[1] * scale), 1)))
    scaled.getexif()[_ORIENTATION] = orientation
    return ImageOps.exif_transpose(scaled), full[::-1] if orientation in _ON_ITS_SIDE else full


def _rgb(image: "Image", size: tuple[int, int]) -> "Image":
    """The picture in RGB and scaled to a size.

    Strip by strip: a converted copy of the whole would double the memory.
    """
    from PIL import Image

    factor = max(1, image.width // size[0])
    rows = max(_STRIP_PIXELS // image.width // factor, 1) * factor
    levels = _levels(image) if image.mode[0] in "IF" else None  # I;16, I, F
    reduced = Image.new("RGB", (math.ceil(image.width / factor), math.ceil(image.height / factor)))
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        reduced.paste(_rgb_strip(strip, levels).reduce(factor), (0, top // factor))
    return reduced if reduced.size == size else reduced.resize(size, Image.Resampling.LANCZOS)


def _levels(image: "Image") -> tuple[float, float]:
    """The darkest and the lightest value of a picture with one channel."""
    low, high = image.getextrema()
    assert isinstance(low, int | float) and isinstance(high, int | float)
    return low, high


def _rgb_strip(strip: "Image", levels: tuple[float, float] | None) -> "Image":
    """RGB of any mode: on white where it is transparent, 16 bit and floats stretched from `levels` to 0..255."""
    from PIL import Image

    if levels is not None:
        import numpy as np

        low, high = levels
        values = (np.asarray(strip, dtype=np.float32) - low) * (255 / max(high - low, 1e-9))
        return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")
    if strip.has_transparency_data:
        white = Image.new("RGBA", strip.size, "white")
        white.alpha_composite(strip.convert("RGBA"))
        return white.convert("RGB")
    return strip.convert("RGB")

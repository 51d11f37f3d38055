"""Checks of the images that pages name: present, readable and not blank. Nothing is decoded."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import imagesize

from receipt_layoutlm.data.page import Page

MIN_JPEG_BYTES = 0.03
"""Per pixel; a JPEG with fewer is blank: blank ones have 0.01 to 0.02, scanned receipts 0.08 and more."""

MIN_PNG_BYTES = 0.004  # per pixel; PNG compresses even areas better
_MARKS = {
    b"\xff\xd8": ".jpg",
    b"\x89PNG": ".png",
    b"%PDF-": ".pdf",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"RIFF": ".webp",
    b"BM": ".bmp",
}
_END_MARK_BYTES = 64  # at the end of a file, among which its end mark has to be


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """The number of page images found, and the problem of each image by page id."""

    checked: int
    problems: dict[str, str]


def images_by_name(folder: Path) -> dict[str, Path]:
    """The files of a folder by name, name without suffix, and SHA-256: what `Page.image`, or else its id, may be."""
    files: dict[str, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files |= {path.name: path, path.stem: path, digest: path}
    return files


def image_names(page: Page) -> tuple[str, ...]:
    """What a file with the page's image may be called, in order of preference."""
    named = page.image or page.page_id
    return named, Path(named).name, page.page_id


def find_image(page: Page, files: Mapping[str, Path]) -> Path | None:
    """The page's image among files by name, as images_by_name has them."""
    return next((files[name] for name in image_names(page) if name in files), None)


def check_images(pages: Iterable[Page], folder: Path) -> ImageCheck:
    """Check the image that each page names, by SHA-256 or file name, or else the image named like the page id."""
    files = images_by_name(folder)
    checked, problems = 0, {}
    for page in pages:
        image = files.get(page.image or page.page_id)
        if image is None:
            if page.image is not None:
                problems[page.page_id] = "its image is not in the folder"
            continue
        checked += 1
        content, size = image.read_bytes(), image_size(image)
        is_png = content.startswith(b"\x89PNG")
        if size is None or not (is_png or content.startswith(b"\xff\xd8")):
            problems[page.page_id] = f"{image.name} is not a readable JPEG or PNG"
        elif (b"IEND" if is_png else b"\xff\xd9") not in content[-_END_MARK_BYTES:]:
            problems[page.page_id] = f"{image.name} is truncated"
        elif len(content) / (size[0] * size[1]) < (MIN_PNG_BYTES if is_png else MIN_JPEG_BYTES):
            problems[page.page_id] = f"{image.name} is blank or nearly blank"
    return ImageCheck(checked, problems)


def suffix_of(path: Path) -> str:
    """The suffix of a picture or PDF file by its first bytes; empty for any other."""
    with path.open("rb") as file:
        head = file.read(5)
    return next((suffix for mark, suffix in _MARKS.items() if head.startswith(mark)), "")


def image_size(path: Path) -> tuple[int, int] | None:
    """Width and height in pixels as stored, without EXIF rotation; None if the file is not an image or truncated."""
    width, height = imagesize.get(path, exif_rotation=False)
    return (round(width), round(height)) if width > 0 and height > 0 else None

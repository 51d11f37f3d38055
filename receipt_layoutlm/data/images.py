"""Images that pages name: are they there, readable, and not blank? By headers and sizes only, nothing is decoded.

Width and height of a JPEG or PNG, read from its header without decoding it.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from receipt_layoutlm.data.page import Page

BLANK = 0.03
"""Bytes per pixel below which a JPEG shows nothing: blank ones have 0.01 to 0.02, scanned receipts 0.08 and more."""

BLANK_PNG = 0.004  # the same of a PNG, which packs an even area better
_END = 64  # bytes at the end of a file among which its end mark has to stand
_CHUNK = 1 << 20  # bytes hashed at a time


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """How many images of pages were found and looked at, and by page id what is wrong."""

    checked: int
    problems: dict[str, str]


def check_images(pages: Iterable[Page], folder: Path) -> ImageCheck:
    """Look at the image that each page names, by its SHA-256 or its name; else at the one named as the page's id."""
    found = _found_files(folder)
    checked, problems = 0, {}
    for page in pages:
        path = found.get(page.image or page.page_id)
        checked += path is not None
        if (path is not None or page.image is not None) and (problem := _problem(path)):
            problems[page.page_id] = problem
    return ImageCheck(checked, problems)


def _found_files(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        files |= {path.name: path, path.stem: path, _sha256(path): path}
    return files


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _problem(path: Path | None) -> str | None:
    if path is None:
        return "its image is not in the folder"
    size = image_size(path)
    if size is None or 0 in size:
        return f"{path.name} is no JPEG or PNG that can be read"
    content = path.read_bytes()
    is_png = content.startswith(b"\x89PNG")
    if (b"IEND" if is_png else b"\xff\xd9") not in content[-_END:]:
        return f"{path.name} breaks off"
    if len(content) / (size[0] * size[1]) < (BLANK_PNG if is_png else BLANK):
        return f"{path.name} is blank, or nearly so"
    return None


_PNG = b"\x89PNG\r\n\x1a\n"

# the start-of-frame markers; C4, C8 and CC lie among them and mean something else (ITU-T T.81, table B.1)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset(range(0xD0, 0xD9)) | {0x01}


def image_size(path: Path) -> tuple[int, int] | None:
    """Width and height in pixels as stored; None when it is neither a JPEG nor a PNG, or ends too early."""
    with path.open("rb") as file:
        head = file.read(24)
        if head.startswith(_PNG) and len(head) == 24:
            return _known(int.from_bytes(head[16:20]), int.from_bytes(head[20:24]))
        if not head.startswith(b"\xff\xd8"):
            return None
        file.seek(2)
        return _jpeg_size(file)


def _jpeg_size(file: BinaryIO) -> tuple[int, int] | None:
    """Walk from segment to segment until the frame header, which says the size."""
    while (marker := _next_marker(file)) is not None:
        if marker in _WITHOUT_LENGTH:
            continue
        length = file.read(2)
        if marker in _FRAMES:
            frame = file.read(5)
            return _known(int.from_bytes(frame[3:5]), int.from_bytes(frame[1:3])) if len(frame) == 5 else None
        if len(length) < 2:
            return None
        file.seek(int.from_bytes(length) - 2, 1)
    return None


def _known(width: int, height: int) -> tuple[int, int] | None:
    """The size, unless one side is 0: a JPEG may say its height after its first lines."""
    return (width, height) if width and height else None


def _next_marker(file: BinaryIO) -> int | None:
    """The marker's second byte; any number of FF may stand before it."""
    if file.read(1) != b"\xff":
        return None
    while (byte := file.read(1)) == b"\xff":
        pass
    return byte[0] if byte else None

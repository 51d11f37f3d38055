"""Images that pages name: are they there, readable, and not blank? By headers and sizes only, nothing is decoded."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from receipt_layoutlm.image_size import image_size
from receipt_layoutlm.page import Page

BLANK = 0.03
"""Bytes per pixel below which a JPEG shows nothing: blank ones have 0.01 to 0.02, scanned receipts 0.08 and more."""
BLANK_PNG = 0.004  # the same of a PNG, which packs an even area better
_END = 64  # bytes at the end of a file among which its end mark has to stand
_CHUNK = 1 << 20  # bytes hashed at a time


def image_problems(pages: Iterable[Page], folder: Path) -> dict[str, str]:
    """For each page that names an image, what is wrong with it; the name is the file's SHA-256 or its name."""
    found = _found_files(folder)
    problems = {}
    for page in pages:
        if page.image is not None and (problem := _problem(found.get(page.image))):
            problems[page.page_id] = problem
    return problems


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

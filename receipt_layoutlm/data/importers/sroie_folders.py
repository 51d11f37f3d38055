"""Folders of SROIE as people have them after a download.

| where | boxes | values | images |
|---|---|---|---|
| the usual copy | box or bbox | key | img |
| Kaggle, below SROIE2019/train and test | box | entities | img |
| the competition | 0325updated.task1train(626p) | 0325updated.task2train(626p) | beside the boxes |

Box and value folders lie side by side, in the folder named, below it, or above it when one of them is named.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from receipt_layoutlm.data.source_text import is_leftover

_BOX = re.compile(r"b?box(es)?|.*task[ _-]?1.*train.*", re.IGNORECASE)
_KEY = re.compile(r"keys?|entit(y|ies)|.*task[ _-]?2.*train.*", re.IGNORECASE)
_IMAGE = re.compile(r"ima?ge?s?", re.IGNORECASE)
_DEPTH = 4  # folders below the one that is named


@dataclass(frozen=True, slots=True)
class ReceiptFolder:
    """The folders of boxes and of values, and those where images may lie."""

    box: Path
    key: Path
    images: tuple[Path, ...]


def receipt_folders(path: Path) -> list[ReceiptFolder]:
    """The SROIE folders in a folder or below it, else the one that it belongs to; none for anything else."""
    if not path.is_dir():
        return []
    found = _below(path, _DEPTH)
    is_inside = any(kind.fullmatch(path.name) for kind in (_BOX, _KEY, _IMAGE))
    if not found and is_inside and (above := _at(path.resolve().parent)):
        found = [above]
    return found


def _below(folder: Path, depth: int) -> list[ReceiptFolder]:
    if here := _at(folder):
        return [here]
    inner = _folders(folder) if depth else []
    return [found for each in inner for found in _below(each, depth - 1)]


def _at(folder: Path) -> ReceiptFolder | None:
    inner = _folders(folder)
    box, key = (_largest([each for each in inner if kind.fullmatch(each.name)]) for kind in (_BOX, _KEY))
    if box is None or key is None:
        return None
    return ReceiptFolder(box, key, (*(each for each in inner if _IMAGE.fullmatch(each.name)), box, key))


def _largest(folders: Sequence[Path]) -> Path | None:
    """Of box and bbox, or a copy of it, the one with more files; the first by name of several."""
    return max(folders, key=lambda each: len(text_files(each)), default=None)


def _folders(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir() and not is_leftover(each.relative_to(folder)))


def text_files(folder: Path) -> list[Path]:
    """The .csv and .txt files of a folder by name, without leftovers."""
    files = (each for each in folder.iterdir() if each.suffix.lower() in (".csv", ".txt"))
    return sorted(each for each in files if not is_leftover(each.relative_to(folder)))


def beside(folder: Path, stem: str, suffixes: Sequence[str]) -> Path | None:
    """The file of a folder with this name and one of the suffixes, the first that exists."""
    return next((path for suffix in suffixes if (path := folder / f"{stem}{suffix}").is_file()), None)

"""placeholder until the scans branch"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from receipt_layoutlm.data.page import Box
from receipt_layoutlm.errors import UserError

SCAN_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".pdf")


@dataclass(frozen=True, slots=True)
class ScannedPage:
    words: tuple[str, ...]
    boxes: tuple[Box, ...]
    confidences: tuple[float, ...]
    width: int
    height: int
    number: int
    engine: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScanOptions:
    threads: int | None = None


class ScanError(UserError):
    """x"""


def read_scan(path: Path, *, options: ScanOptions, on_page: Callable[[int, int], None]) -> Iterator[ScannedPage]:
    raise ScanError(f"{path}: install receipt-layoutlm[ocr]")

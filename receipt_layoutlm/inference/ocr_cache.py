"""Cache of OCR results: one JSON file a page, named by the scan's content, the engine and the options.

Files appear whole or not at all. A damaged one is read anew. The least recently used go when the folder is full.
"""

import hashlib
import os
import tempfile
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from receipt_layoutlm.inference.scanned_page import ScannedPage

MAX_BYTES = 256_000_000
"""Of the folder, some 20,000 pages."""

_WRITES_BETWEEN_LOOKS = 200
"""The folder's size is determined at the first write of a process and again after so many."""

_PAGE = TypeAdapter(ScannedPage)


class OcrCache:
    """The results of one version of the engine with one set of options (`settings`)."""

    def __init__(self, folder: Path, settings: str, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder / "ocr"
        self._settings = hashlib.sha256(settings.encode()).hexdigest()[:16]
        self._max_bytes = max_bytes
        self._writes = 0

    def get(self, digest: str, number: int) -> ScannedPage | None:
        """The page `number` of the file with this SHA-256."""
        path = self._path(digest, number)
        try:
            page = _PAGE.validate_json(path.read_bytes())
            os.utime(path)  # used now
        except (OSError, ValidationError):
            return None
        return page if len(page.words) == len(page.boxes) == len(page.confidences) > 0 else None

    def put(self, digest: str, page: ScannedPage) -> None:
        """Store a page. A folder that cannot be written to costs the cache, not the page."""
        path = self._path(digest, page.number)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(_PAGE.dump_json(page))
            Path(file.name).replace(path)
            if self._writes % _WRITES_BETWEEN_LOOKS == 0:
                self._shrink()
        except OSError:
            return
        self._writes += 1

    def _path(self, digest: str, number: int) -> Path:
        return self._folder / digest[:2] / f"{digest}-{self._settings}-{number}.json"

    def _shrink(self) -> None:
        files = sorted(
            (
                (stat.st_mtime, stat.st_size, path)
                for path in self._folder.rglob("*")
                if path.is_file()
                for stat in [path.stat()]
            ),
            reverse=True,
        )
        kept = 0
        for _, size, path in files:
            kept += size
            if kept > self._max_bytes:
                path.unlink(missing_ok=True)

"""A folder of drawn pages and their index. A folder that was interrupted is continued."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TextIO

from receipt_layoutlm.data.page import Page, page_to_line
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.reports.overlay import ERRORS, Kind, Overlay
from receipt_layoutlm.reports.overlay_html import overlay_html
from receipt_layoutlm.reports.overlay_index import INDEX, DrawnPage, Format, index_html
from receipt_layoutlm.reports.overlay_png import overlay_png

RECORDS: Final = "overlay.jsonl"

REVISION: Final = 1
"""Of the drawings: pages that were drawn by another one are drawn again."""

_NAME_LENGTH: Final = 60  # characters of a page id in a file name


class FolderError(UserError):
    """A folder that cannot be written or continued; the text says why."""


def content_of(page: Page, *versions: str) -> str:
    """Digest of what a drawing depends on beside the model: the page, and versions of its picture and options."""
    return hashlib.sha256(json.dumps([REVISION, page_to_line(page), *versions]).encode()).hexdigest()


def remove_drawn(folder: Path) -> None:
    """Remove the files that an OverlayFolder wrote. Raises FolderError."""
    for page in _drawn(folder).values():
        for name in page.files.values():
            (folder / Path(name).name).unlink(missing_ok=True)
    for name in (INDEX, RECORDS):
        (folder / name).unlink(missing_ok=True)


class OverlayFolder:
    """Draws pages into files, and at the end their index. `pages` are those that are there, by source and number."""

    def __init__(self, folder: Path, formats: Collection[Format], model: str) -> None:
        self._folder, self._formats, self._model = folder, {*formats}, model
        self._records: TextIO | None = None
        self.pages: dict[tuple[str, int], DrawnPage] = {}
        self.failed: Mapping[str, str] = {}
        """Sources that could not be read, and why."""

    def __enter__(self) -> Self:
        path = self._folder / RECORDS
        self.pages = _drawn(self._folder)
        if other := next((page.model for page in self.pages.values() if page.model != self._model), None):
            raise FolderError(
                f"{self._folder} has pages of another model ({other[:12]}…): name another folder, or give --overwrite"
            )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not path.exists() and any(self._folder.iterdir()):
                raise FolderError(f"{self._folder} has files that overlay did not write: name a new or an empty folder")
            # anew, so that a line that a killed process left torn does not stay
            path.write_text("".join(f"{page.model_dump_json()}\n" for page in self.pages.values()), encoding="utf-8")
            self._records = path.open("a", encoding="utf-8")
        except OSError as error:
            raise _not_writable(self._folder, error) from error
        return self

    def has(self, source: str, number: int, content: str) -> bool:
        """Whether the page was drawn with this content, in all formats."""
        page = self.pages.get((source, number))
        return page is not None and page.content == content and self._formats <= page.files.keys()

    def draw(self, overlay: Overlay, content: str) -> None:
        """Write the files of a page, then its record. Raises FolderError."""
        assert self._records is not None
        drawn: dict[Format, bytes] = {}
        if "html" in self._formats:
            drawn["html"] = overlay_html(overlay, INDEX).encode()
        if "png" in self._formats:
            drawn["png"] = overlay_png(overlay)
        key, name = (overlay.source, overlay.number), _file_name(overlay)
        before = self.pages.get(key)
        page = DrawnPage(
            source=overlay.source,
            page=overlay.number,
            page_id=overlay.page.page_id,
            model=self._model,
            content=content,
            files={
                **(before.files if before and before.content == content else {}),
                **{each: f"{name}.{each}" for each in drawn},
            },
            has_gold=overlay.gold is not None,
            predicted=len(overlay.predicted),
            right=overlay.count(Kind.RIGHT),
            errors={kind: overlay.count(kind) for kind in ERRORS if overlay.count(kind)},
            lowest_confidence=overlay.lowest_confidence,
        )
        try:
            for each, data in drawn.items():
                (self._folder / page.files[each]).write_bytes(data)
            self._records.write(page.model_dump_json() + "\n")
            self._records.flush()
        except OSError as error:
            raise _not_writable(self._folder, error) from error
        self.pages[key] = page

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._records is not None:
            self._records.close()
            (self._folder / INDEX).write_text(index_html(self.pages.values(), self.failed), encoding="utf-8")


def _drawn(folder: Path) -> dict[tuple[str, int], DrawnPage]:
    """The newest record of each page; a torn last line is left out. Raises FolderError."""
    path = folder / RECORDS
    try:
        content = path.read_text(encoding="utf-8") if path.exists() else ""
        pages = [DrawnPage.model_validate_json(line) for line in content.split("\n")[:-1]]
    except (OSError, ValueError) as error:
        raise FolderError(f"{path} cannot be read, or overlay did not write it: name another folder") from error
    return {(page.source, page.page): page for page in pages}


def _not_writable(folder: Path, error: OSError) -> FolderError:
    return FolderError(f"{folder} cannot be written: {error.strerror or error}")


def _file_name(overlay: Overlay) -> str:
    """The page id in harmless characters, with a digest of where the page is from."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "_", overlay.page.page_id).strip("._")[:_NAME_LENGTH]
    place = hashlib.sha256(json.dumps([overlay.source, overlay.number]).encode()).hexdigest()
    return f"{readable or 'page'}-{place[:8]}"

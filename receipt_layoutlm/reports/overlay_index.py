"""The index of drawn pages: those with most errors first, then those with the least certain fields."""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from receipt_layoutlm.reports.html import html_document
from receipt_layoutlm.reports.overlay import ERRORS, Kind

INDEX: Final = "index.html"

Format = Literal["html", "png"]


class DrawnPage(BaseModel):
    """A drawn page: where it is from, what was drawn, its files, and its trouble.

    `content` is the digest of what was drawn beside the predictions. Without gold labels nothing is right or wrong.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    page: int
    page_id: str
    model: str
    content: str
    files: dict[Format, str]
    has_gold: bool
    predicted: int
    right: int
    errors: dict[Kind, int]
    lowest_confidence: float | None

    @property
    def error_count(self) -> int:
        return sum(self.errors.values())

    @property
    def trouble(self) -> tuple[float, ...]:
        """Sorts by errors, then by the least certain field; without gold labels a page without a field is first."""
        if self.lowest_confidence is None:
            return -self.error_count, 1.0 if self.has_gold else 0.0
        return -self.error_count, self.lowest_confidence


def sorted_by_trouble(pages: Iterable[DrawnPage]) -> list[DrawnPage]:
    return sorted(pages, key=lambda page: (page.trouble, page.source, page.page))


def index_html(pages: Iterable[DrawnPage], failed: Mapping[str, str]) -> str:
    """The index of pages; `failed` are sources that could not be read, and why."""
    rows = sorted_by_trouble(pages)
    kinds = [kind for kind in ERRORS if any(page.errors.get(kind) for page in rows)]
    return html_document("index.html.jinja", ("overlay.css",), pages=rows, failed=failed, kinds=kinds)

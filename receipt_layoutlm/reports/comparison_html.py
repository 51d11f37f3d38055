"""Two models side by side as one HTML file: differences with their intervals, and the pages that flipped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from pydantic import JsonValue

from receipt_layoutlm.reports.drawing import drawings_within
from receipt_layoutlm.reports.html import html_document
from receipt_layoutlm.reports.overlay import ERRORS, Overlay
from receipt_layoutlm.run.paired import Difference, PairedScores

FLIPPED_PAGES: Final = 20
"""Drawn pages of each kind: those that became wrong, and those that became right."""

PAGE_BYTES: Final = 4_000_000
MAX_LABELS: Final = 60
PLOT_WIDTH: Final = 300


@dataclass(frozen=True, slots=True)
class FlippedPage:
    """A page on which one of the two models finds every entity and the other does not."""

    first: Overlay
    other: Overlay


class Interval(NamedTuple):
    """A difference in the plot: places of its interval, of itself and of zero. low and high are None without one."""

    low: float | None
    middle: float
    high: float | None


def comparison_html(
    first: str,
    other: str,
    scores: PairedScores,
    options: Mapping[str, tuple[JsonValue, JsonValue]],
    became_wrong: Sequence[FlippedPage],
    became_right: Sequence[FlippedPage],
) -> str:
    """The other model against the first. options: those that differ, with the value of each, by their flag.

    Flipped pages are drawn in their order as far as there is room, the wrong ones first.
    """
    kinds = {"became wrong": became_wrong[:FLIPPED_PAGES], "became right": became_right[:FLIPPED_PAGES]}
    overlays = [each for pages in kinds.values() for page in pages for each in (page.first, page.other)]
    drawings = iter(drawings_within(PAGE_BYTES, overlays))
    rows = [("all labels", scores.f1), *list(scores.per_label.items())[:MAX_LABELS]]
    widest = max((abs(value) for _, row in rows for value in (row.difference, row.low, row.high) if value), default=1.0)
    return html_document(
        "comparison.html.jinja",
        ("overlay.css", "report.css"),
        first=first,
        other=other,
        scores=scores,
        rows=[(label, row, _interval(row, widest)) for label, row in rows],
        widest=widest,
        width=PLOT_WIDTH,
        options=options,
        kinds={kind: [(page, next(drawings), next(drawings)) for page in pages] for kind, pages in kinds.items()},
        counts={"became wrong": len(scores.became_wrong), "became right": len(scores.became_right)},
        errors=[kind.value for kind in ERRORS],
    )


def _interval(row: Difference, widest: float) -> Interval:
    def place(value: float) -> float:
        return PLOT_WIDTH / 2 * (1 + value / widest)

    low, high = (None if value is None else place(value) for value in (row.low, row.high))
    return Interval(low, place(row.difference), high)

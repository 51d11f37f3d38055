"""The report of a run as one HTML file, which needs no network and no script."""

from typing import Final, NamedTuple

from receipt_layoutlm.reports.charts import LEFT, RIGHT, WIDTH, run_charts, sparkline, timeline_bars
from receipt_layoutlm.reports.drawing import drawings_within
from receipt_layoutlm.reports.html import html_document
from receipt_layoutlm.reports.overlay import ERRORS
from receipt_layoutlm.reports.report import ConfusionCell, Report
from receipt_layoutlm.reports.report_build import MadeReport

MAX_BYTES: Final = 5_000_000
PAGE_BYTES: Final = 3_500_000
"""Of all drawn pages; those beyond it are listed without a drawing."""

MAIN_CHARTS: Final = 4
SHOWN_EVALUATIONS: Final = 200
SHOWN_CONFUSIONS: Final = 25
SHADES: Final = 6


class ShownCell(NamedTuple):
    """A cell with its anchor and shade, 0 to SHADES - 1, by its share of the true class."""

    cell: ConfusionCell
    anchor: str
    shade: int

    @property
    def is_right(self) -> bool:
        return self.cell.true == self.cell.predicted


def report_html(made: MadeReport) -> str:
    """The page. Drawings that would make the file too large are left out, the worst pages first in it."""
    report = made.report
    drawings = drawings_within(PAGE_BYTES, made.overlays)
    cells = _cells(report)
    return html_document(
        "report.html.jinja",
        ("overlay.css", "report.css"),
        report=report,
        charts=run_charts(report),
        main_charts=MAIN_CHARTS,
        chart_width=WIDTH,
        plot=(LEFT, WIDTH - RIGHT),
        evaluations=report.evaluations[-SHOWN_EVALUATIONS:],
        cells={(shown.cell.true, shown.cell.predicted): shown for shown in cells},
        confusions=sorted((each for each in cells if not each.is_right), key=lambda each: -each.cell.count),
        most_confusions=SHOWN_CONFUSIONS,
        drawings=drawings,
        most_predicted=max((count for row in report.histogram for count in (row.predicted, row.true or 0)), default=1)
        or 1,
        page_numbers={page.page_id: number for number, page in enumerate(report.worst_pages, start=1)},
        sparkline=sparkline,
        bars=timeline_bars(report, report.made_at, 1000),
        errors=[kind.value for kind in ERRORS],
    )


def _cells(report: Report) -> list[ShownCell]:
    if report.confusion is None:
        return []
    totals = report.confusion.totals
    return [
        ShownCell(cell, f"cell-{number}", min(int(SHADES * cell.count / totals[cell.true]), SHADES - 1))
        for number, cell in enumerate(report.confusion.cells)
    ]

"""The report of a run as Markdown: its tables and advice, for a comment or a note."""

import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from receipt_layoutlm.reports.canvas import spelled_out
from receipt_layoutlm.reports.charts import figure
from receipt_layoutlm.reports.html import inline_json
from receipt_layoutlm.reports.report import Report

SHOWN_CONFUSIONS = 10
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~&$])")


class _Code(str):
    """Text that stands between backticks already."""


def report_markdown(report: Report) -> str:
    """Every value is escaped: a text of the run is neither markup nor a link nor a column."""
    cells = report.confusion.cells if report.confusion else ()
    wrong = sorted((cell for cell in cells if cell.true != cell.predicted), key=lambda cell: -cell.count)
    return _environment().get_template("report.md.jinja").render(report=report, confusions=wrong[:SHOWN_CONFUSIONS])


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=False,  # finalize escapes
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_escaped,
    )
    environment.filters |= {"figure": figure, "score": "{:.4f}".format, "code": _code, "inline_json": inline_json}
    return environment


def _escaped(value: object) -> object:
    return value if isinstance(value, _Code) else _SPECIAL.sub(r"\\\1", spelled_out(str(value)))


def _code(value: object) -> _Code:
    """The value as code on one line; in a table a vertical bar would end the cell whatever is around it."""
    text = spelled_out(str(value)).replace("|", "¦")
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    pad = " " if "`" in text else ""
    return _Code(f"{fence}{pad}{text}{pad}{fence}")

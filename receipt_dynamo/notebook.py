"""Records in notebooks: tables in HTML."""

import html
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

MOST_ROWS_SHOWN = 200


class Shown(Protocol):
    """A record that names the attributes which a table has."""

    def cells(self) -> Mapping[str, object]: ...


R = TypeVar("R")


class Records(list[R]):
    """A list that notebooks show as a table."""

    def _repr_html_(self) -> str:
        return html_table([each for each in self if hasattr(each, "cells")])


def html_table(records: Sequence[Shown]) -> str:
    """A table with a row a record; every text is escaped, since names and messages come from others."""
    shown = [each.cells() for each in records[:MOST_ROWS_SHOWN]]
    names = list(dict.fromkeys(name for cells in shown for name in cells))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_text(cells.get(name)))}</td>" for name in names) + "</tr>"
        for cells in shown
    )
    left_out = len(records) - len(shown)
    more = f"<p>{left_out} more are not shown</p>" if left_out else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}"


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)

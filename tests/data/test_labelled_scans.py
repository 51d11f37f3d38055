"""A table's columns become labels, its cells values, and these the tags of pages."""

import json
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from receipt_layoutlm.data.dates import DateOrder
from receipt_layoutlm.data.importers.find_values import Document, GivenValue
from receipt_layoutlm.data.importers.label_table import own_table
from receipt_layoutlm.data.importers.labelled_scans import label_scan, label_scans, printed_order
from receipt_layoutlm.data.importers.value_columns import EmptyCells, Values, column_table, read_values
from receipt_layoutlm.data.importers.value_table import ValueRow
from receipt_layoutlm.data.labels import LabelError
from receipt_layoutlm.data.page import DataError

LINES = ("ACME STORES", "01/12/2018 08:13", "BREAD 9.00", "TOTAL 9.00")


def document(*lines: str) -> Document:
    words = [word for line in lines for word in line.split()]
    boxes = [
        (60 * place, 40 * number, 60 * place + 50, 40 * number + 16)
        for number, line in enumerate(lines)
        for place in range(len(line.split()))
    ]
    return Document([(words, boxes)])


def cells(
    column: str,
    *texts: str,
    order: DateOrder | None = None,
    empty: EmptyCells = "unknown",
    label_map: Mapping[str, str] | None = None,
) -> list[GivenValue | None]:
    rows = [ValueRow(f"{n}.jpg", {column: text}, Path("v.csv"), n + 2) for n, text in enumerate(texts)]
    values, bad = read_values(rows, column_table([column], label_map or {}), order, empty)
    if bad:
        raise bad[0]
    return [next(iter(each.found.values()), None) for each in values]


@pytest.mark.parametrize(
    ("column", "label"),
    [
        ("Company", "MERCHANT_NAME"),
        ("grand total", "GRAND_TOTAL"),
        ("DATE", "DATE"),
        ("VAT", "TAX"),
        ("total", "GRAND_TOTAL"),
    ],
)
def test_a_column_is_known_by_our_label_or_its_usual_name(column: str, label: str) -> None:
    assert column_table([column], {})(column) == label


def test_an_unknown_column_is_refused_until_it_is_mapped_or_kept() -> None:
    with pytest.raises(LabelError, match=r"unknown label Totl; did you mean total.*--label-map"):
        cells("Totl", "9.00")
    assert cells("Totl", "9.00", label_map={"Totl": "GRAND_TOTAL"}) == [Decimal("9.00")]
    rows = [ValueRow("a", {"INVOICE": "A-17"}, Path("v.csv"))]
    assert read_values(rows, own_table({}, {}), None, "unknown")[0][0].found == {"INVOICE": "A-17"}


def test_two_columns_with_one_label_are_refused() -> None:
    rows = [ValueRow("a", {"total": "1", "amount": "2"}, Path("v.csv"))]
    with pytest.raises(LabelError, match="'total' and 'amount' are both GRAND_TOTAL"):
        read_values(rows, column_table(["total", "amount"], {}), None, "unknown")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["25/12/2018", "01/02/2018"], ["2018-12-25", "2018-02-01"]),
        (["12/25/2018", "01/02/2018"], ["2018-12-25", "2018-01-02"]),
        (["2018-12-25", "1 Feb 2018"], ["2018-12-25", "2018-02-01"]),
        (["2018-12-25 00:00:00", "03/03/2018"], ["2018-12-25", "2018-03-03"]),
    ],
)
def test_the_order_of_day_and_month_is_that_of_the_whole_column(texts: list[str], expected: list[str]) -> None:
    assert cells("date", *texts) == [date.fromisoformat(text) for text in expected]


def test_a_column_that_does_not_show_its_order_asks_for_it() -> None:
    with pytest.raises(DataError, match=r"column date has dates like 01/02/2018.*--date-order"):
        cells("date", "01/02/2018", "03/04/2018")
    assert cells("date", "01/02/2018", order="mdy") == [date(2018, 1, 2)]
    with pytest.raises(DataError, match="25/12/2018 and 12/25/2018"):
        cells("date", "25/12/2018", "12/25/2018")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["1234.5", "RM1,234.50", "9"], ["1234.5", "1234.50", "9"]),
        (["1.234,50", "1.234", "9,00"], ["1234.50", "1234", "9.00"]),  # by the column's commas
        (["-3.00", "$4"], ["-3.00", "4"]),
    ],
)
def test_amounts_are_read_as_their_column_writes_them(texts: list[str], expected: list[str]) -> None:
    assert cells("total", *texts) == [Decimal(text) for text in expected]


@pytest.mark.parametrize(("column", "text"), [("total", "nine"), ("date", "31/31/2018"), ("date", "43459")])
def test_a_cell_that_is_no_date_or_amount_is_refused_with_its_line(column: str, text: str) -> None:
    with pytest.raises(DataError, match=rf"v\.csv:3: {column} '{text}' is no"):
        cells(column, "2018-12-25" if column == "date" else "1.00", text)


def test_own_labels_are_dates_or_amounts_where_every_cell_is() -> None:
    rows = [ValueRow("a", {"due": "2018-12-25", "net": "9,50", "no": "17"}, Path("v.csv"))]
    (values,), _ = read_values(rows, own_table({}, {}), None, "unknown")
    assert values.found == {"due": date(2018, 12, 25), "net": Decimal("9.50"), "no": "17"}


VALUES: dict[str, GivenValue | None] = {
    "MERCHANT_NAME": "Acme Stores", "DATE": date(2018, 12, 1), "GRAND_TOTAL": Decimal("9.00")
}  # fmt: skip


def tags(values: Values, *lines: str) -> str:
    """A letter a word: M, D, G for the labels, O, and - for an unlabelled one."""
    return "".join(tag[2:][:1] or tag for tag in label_scan(document(*lines), values, "dmy").tags[0])


def test_found_values_are_labelled_and_the_rest_is_o() -> None:
    assert tags(Values(VALUES), *LINES) == "MMDOOOOG"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"GRAND_TOTAL": None}, "MMD-O-O-"),  # unknown: any word with a digit may be it
        ({"GRAND_TOTAL": Decimal("8.00")}, "MMD-O-O-"),  # not found: likewise
        ({"MERCHANT_NAME": None}, "--D----G"),
        ({"MERCHANT_NAME": "Beta Mart Sdn Bhd"}, "--D----G"),
    ],
)
def test_a_value_that_is_unknown_or_not_found_leaves_the_words_that_may_be_it_unlabelled(
    changed: dict[str, GivenValue | None], expected: str
) -> None:
    assert tags(Values({**VALUES, **changed}), *LINES) == expected


def test_a_value_that_is_not_printed_leaves_nothing_unlabelled() -> None:
    values = Values({"MERCHANT_NAME": "Acme Stores"}, frozenset({"GRAND_TOTAL"}))
    assert tags(values, *LINES) == "MMOOOOOO"


@pytest.mark.parametrize(
    ("text", "empty", "is_unknown"),
    [
        ("", "unknown", True),
        ("", "not-printed", False),
        ("not printed", "unknown", False),
        ("Not Printed", "unknown", False),
    ],
)
def test_an_empty_cell_is_unknown_unless_it_is_said_to_mean_that_nothing_is_printed(
    text: str, empty: EmptyCells, is_unknown: bool
) -> None:
    rows = [ValueRow("a", {"total": text}, Path("v.csv"))]
    (values,), _ = read_values(rows, column_table(["total"], {}), None, empty)
    assert ("GRAND_TOTAL" in values.found, "GRAND_TOTAL" in values.not_printed) == (is_unknown, not is_unknown)


def test_a_word_with_two_labels_gets_neither() -> None:
    values = Values({"MERCHANT_NAME": "Acme Stores", "WEBSITE": "acme stores"})
    found = label_scan(document(*LINES), values, None)
    assert (found.tags[0][:2], found.outcomes) == (("-", "-"), {"MERCHANT_NAME": "ambiguous", "WEBSITE": "ambiguous"})


def test_the_printed_order_is_that_of_the_dates_which_show_it() -> None:
    scans = [(document(f"{day}/12/2018"), Values({"DATE": date(2018, 12, day)})) for day in (13, 25)]
    assert printed_order(scans) == "dmy"
    scans = [(document(f"12/{day}/2018"), Values({"DATE": date(2018, 12, day)})) for day in (13, 25)]
    assert printed_order(scans) == "mdy"
    assert printed_order([(document("5/12/2018"), Values({"DATE": date(2018, 12, 5)}))]) is None


def test_the_report_counts_outcomes_and_lists_the_worst_first() -> None:
    scans = [
        ("right", document(*LINES), Values(VALUES)),
        ("near", document("ACHE STORES", *LINES[1:]), Values(VALUES)),
        ("lost", document("SOMETHING ELSE", *LINES[1:]), Values(VALUES)),
        ("two", document(*LINES[:2], "BREAD 9.00", "BUTTER 9.00"), Values(VALUES)),
    ]

    _, report = label_scans(scans)

    assert report.outcomes["MERCHANT_NAME"] == {"exact": 2, "approximate": 1, "missing": 1}
    assert report.outcomes["GRAND_TOTAL"] == {"exact": 3, "ambiguous": 1}
    assert [(doubt.file, doubt.outcome) for doubt in report.doubts] == [
        ("lost", "missing"), ("two", "ambiguous"), ("near", "approximate")
    ]  # fmt: skip
    assert report.doubts[2].words == "ACHE STORES"
    assert json.dumps(report.outcomes)

"""Texts of fields become dates and amounts, or a reason why not."""

import pytest

from receipt_layoutlm.inference.values import read_value


def value(label: str, text: str, order: str | None = None) -> str:
    found = read_value(label, text, order)  # type: ignore[arg-type]
    return found.shown if found is not None and not isinstance(found, str) else f"no value: {found}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("25/12/2018", "2018-12-25"),
        ("2018-03-01", "2018-03-01"),  # year first is never day and month exchanged
        ("2018/03/01 12:33", "2018-03-01"),
        ("15 MAR 2018", "2018-03-15"),
        ("15MAR18", "2018-03-15"),
        ("Mar 5, 2018", "2018-03-05"),
        ("DATE: 15/03/2018 11:20PM", "2018-03-15"),
        ("15.03.18", "2018-03-15"),
        ("15032018", "2018-03-15"),
        ("18/11/18 (Sun)", "2018-11-18"),
        ("29/02/2020", "2020-02-29"),
        ("03/03/2018", "2018-03-03"),  # the same in either order
    ],
)
def test_a_date_is_read_in_every_common_form(text: str, expected: str) -> None:
    assert value("DATE", text) == expected


def test_a_date_that_could_be_two_has_no_value_until_the_order_is_said() -> None:
    assert "2018-02-01 or 2018-01-02" in value("DATE", "01/02/2018")
    assert "--date-order" in value("DATE", "01/02/2018")
    assert value("DATE", "01/02/2018", "dmy") == "2018-02-01"
    assert value("DATE", "01/02/2018", "mdy") == "2018-01-02"


@pytest.mark.parametrize("text", ["12", "March", "12:30", "31/02/2018", "MARCH 2018", "TOTAL", "9" * 5000])
def test_what_lacks_a_day_month_or_year_is_no_date(text: str) -> None:
    assert "is no date" in value("DATE", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RM 1,234.50", "1234.50 MYR"),
        ("1.234,50 €", "1234.50 EUR"),
        ("$3", "3 $"),  # of many countries
        ("S$ 3.20", "3.20 SGD"),
        ("-5.00", "-5.00"),
        ("USD12", "12 USD"),
        ("100", "100"),
        ("12.50.", "12.50"),
    ],
)
def test_an_amount_is_a_decimal_with_the_printed_currency(text: str, expected: str) -> None:
    assert value("GRAND_TOTAL", text) == expected


def test_a_text_that_is_no_amount_says_so_and_other_labels_have_no_values() -> None:
    assert value("TAX", "GST") == "no value: 'GST' is no amount"
    assert read_value("MERCHANT_NAME", "12.50", None) is None

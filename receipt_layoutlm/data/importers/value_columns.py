"""The columns of a table of values become labels, and its cells dates, amounts and texts.

A cell is a value, or empty: then the receipt may have one that the table lacks. `not printed` says that it has none.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal

from receipt_layoutlm.data.amounts import read_amount
from receipt_layoutlm.data.dates import DateOrder, read_date
from receipt_layoutlm.data.importers.find_values import GivenValue
from receipt_layoutlm.data.importers.label_table import LabelTable, core_table
from receipt_layoutlm.data.importers.value_table import ValueRow
from receipt_layoutlm.data.jsonl import normalised_name
from receipt_layoutlm.data.labels import CORE_LABELS, OUTSIDE, LabelError, ValueKind, value_kind
from receipt_layoutlm.data.page import UNSUPERVISED, DataError

EmptyCells = Literal["unknown", "not-printed"]

COLUMNS: dict[str, str] = {
    **{label.casefold(): label for label in CORE_LABELS},
    "company": "MERCHANT_NAME",
    "merchant": "MERCHANT_NAME",
    "vendor": "MERCHANT_NAME",
    "supplier": "MERCHANT_NAME",
    "store": "MERCHANT_NAME",
    "address": "ADDRESS_LINE",
    "phone": "PHONE_NUMBER",
    "total": "GRAND_TOTAL",
    "amount": "GRAND_TOTAL",
    "vat": "TAX",
    "gst": "TAX",
    "net": "SUBTOTAL",
}
"""Names of columns, in any case, with spaces or underscores -> label."""

NOT_PRINTED = "not printed"
_MERCHANT = "MERCHANT_NAME"
_NUMERIC_DATE = re.compile(r"(?<!\d)(\d\d?)[-/. ](\d\d?)[-/. ]\d\d(?:\d\d)?(?!\d)")
_DECIMAL_COMMA = re.compile(r",\d{1,2}\D*$")
_DECIMAL_POINT = re.compile(r"\.\d{1,2}\D*$")


def column_table(columns: Iterable[str], label_map: Mapping[str, str]) -> LabelTable:
    """The labels of columns by their names, overridden by the label map."""
    known = {column: COLUMNS[key] for column in columns if (key := _key(column)) in COLUMNS}
    return core_table({**COLUMNS, **known}, label_map)


def _key(column: str) -> str:
    return re.sub(r"[\W_]+", "_", column.casefold()).strip("_")


@dataclass(frozen=True, slots=True)
class Values:
    """The values of a scan by label: None for an unknown one; `not_printed` are the labels without one."""

    found: Mapping[str, GivenValue | None]
    not_printed: frozenset[str] = frozenset()

    @property
    def group(self) -> str | None:
        """The merchant in letters and digits, by which pages are split."""
        return normalised_name(str(self.found.get(_MERCHANT) or "")) or None


def read_values(
    rows: Sequence[ValueRow], table: LabelTable, order: DateOrder | None, empty: EmptyCells
) -> tuple[list[Values], list[DataError]]:
    """The values of each row, and the cells that are no date or amount where their label has one.

    LabelError for columns without a label and for two with the same. `order` is that of day and month in the cells.
    """
    columns = _columns_of_labels(rows, table)
    bad: list[DataError] = []
    found: list[dict[str, GivenValue | None]] = [{} for _ in rows]
    absent: list[set[str]] = [set() for _ in rows]
    for label, column in columns.items():
        texts = [row.texts.get(column, "") for row in rows]
        given = [text for text in texts if text and text.casefold() != NOT_PRINTED]
        read = _reader(label, given, order, column)
        for index, (row, text) in enumerate(zip(rows, texts, strict=True)):
            if text.casefold() == NOT_PRINTED or (not text and empty == "not-printed"):
                absent[index].add(label)
            elif not text:
                found[index][label] = None
            else:
                try:
                    found[index][label] = read(text)
                except ValueError as error:
                    bad.append(row.error(f"{column} {error}"))
    values = [Values(each, frozenset(none)) for each, none in zip(found, absent, strict=True)]
    return values, sorted(bad, key=lambda error: (error.file or "", error.line or 0))


def _columns_of_labels(rows: Sequence[ValueRow], table: LabelTable) -> dict[str, str]:
    """The column of each label, without those that are dropped."""
    columns: dict[str, str] = {}
    for column in dict.fromkeys(column for row in rows for column in row.texts):
        label = table(column)
        if label in columns:
            reason = f"the columns {columns[label]!r} and {column!r} are both {label}"
            raise LabelError(f'{reason}: leave one out with a label map such as {{"{column}": "O"}} (--label-map)')
        if label == UNSUPERVISED:
            raise LabelError(
                f'the column {column!r} is mapped to "-", which no value can be: map it to "O" to leave it out'
            )
        if label != OUTSIDE:
            columns[label] = column
    if not columns:
        raise LabelError("no column has a label: nothing can be found")
    return columns


def _reader(label: str, texts: Sequence[str], order: DateOrder | None, column: str) -> Callable[[str], GivenValue]:
    """Reads the cells of a column: dates and amounts by the label's name, or where all cells are such."""
    kind = _kind(label, texts)
    if kind == "date":
        settled = order or _order_of_cells(texts, column)
        return lambda text: _date(text, settled)
    if kind == "amount":
        # 1.234 is read as its column writes decimals
        has_comma = any(map(_DECIMAL_COMMA.search, texts)) and not any(map(_DECIMAL_POINT.search, texts))
        return lambda text: _amount(text.replace(".", "") if has_comma else text)
    return lambda text: text


def _kind(label: str, texts: Sequence[str]) -> ValueKind:
    kind = value_kind(label)
    if kind != "text" or label in CORE_LABELS or not texts:
        return kind
    if all(isinstance(read_date(text, "dmy"), date) for text in texts):
        return "date"
    has_decimals = all(_DECIMAL_COMMA.search(text) or _DECIMAL_POINT.search(text) for text in texts)
    return "amount" if has_decimals and all(map(read_amount, texts)) else "text"


def _order_of_cells(texts: Sequence[str], column: str) -> DateOrder:
    """The order of day and month that all cells of a column have. DataError if none or several show it."""
    example: dict[DateOrder, str] = {}
    for text in texts:
        if match := _NUMERIC_DATE.search(text):
            first, second = int(match[1]), int(match[2])
            if first > 12 or second > 12:
                example.setdefault("dmy" if first > 12 else "mdy", text)
    if len(example) == 2:
        raise DataError(
            f"the column {column} has {example['dmy']} and {example['mdy']}, of which one has day and month exchanged: "
            "write dates as in 2018-12-25, or say the order of those like 01/02/2018 with --date-order"
        )
    unclear = next((text for text in texts if " or " in str(read_date(text, None))), None)
    if not example and unclear is not None:
        raise DataError(
            f"the column {column} has dates like {unclear}, and none that shows whether day or month is first: say it "
            "with --date-order dmy or mdy"
        )
    return next(iter(example), "dmy")


def _date(text: str, order: DateOrder) -> date:
    found = read_date(text, order)
    if isinstance(found, str):
        raise ValueError(f"{found}: write it as in 2018-12-25")
    return found


def _amount(text: str) -> Decimal:
    found = read_amount(text)
    if found is None:
        raise ValueError(f"{text!r} is no amount: write it as in 1234.50")
    return found.value

"""Values of fields: dates as ISO 8601, amounts as decimals with their currency."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from receipt_layoutlm.data.amounts import read_amount
from receipt_layoutlm.data.dates import DateOrder, read_date
from receipt_layoutlm.data.labels import value_kind


class FieldValue(BaseModel):
    """What the text of a field says.

    date: `text` is YYYY-MM-DD. amount: `text` is a decimal number with a point, `currency` an ISO 4217 code, the
    printed sign where several currencies share it, or None where none is printed.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["date", "amount"]
    text: str
    currency: str | None = None

    @property
    def shown(self) -> str:
        """The value with its currency, for people."""
        return self.text if self.currency is None else f"{self.text} {self.currency}"


def read_value(label: str, text: str, order: DateOrder | None) -> FieldValue | str | None:
    """The value of a field by its label, or the reason why its text is none; None for a label without values.

    Labels with DATE in their name have dates; those of totals, prices, taxes and the like have amounts. `order` decides
    about dates like 01/02/2018; without it such a date is not read.
    """
    kind = value_kind(label)
    if kind == "date":
        found = read_date(text, order)
        return found if isinstance(found, str) else FieldValue(kind="date", text=found.isoformat())
    if kind == "text":
        return None
    amount = read_amount(text)
    if amount is None:
        return f"{text!r} is no amount"
    return FieldValue(kind="amount", text=f"{amount.value:f}", currency=amount.currency)

"""What a sample receipt says, as rows of labelled text: header, items in the merchant's layout, totals, footer."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from receipt_layoutlm.data.sample_merchants import Kind, Merchant, product

_FIRST_DAY = datetime(2016, 1, 1, tzinfo=UTC)
_MINUTES = 8 * 365 * 24 * 60


@dataclass(frozen=True, slots=True)
class Span:
    """Text of one entity, or of none. One that continues goes on with the entity of the row above."""

    text: str
    label: str | None = None
    continues: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """Spans printed one after the other. `at` is where the aligned edge stands, a share of the print's width."""

    spans: tuple[Span, ...]
    align: Literal["left", "center", "right"] = "left"
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """One printed line; without cells a gap. `scale` is the size of its type, 1 = normal."""

    cells: tuple[Cell, ...] = ()
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Item:
    """A line item: `total` = quantity x unit price; prices in cents."""

    name: str
    quantity: int
    unit_price: int

    @property
    def total(self) -> int:
        return self.quantity * self.unit_price


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one visit adds to what is known of the merchant."""

    merchant: Merchant
    items: tuple[Item, ...]
    at: datetime

    @property
    def subtotal(self) -> int:
        """Cents."""
        return sum(item.total for item in self.items)

    @property
    def tax(self) -> int:
        """Cents."""
        return round(self.subtotal * self.merchant.tax_rate / 10_000)

    @property
    def total(self) -> int:
        """Cents."""
        return self.subtotal + self.tax

    def money(self, cents: int) -> str:
        return f"{self.merchant.currency}{cents // 100}.{cents % 100:02d}"


def receipt(merchant: Merchant, draw: random.Random) -> Receipt:
    """A visit to a merchant."""
    items = []
    for _ in range(draw.randint(3, 8)):
        name, price = product(merchant.kind, draw)
        short = _cut(name.upper() if merchant.upper_case else name, merchant.columns // 2)
        items.append(Item(short, draw.choice((1, 1, 1, 2, 3, 4)), price))
    return Receipt(merchant, tuple(items), _FIRST_DAY + timedelta(minutes=draw.randrange(_MINUTES)))


def _cut(name: str, characters: int) -> str:
    """The first words of a name that fit, as a till prints it; the first word always."""
    words = name.split()
    while len(words) > 1 and len(" ".join(words)) > characters:
        words.pop()
    return " ".join(words)


def rows(bought: Receipt, draw: random.Random) -> list[Row]:
    """All rows of a receipt from top to bottom."""
    when, number = _when(bought, draw), _number(draw)
    top, bottom = (when, number) if bought.merchant.date_on_top else (number, when)
    items = [row for item in bought.items for row in _ITEM_ROWS[bought.merchant.kind](bought, item, draw)]
    heading = _HEADINGS[bought.merchant.kind]
    parts = [_header(bought.merchant, draw), [top], [heading, *items], _totals(bought, draw)]
    parts += [_payment(bought, draw), [bottom], _footer(bought.merchant, draw)]
    return [row for part in parts for row in (*part, Row())]


def _left(text: str, label: str | None = None, at: float = 0.0) -> Cell:
    return Cell((Span(text, label),), "left", at)


def _right(text: str, label: str | None = None, at: float = 1.0) -> Cell:
    return Cell((Span(text, label),), "right", at)


def _header(merchant: Merchant, draw: random.Random) -> list[Row]:
    def line(*spans: Span, scale: float = 1.0) -> Row:
        at = 0.5 if merchant.header_align == "center" else 0.0
        return Row((Cell(spans, merchant.header_align, at),), scale)

    header = [line(Span(merchant.name, "MERCHANT_NAME"), scale=merchant.header_scale)]
    header.append(line(Span(merchant.street, "ADDRESS_LINE")))
    header.append(line(Span(merchant.city, "ADDRESS_LINE", continues=True)))
    if draw.random() < 0.9:
        header.append(line(Span(merchant.phone_word), Span(merchant.phone, "PHONE_NUMBER")))
    if draw.random() < 0.3:
        header.append(line(Span(f"Store #{draw.randint(100, 9999)} Manager {draw.choice(_STAFF)}")))
    return header


def _when(bought: Receipt, draw: random.Random) -> Row:
    date = Span(bought.at.strftime(bought.merchant.date_format), "DATE")
    if draw.random() < 0.1:
        return Row((Cell((Span("Date:"), date)),))
    time = Span(bought.at.strftime(bought.merchant.time_format), "TIME")
    if bought.merchant.columns % 2:
        return Row((Cell((date,)), Cell((time,), "right", 1.0)))
    return Row((Cell((Span("Date"), date, time)),))


def _number(draw: random.Random) -> Row:
    return Row((_left(f"Receipt {draw.randint(1000, 99999)}"), _right(f"Cashier {draw.choice(_STAFF)}")))


def _priced(bought: Receipt, item: Item, *left: Cell) -> Row:
    return Row((*left, _right(bought.money(item.total), "LINE_TOTAL")))


def _supermarket(bought: Receipt, item: Item, draw: random.Random) -> Iterator[Row]:
    total = Span(bought.money(item.total), "LINE_TOTAL")
    yield Row((_left(item.name, "PRODUCT_NAME"), Cell((total, Span(draw.choice("FTN"))), "right", 1.0)))
    if item.quantity > 1:
        unit = Span(bought.money(item.unit_price), "UNIT_PRICE")
        yield Row((Cell((Span(str(item.quantity), "QUANTITY"), Span("@"), unit), "left", 0.1),))


def _restaurant(bought: Receipt, item: Item, draw: random.Random) -> Iterator[Row]:
    yield _priced(bought, item, Cell((Span(str(item.quantity), "QUANTITY"), Span(item.name, "PRODUCT_NAME"))))


def _pharmacy(bought: Receipt, item: Item, draw: random.Random) -> Iterator[Row]:
    quantity = _right(str(item.quantity), "QUANTITY", at=0.6)
    unit = _right(bought.money(item.unit_price), "UNIT_PRICE", at=0.8)
    yield _priced(bought, item, _left(item.name, "PRODUCT_NAME"), quantity, unit)


def _fuel(bought: Receipt, item: Item, draw: random.Random) -> Iterator[Row]:
    yield Row((_left(f"{draw.randint(1, 9)}{draw.randint(100, 999)}"), _left(item.name, "PRODUCT_NAME", at=0.2)))
    quantity = Cell((Span("QTY"), Span(str(item.quantity), "QUANTITY")), "left", 0.2)
    yield _priced(bought, item, quantity)


def _hardware(bought: Receipt, item: Item, draw: random.Random) -> Iterator[Row]:
    code = Span(str(draw.randint(10**11, 10**12 - 1)))
    yield Row((Cell((code, Span(item.name, "PRODUCT_NAME"))),))
    unit = Span(bought.money(item.unit_price), "UNIT_PRICE")
    yield _priced(bought, item, Cell((Span(str(item.quantity), "QUANTITY"), Span("EA x"), unit), "left", 0.15))


def _cafe(bought: Receipt, item: Item, draw: random.Random) -> Iterator[Row]:
    yield Row((_left(item.name, "PRODUCT_NAME"),))
    quantity = Cell((Span(str(item.quantity), "QUANTITY"), Span("x")), "left", 0.05)
    yield Row((quantity, _left(bought.money(item.total), "LINE_TOTAL", at=0.25)))


def _totals(bought: Receipt, draw: random.Random) -> list[Row]:
    merchant, at = bought.merchant, draw.choice((0.0, 0.3, 0.45))
    totals = []
    if draw.random() < 0.3:
        count = sum(item.quantity for item in bought.items)
        totals.append(Row((_left("ITEMS SOLD", at=at), _right(str(count)))))
    if draw.random() < 0.9:
        amount = _right(bought.money(bought.subtotal), "SUBTOTAL")
        totals.append(Row((_left(merchant.subtotal_words, at=at), amount)))
    totals.append(Row((_left(merchant.tax_words, at=at), _right(bought.money(bought.tax), "TAX"))))
    amount = _right(bought.money(bought.total), "GRAND_TOTAL")
    totals.append(Row((_left(merchant.total_words, at=at), amount), draw.choice((1.0, 1.0, 1.25))))
    return totals


def _payment(bought: Receipt, draw: random.Random) -> list[Row]:
    if draw.random() < 0.5:
        card = f"{draw.choice(('VISA', 'MASTERCARD', 'DEBIT', 'AMEX'))} ****{draw.randint(1000, 9999)}"
        paid = Row((_left(card, "PAYMENT_METHOD"), _right(bought.money(bought.total))))
        return [paid, Row((_left(f"AUTH CODE {draw.randint(10_000, 999_999)}"),))]
    note = draw.choice((500, 1000, 2000))
    given = -(-bought.total // note) * note
    paid = Row((_left("CASH", "PAYMENT_METHOD"), _right(bought.money(given))))
    return [paid, Row((_left("Change"), _right(bought.money(given - bought.total), "CHANGE")))]


def _footer(merchant: Merchant, draw: random.Random) -> list[Row]:
    footer = [Row((Cell((Span(draw.choice(_THANKS)),), "center", 0.5),))]
    if draw.random() < 0.5:
        footer.append(Row((Cell((Span(draw.choice(_NOTES)),), "center", 0.5),)))
    if draw.random() < 0.4:
        footer.append(Row((Cell((Span("Visit"), Span(merchant.website, "WEBSITE")), "center", 0.5),)))
    return footer


_ITEM_ROWS: dict[Kind, Callable[[Receipt, Item, random.Random], Iterator[Row]]] = {
    "supermarket": _supermarket,
    "restaurant": _restaurant,
    "pharmacy": _pharmacy,
    "fuel": _fuel,
    "hardware": _hardware,
    "cafe": _cafe,
}
_HEADINGS: dict[Kind, Row] = {
    "pharmacy": Row((_left("ITEM"), _right("QTY", at=0.6), _right("PRICE", at=0.8), _right("AMOUNT"))),
    "hardware": Row((_left("SKU / DESCRIPTION"), _right("AMOUNT"))),
    "restaurant": Row((_left("QTY ITEM"), _right("PRICE"))),
    "supermarket": Row((_left("SALE"), _right("USD"))),
    "fuel": Row((_left("PREPAID STORE SALE"),)),
    "cafe": Row((_left("ORDER TO GO"),)),
}
_STAFF = ("Maria", "John", "Wei", "Aisha", "Tom", "Elena", "Sam", "Priya")
_THANKS = ("Thank you for your visit", "THANK YOU PLEASE COME AGAIN", "Have a great day", "Customer copy")
_NOTES = ("Returns within 30 days with receipt", "Tell us how we did today", "No refunds on opened goods")

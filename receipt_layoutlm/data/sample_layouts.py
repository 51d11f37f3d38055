"""The text of sample receipts as labelled rows: header, items in the merchant's layout, totals, footer."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from receipt_layoutlm.data.sample_merchants import Kind, Merchant, product

_FIRST_DAY = datetime(2016, 1, 1, tzinfo=UTC)
_MINUTES = 8 * 365 * 24 * 60


@dataclass(frozen=True, slots=True)
class TextSpan:
    """Text of one entity, or of none. `continues`: it belongs to the entity of the row above."""

    text: str
    label: str | None = None
    continues: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """Adjacent spans. `at` is the position of the aligned edge, as a share of the print's width."""

    spans: tuple[TextSpan, ...]
    align: Literal["left", "center", "right"] = "left"
    at: float = 0.0

    @property
    def length(self) -> int:
        """Characters."""
        return len(" ".join(span.text for span in self.spans).strip())

    def tagged_words(self) -> Iterator[tuple[str, str]]:
        """Each word with its IOB2 tag."""
        for span in self.spans:
            for place, word in enumerate(span.text.split()):
                inside = place > 0 or span.continues
                yield word, f"{'I' if inside else 'B'}-{span.label}" if span.label else "O"


@dataclass(frozen=True, slots=True)
class PrintedRow:
    """One printed line, or a gap without cells. `scale` is the size of its type, 1 = normal."""

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
class Purchase:
    """One purchase at a merchant."""

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


def random_purchase(merchant: Merchant, draw: random.Random) -> Purchase:
    """A random purchase at a merchant."""
    items = []
    for _ in range(draw.randint(3, 8)):
        name, price = product(merchant.kind, draw)
        words = (name.upper() if merchant.upper_case else name).split()
        while len(words) > 1 and len(" ".join(words)) > merchant.columns // 2:
            words.pop()
        items.append(Item(" ".join(words), draw.choice((1, 1, 1, 2, 3, 4)), price))
    return Purchase(merchant, tuple(items), _FIRST_DAY + timedelta(minutes=draw.randrange(_MINUTES)))


def rows(purchase: Purchase, draw: random.Random) -> list[PrintedRow]:
    """All rows of a receipt from top to bottom."""
    merchant = purchase.merchant
    date = TextSpan(purchase.at.strftime(merchant.date_format), "DATE")
    time = TextSpan(purchase.at.strftime(merchant.time_format), "TIME")
    if draw.random() < 0.1:
        when = PrintedRow((Cell((TextSpan("Date:"), date)),))
    elif merchant.columns % 2:
        when = PrintedRow((Cell((date,)), Cell((time,), "right", 1.0)))
    else:
        when = PrintedRow((Cell((TextSpan("Date"), date, time)),))
    number = PrintedRow((_left(f"Receipt {draw.randint(1000, 99999)}"), _right(f"Cashier {draw.choice(_STAFF)}")))
    top, bottom = (when, number) if merchant.date_on_top else (number, when)
    items = [row for item in purchase.items for row in _item_rows(purchase, item, draw)]
    parts = [_header(merchant, draw), [top], [_HEADINGS[merchant.kind], *items], _totals(purchase, draw)]
    if draw.random() < 0.5:
        card = f"{draw.choice(('VISA', 'MASTERCARD', 'DEBIT', 'AMEX'))} ****{draw.randint(1000, 9999)}"
        paid = PrintedRow((_left(card, "PAYMENT_METHOD"), _right(purchase.money(purchase.total))))
        parts.append([paid, PrintedRow((_left(f"AUTH CODE {draw.randint(10_000, 999_999)}"),))])
    else:
        note = draw.choice((500, 1000, 2000))
        given = -(-purchase.total // note) * note
        paid = PrintedRow((_left("CASH", "PAYMENT_METHOD"), _right(purchase.money(given))))
        change = _right(purchase.money(given - purchase.total), "CHANGE")
        parts.append([paid, PrintedRow((_left("Change"), change))])
    footer = [_centred(TextSpan(draw.choice(_THANKS)))]
    if draw.random() < 0.5:
        footer.append(_centred(TextSpan(draw.choice(_NOTES))))
    if draw.random() < 0.4:
        footer.append(_centred(TextSpan("Visit"), TextSpan(merchant.website, "WEBSITE")))
    return [row for part in (*parts, [bottom], footer) for row in (*part, PrintedRow())]


def _centred(*spans: TextSpan) -> PrintedRow:
    return PrintedRow((Cell(spans, "center", 0.5),))


def _left(text: str, label: str | None = None, at: float = 0.0) -> Cell:
    return Cell((TextSpan(text, label),), "left", at)


def _right(text: str, label: str | None = None, at: float = 1.0) -> Cell:
    return Cell((TextSpan(text, label),), "right", at)


def _header(merchant: Merchant, draw: random.Random) -> list[PrintedRow]:
    def line(*spans: TextSpan, scale: float = 1.0) -> PrintedRow:
        at = 0.5 if merchant.header_align == "center" else 0.0
        return PrintedRow((Cell(spans, merchant.header_align, at),), scale)

    header = [line(TextSpan(merchant.name, "MERCHANT_NAME"), scale=merchant.header_scale)]
    header.append(line(TextSpan(merchant.street, "ADDRESS_LINE")))
    header.append(line(TextSpan(merchant.city, "ADDRESS_LINE", continues=True)))
    if draw.random() < 0.9:
        header.append(line(TextSpan(merchant.phone_word), TextSpan(merchant.phone, "PHONE_NUMBER")))
    if draw.random() < 0.3:
        header.append(line(TextSpan(f"Store #{draw.randint(100, 9999)} Manager {draw.choice(_STAFF)}")))
    return header


def _item_rows(purchase: Purchase, item: Item, draw: random.Random) -> Iterator[PrintedRow]:
    """The rows of an item in the layout of the merchant's kind."""
    name, total = TextSpan(item.name, "PRODUCT_NAME"), TextSpan(purchase.money(item.total), "LINE_TOTAL")
    quantity = TextSpan(str(item.quantity), "QUANTITY")
    unit_price = TextSpan(purchase.money(item.unit_price), "UNIT_PRICE")
    at_right = Cell((total,), "right", 1.0)
    match purchase.merchant.kind:
        case "supermarket":
            yield PrintedRow((Cell((name,)), Cell((total, TextSpan(draw.choice("FTN"))), "right", 1.0)))
            if item.quantity > 1:
                yield PrintedRow((Cell((quantity, TextSpan("@"), unit_price), at=0.1),))
        case "restaurant":
            yield PrintedRow((Cell((quantity, name)), at_right))
        case "pharmacy":
            columns = (Cell((quantity,), "right", 0.6), Cell((unit_price,), "right", 0.8))
            yield PrintedRow((Cell((name,)), *columns, at_right))
        case "fuel":
            pump = f"{draw.randint(1, 9)}{draw.randint(100, 999)}"
            yield PrintedRow((_left(pump), Cell((name,), at=0.2)))
            yield PrintedRow((Cell((TextSpan("QTY"), quantity), at=0.2), at_right))
        case "hardware":
            code = TextSpan(str(draw.randint(10**11, 10**12 - 1)))
            yield PrintedRow((Cell((code, name)),))
            yield PrintedRow((Cell((quantity, TextSpan("EA x"), unit_price), at=0.15), at_right))
        case "cafe":
            yield PrintedRow((Cell((name,)),))
            yield PrintedRow((Cell((quantity, TextSpan("x")), at=0.05), Cell((total,), at=0.25)))


def _totals(purchase: Purchase, draw: random.Random) -> list[PrintedRow]:
    merchant, at = purchase.merchant, draw.choice((0.0, 0.3, 0.45))
    totals = []
    if draw.random() < 0.3:
        count = sum(item.quantity for item in purchase.items)
        totals.append(PrintedRow((_left("ITEMS SOLD", at=at), _right(str(count)))))
    if draw.random() < 0.9:
        amount = _right(purchase.money(purchase.subtotal), "SUBTOTAL")
        totals.append(PrintedRow((_left(merchant.subtotal_words, at=at), amount)))
    totals.append(PrintedRow((_left(merchant.tax_words, at=at), _right(purchase.money(purchase.tax), "TAX"))))
    amount = _right(purchase.money(purchase.total), "GRAND_TOTAL")
    totals.append(PrintedRow((_left(merchant.total_words, at=at), amount), draw.choice((1.0, 1.0, 1.25))))
    return totals


_HEADINGS: dict[Kind, PrintedRow] = {
    "pharmacy": PrintedRow((_left("ITEM"), _right("QTY", at=0.6), _right("PRICE", at=0.8), _right("AMOUNT"))),
    "hardware": PrintedRow((_left("SKU / DESCRIPTION"), _right("AMOUNT"))),
    "restaurant": PrintedRow((_left("QTY ITEM"), _right("PRICE"))),
    "supermarket": PrintedRow((_left("SALE"), _right("USD"))),
    "fuel": PrintedRow((_left("PREPAID STORE SALE"),)),
    "cafe": PrintedRow((_left("ORDER TO GO"),)),
}
_STAFF = ("Maria", "John", "Wei", "Aisha", "Tom", "Elena", "Sam", "Priya")
_THANKS = ("Thank you for your visit", "THANK YOU PLEASE COME AGAIN", "Have a great day", "Customer copy")
_NOTES = ("Returns within 30 days with receipt", "Tell us how we did today", "No refunds on opened goods")

"""Amount augmentation: scales all amounts of a page by one factor, exact to the cent.

Every amount n of a page is a multiple of a unit g (the greatest common divisor, in the smallest printed digit) and
becomes n / g times another unit. Equal amounts stay equal, labelled or not, and sums stay sums.
"""

import math
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from receipt_layoutlm.data.labels import CORE_LABELS
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.tags import entities
from receipt_layoutlm.training.tasks.word_labels.augmentation.lines import room, set_text
from receipt_layoutlm.training.tasks.word_labels.inputs.sampling import pick

AMOUNT_LABELS = frozenset(
    "AMOUNT CASH_BACK CHANGE COUPON DISCOUNT GRAND_TOTAL LINE_TOTAL REFUND SUBTOTAL TAX TIP UNIT_PRICE".split()
)
_OTHER_LABELS = frozenset(CORE_LABELS) - AMOUNT_LABELS
_MIN_FACTOR, _MAX_FACTOR = 0.2, 6.0  # new unit / old unit

# a currency may precede or follow; a number with a percent sign is no amount
_AMOUNT = re.compile(r"([^\d%]*)(\d{1,3}(?:,\d{3})+|\d+)(?:([.,])(\d{1,3}))?([^\d%]*)")


@dataclass(frozen=True, slots=True)
class PrintedAmount:
    """An amount as printed; `digits` is its value in units of its last decimal."""

    before: str
    digits: int
    point: str  # empty without decimals
    decimals: int
    has_commas: bool  # between thousands
    after: str

    def __str__(self) -> str:
        whole, rest = divmod(self.digits, 10**self.decimals)
        number = f"{whole:,}" if self.has_commas else str(whole)
        tail = f"{self.point}{rest:0{self.decimals}d}" if self.decimals else ""
        return f"{self.before}{number}{tail}{self.after}"


def parse_amount(text: str) -> PrintedAmount | None:
    """Parse a word as an amount, None if it is none; `str` of the result is the word."""
    match = _AMOUNT.fullmatch(text)
    if match is None:
        return None
    before, whole, point, decimals, after = match.groups(default="")
    digits = int(whole.replace(",", "") + decimals)
    parsed = PrintedAmount(before, digits, point, len(decimals), "," in whole, after)
    return parsed if str(parsed) == text else None


def is_amount(text: str, label: str) -> bool:
    """Whether an entity's text is an amount: by its label, or by its format if the label is not a core label."""
    parsed = parse_amount(text)
    return label in AMOUNT_LABELS or (label not in CORE_LABELS and parsed is not None and parsed.decimals > 0)


def other_amounts(page: Page, draw: random.Random) -> Page:
    """The page with other amounts; unchanged if it has none, or none that can be changed to the cent.

    A new amount ends where the old one did, since columns of amounts are right-aligned.
    """
    amounts = dict(_amounts(page))
    finest = max((amount.decimals for amount in amounts.values()), default=0)
    scaled = {word: amount.digits * 10 ** (finest - amount.decimals) for word, amount in amounts.items()}
    unit = math.gcd(*scaled.values())
    coarsest = min((amount.decimals for amount in amounts.values()), default=0)
    new = _other_unit(unit, 10 ** (finest - coarsest), draw)
    if new is None:
        return page
    words, boxes = list(page.words), list(page.boxes)
    for word, amount in amounts.items():
        text = str(replace(amount, digits=scaled[word] // unit * new // 10 ** (finest - amount.decimals)))
        if len(text) != len(words[word]):
            limits = room(boxes, range(word, word + 1))
            boxes[word] = set_text(words[word], text, boxes[word], limits, anchor=1.0)[0]
        words[word] = text
    return replace(page, words=tuple(words), boxes=tuple(boxes))


def _other_unit(unit: int, step: int, draw: random.Random) -> int | None:
    """Another multiple of `step`, which keeps amounts of fewer decimals exact; None if the factors allow none."""
    low, high = max(math.ceil(unit * _MIN_FACTOR / step), 1), math.floor(unit * _MAX_FACTOR / step)
    own = unit // step if unit % step == 0 else high + 1  # excluded from the choices if it is among them
    choices = range(low, high + (own > high))
    if not choices:
        return None
    times = pick(choices, draw)
    return step * (times + (times >= own))


def _amounts(page: Page) -> Iterator[tuple[int, PrintedAmount]]:
    """Numbers with decimals outside entities of other labels, and integers whose text is a labelled amount."""
    labelled = set()
    for entity in entities(page.tags):
        numbers = [text for text in page.words[entity.begin : entity.end] if any(map(str.isdigit, text))]
        if entity.label in AMOUNT_LABELS and len(numbers) == 1:  # not split over several words
            labelled.add(numbers[0])
    for word, text in enumerate(page.words):
        amount = parse_amount(text)
        if amount and page.tags[word][2:] not in _OTHER_LABELS and (amount.decimals or text in labelled):
            yield word, amount

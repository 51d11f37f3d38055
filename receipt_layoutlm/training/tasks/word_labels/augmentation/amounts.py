"""Other amounts on a page: all of them times one factor, so that what added up does so still, to the cent.

Every amount n of a page is a multiple of a unit g (their greatest common divisor, in the smallest digit printed) and
becomes n / g times another unit. Equal amounts stay equal wherever they stand, labelled or not; sums stay sums.
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
_OF_OTHER_THINGS = frozenset(CORE_LABELS) - AMOUNT_LABELS
_LEAST, _MOST = 0.2, 6.0  # the new unit over the old one

# a currency may stand around it; a per cent sign says that it is none
_AMOUNT = re.compile(r"([^\d%]*)(\d{1,3}(?:,\d{3})+|\d+)(?:([.,])(\d{1,3}))?([^\d%]*)")


@dataclass(frozen=True, slots=True)
class PrintedAmount:
    """A number as it is printed: `digits` is its value in its own last decimal."""

    before: str
    digits: int
    point: str  # empty when there are no decimals
    decimals: int
    has_commas: bool  # between thousands
    after: str

    def __str__(self) -> str:
        whole, rest = divmod(self.digits, 10**self.decimals)
        number = f"{whole:,}" if self.has_commas else str(whole)
        tail = f"{self.point}{rest:0{self.decimals}d}" if self.decimals else ""
        return f"{self.before}{number}{tail}{self.after}"


def parse_amount(text: str) -> PrintedAmount | None:
    """The amount that a word is, None if it is something else; `str` of it is the word."""
    found = _AMOUNT.fullmatch(text)
    if found is None:
        return None
    before, whole, point, decimals, after = found.groups(default="")
    digits = int(whole.replace(",", "") + decimals)
    parsed = PrintedAmount(before, digits, point, len(decimals), "," in whole, after)
    return parsed if str(parsed) == text else None


def is_amount(text: str, label: str) -> bool:
    """Whether an entity's text is an amount, by its label or, where that is no label of ours, by its look."""
    parsed = parse_amount(text)
    return label in AMOUNT_LABELS or (label not in CORE_LABELS and parsed is not None and parsed.decimals > 0)


def other_amounts(page: Page, draw: random.Random) -> Page:
    """The page with other amounts; the same one when it has none, or none that can be changed to the cent."""
    found = dict(_amounts(page))
    finest = max((amount.decimals for amount in found.values()), default=0)
    scaled = {word: amount.digits * 10 ** (finest - amount.decimals) for word, amount in found.items()}
    unit = math.gcd(*scaled.values())
    coarsest = min((amount.decimals for amount in found.values()), default=0)
    new = _other_unit(unit, 10 ** (finest - coarsest), draw)
    if new is None:
        return page
    texts = {
        word: str(replace(amount, digits=scaled[word] // unit * new // 10 ** (finest - amount.decimals)))
        for word, amount in found.items()
    }
    return _with_texts(page, texts)


def _other_unit(unit: int, step: int, draw: random.Random) -> int | None:
    """Another multiple of `step`, so that amounts of fewer decimals come out even; None if none is near enough."""
    least, most = max(math.ceil(unit * _LEAST / step), 1), math.floor(unit * _MOST / step)
    own = unit // step if unit % step == 0 else most + 1  # the one that is left out, if it is among them
    choices = range(least, most + (own > most))
    if not choices:
        return None
    times = pick(choices, draw)
    return step * (times + (times >= own))


def _amounts(page: Page) -> Iterator[tuple[int, PrintedAmount]]:
    """Words with decimals that are no part of another entity, and whole numbers that a label makes amounts."""
    parsed = {word: amount for word, text in enumerate(page.words) if (amount := parse_amount(text))}
    whole = {page.words[word] for word in _labelled(page)}
    for word, amount in parsed.items():
        label = page.tags[word][2:]
        if label not in _OF_OTHER_THINGS and (amount.decimals or page.words[word] in whole):
            yield word, amount


def _labelled(page: Page) -> Iterator[int]:
    """The words with the number of each labelled amount that is not torn into several."""
    for entity in entities(page.tags):
        numbers = [word for word in range(entity.begin, entity.end) if any(map(str.isdigit, page.words[word]))]
        if entity.label in AMOUNT_LABELS and len(numbers) == 1:
            yield numbers[0]


def _with_texts(page: Page, texts: dict[int, str]) -> Page:
    """The page with other words, which end where the old ones did, as columns of amounts do."""
    words, boxes = list(page.words), list(page.boxes)
    for word, text in texts.items():
        if len(text) != len(words[word]):
            limits = room(boxes, range(word, word + 1))
            boxes[word] = set_text(words[word], text, boxes[word], limits, anchor=1.0)[0]
        words[word] = text
    return replace(page, words=tuple(words), boxes=tuple(boxes))

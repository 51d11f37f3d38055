"""Field scores: compares the values of a page by text, independent of their position.

A total may be printed several times, and any of these places is correct. Scored are therefore the sets of distinct
values per page and label: a predicted value is right if it is among the true ones of its label on its page.
Precision, recall and F1 are micro averages over these values.
"""

import re
import unicodedata
from collections.abc import Collection, Sequence

from receipt_layoutlm.data.importers.value_match import amount
from receipt_layoutlm.data.tags import entities
from receipt_layoutlm.training.tasks.word_labels.scoring.entities import SetScores, Tags, labelled, score_sets

_CODES = "rm|myr|usd|eur|gbp|chf|cad|aud|nzd|sgd|idr|rp|inr|rs|thb|php|vnd|krw|jpy|cny|hkd|twd|brl|mxn"
_CURRENCY = rf"(?:{_CODES}|[a-z]{{0,2}}[$]|[€£¥₹₩₫฿₱])"  # not any letters: AB1234 is a code
_AMOUNT = re.compile(rf"-?(?:{_CURRENCY}\.?)?-?(?P<number>\d+(?:[.,]\d+)*)-?{_CURRENCY}?")
_COMMA_DECIMALS = re.compile(r"(?:\d+|\d{1,3}(?:\.\d{3})+),\d{1,2}|\d{1,3}(?:\.\d{3}){2,}")
_POINT_DECIMALS = re.compile(r"(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d+)?")
_AROUND = " .,:;"


def score_fields(
    words: Sequence[Sequence[str]], true: Sequence[Tags], predicted: Sequence[Tags], labels: Sequence[str]
) -> SetScores:
    """Score the values of these labels, page by page; the support of a label is its distinct true values.

    Unlabelled words belong to no value.
    """
    pages = zip(words, true, predicted, strict=True)
    return score_sets(
        ((values(texts, truth, labels), values(texts, labelled(truth, tags), labels)) for texts, truth, tags in pages),
        labels,
    )


def values(words: Sequence[str], tags: Tags, labels: Collection[str]) -> set[tuple[str, str]]:
    """A page's distinct values of these labels: label and normalised text."""
    return {
        (entity.label, normalised(" ".join(words[entity.begin : entity.end])))
        for entity in entities(tags)
        if entity.label in labels
    }


def normalised(text: str) -> str:
    """Canonical text of a value for comparison.

    An amount becomes its number, without currency (a sign or a common code), thousands separators and trailing zeros:
    `RM 1,234.50`, `1.234,50` and `$1234.5` are equal. A comma before one or two last digits is a decimal comma, before
    three a separator; a single point is a decimal point. Bare digits are no amount, since they may be a code. Any
    other text is compared without case, with one space between words, and without the marks .,:; at its ends.
    """
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    compact = "".join(plain.split())
    match = _AMOUNT.fullmatch(compact.strip(_AROUND))
    if match is not None and not match[0].isdigit():
        number = match["number"]
        if _COMMA_DECIMALS.fullmatch(number):
            number = number.replace(".", "").replace(",", ".")
        value = amount(number) if _POINT_DECIMALS.fullmatch(number) else None
        if value is not None:
            return f"{'-' if '-' in compact else ''}{value.normalize():f}"
    return plain.strip(_AROUND) or plain

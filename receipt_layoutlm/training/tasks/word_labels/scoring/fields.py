"""Field scores: compares the values of a page by text, independent of their position.

A total may be printed several times, and any of these places is correct. Scored are therefore the sets of distinct
values per page and label: a predicted value is right if it is among the true ones of its label on its page.
Precision, recall and F1 are micro averages over these values.
"""

import unicodedata
from collections.abc import Collection, Mapping, Sequence

from receipt_layoutlm.data.amounts import AROUND, read_amount
from receipt_layoutlm.data.tags import entities, labelled
from receipt_layoutlm.training.tasks.word_labels.scoring.entities import SetScores, Tags, score_sets


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


def score_exact(true: Sequence[Mapping[str, Sequence[str]]], answers: Sequence[Mapping[str, str]]) -> SetScores:
    """Score one answer per page and label by the rule of SROIE's task 3: right if its text is a true one's.

    true: each page's true texts by label. answers: each page's answer by label. The support of a label is the pages
    that have it.
    """
    pages = zip(true, answers, strict=True)
    return score_sets(
        (
            (
                {(label, True) for label in texts},
                {(label, answer in texts.get(label, ())) for label, answer in answered.items()},
            )
            for texts, answered in pages
        ),
        (),
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

    An amount (amounts.read_amount) becomes its number, without currency, thousands separators and trailing zeros. Bare
    digits are no amount, since they may be a code. Any other text is compared without case, with one space between
    words, and without the marks .,:; at its ends.
    """
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    bare = plain.strip(AROUND) or plain
    amount = None if "".join(bare.split()).isdigit() else read_amount(text)
    return bare if amount is None else f"{amount.value.normalize():f}"

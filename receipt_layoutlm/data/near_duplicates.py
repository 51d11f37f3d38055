"""Near duplicates of pages across training, validation and test set, which would measure memorisation.

Two pages are near duplicates when their word shingles (three words in a row) have a Jaccard similarity of at least
the threshold. The search is exact: with shingles ordered by rarity, the prefixes of two such pages share one (prefix
filtering, Bayardo et al., WWW 2007), so only pages with a rare shingle in common are compared.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from receipt_layoutlm.data.page import Page

SHINGLE_WORDS = 3
THRESHOLD = 0.8


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """A page and the most similar page of an earlier set."""

    page_id: str
    set_name: str
    other_id: str
    other_set: str
    similarity: float


@dataclass(slots=True)
class _Text:
    """All pages with exactly these shingles: page ids by set."""

    shingles: frozenset[int]
    pages: dict[str, list[str]]


def near_duplicates(sets: Mapping[str, Sequence[Page]], threshold: float = THRESHOLD) -> list[NearDuplicate]:
    """For each page outside the first set the most similar page of an earlier set, if similar enough.

    Give the training set first. Sorted by similarity, highest first, then by page id.
    """
    order = list(sets)
    by_shingles: dict[frozenset[int], _Text] = {}
    for name, pages in sets.items():
        for page in pages:
            shingles = shingles_of(page)
            by_shingles.setdefault(shingles, _Text(shingles, {})).pages.setdefault(name, []).append(page.page_id)
    counts = Counter(shingle for shingles in by_shingles for shingle in shingles)
    texts = list(by_shingles.values())
    duplicates: dict[str, NearDuplicate] = {}
    holders: dict[int, list[int]] = {}  # shingle -> earlier texts with it in their prefix
    for number, text in enumerate(texts):
        _note(duplicates, text, text, 1.0, order)
        # the rarest shingles, so many that a similar text has at least one of them
        ordered = sorted(text.shingles, key=lambda shingle: (counts[shingle], shingle))
        length = len(ordered) - math.ceil(threshold * len(ordered) - 1e-9) + 1
        prefix = [shingle for shingle in ordered[:length] if counts[shingle] > 1]
        for index in sorted({index for shingle in prefix for index in holders.get(shingle, ())}):
            other = texts[index]
            if text.pages.keys() == other.pages.keys() and len(text.pages) == 1:
                continue
            fewer, more = sorted((len(text.shingles), len(other.shingles)))
            if fewer < threshold * more:
                continue  # the sizes alone rule the threshold out
            shared = len(text.shingles & other.shingles)
            similarity = shared / (fewer + more - shared)
            if similarity >= threshold:
                _note(duplicates, text, other, similarity, order)
                _note(duplicates, other, text, similarity, order)
        for shingle in prefix:
            holders.setdefault(shingle, []).append(number)
    return sorted(duplicates.values(), key=lambda duplicate: (-duplicate.similarity, duplicate.page_id))


def shingles_of(page: Page) -> frozenset[int]:
    """Hashes of all runs of three words, case folded; of a shorter page the hash of all its words.

    The hashes are valid within one process only.
    """
    words = [word.casefold() for word in page.words]
    if len(words) < SHINGLE_WORDS:
        return frozenset((hash(tuple(words)),))
    return frozenset(map(hash, zip(words, words[1:], words[2:], strict=False)))


def _note(
    duplicates: dict[str, NearDuplicate], text: _Text, other: _Text, similarity: float, order: Sequence[str]
) -> None:
    """Record for each page of `text` the page of an earlier set in `other`, unless a more similar one is known."""
    for set_name, page_ids in text.pages.items():
        earlier = next((name for name in order[: order.index(set_name)] if name in other.pages), None)
        if earlier is None:
            continue
        for page_id in page_ids:
            known = duplicates.get(page_id)
            if known is None or similarity > known.similarity:
                best = other.pages[earlier][0]
                duplicates[page_id] = NearDuplicate(page_id, set_name, best, earlier, round(similarity, 3))

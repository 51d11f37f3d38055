"""Pages of one part that nearly stand in another part too: their scores would say how well a run remembers.

Two pages are near duplicates when their word shingles (three words in a row) have a Jaccard similarity of at least
the threshold. The search misses none: of two such pages, ordered by how rare their shingles are, the beginnings share
one (prefix filtering, Bayardo et al., WWW 2007), so only pages with a rare shingle in common are compared.
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
    """A page and the page of another part that is most like it."""

    page_id: str
    part: str
    other_id: str
    other_part: str
    similarity: float


@dataclass(slots=True)
class _Text:
    """All pages of exactly one set of shingles; the first page id of each part stands for the part."""

    shingles: frozenset[int]
    pages: dict[str, list[str]]


def near_duplicates(parts: Mapping[str, Sequence[Page]], threshold: float = THRESHOLD) -> list[NearDuplicate]:
    """For each page of every part but the first the most similar page of an earlier part, where there is one.

    Give the training part first. The most similar come first, then by page id.
    """
    order = list(parts)
    texts = _texts(parts)
    prefixes = _prefixes(texts, threshold)
    found: dict[str, NearDuplicate] = {}
    holders: dict[int, list[int]] = {}  # shingle -> texts seen so far that begin with it
    for number, (text, prefix) in enumerate(zip(texts, prefixes, strict=True)):
        _note(found, text, text, 1.0, order)
        candidates = {other for shingle in prefix for other in holders.get(shingle, ())}
        for index in candidates:
            other = texts[index]
            if text.pages.keys() == other.pages.keys() and len(text.pages) == 1:
                continue
            if (similarity := _similarity(text.shingles, other.shingles, threshold)) >= threshold:
                _note(found, text, other, similarity, order)
                _note(found, other, text, similarity, order)
        for shingle in prefix:
            holders.setdefault(shingle, []).append(number)
    return sorted(found.values(), key=lambda each: (-each.similarity, each.page_id))


def shingles_of(page: Page) -> frozenset[int]:
    """Hashes of the page's runs of three words, case folded; of the whole page where it has fewer.

    The hashes hold inside one process only.
    """
    words = [word.casefold() for word in page.words]
    if len(words) < SHINGLE_WORDS:
        return frozenset((hash(tuple(words)),))
    return frozenset(map(hash, zip(words, words[1:], words[2:], strict=False)))


def _texts(parts: Mapping[str, Sequence[Page]]) -> list[_Text]:
    texts: dict[frozenset[int], _Text] = {}
    for part, pages in parts.items():
        for page in pages:
            shingles = shingles_of(page)
            text = texts.setdefault(shingles, _Text(shingles, {}))
            text.pages.setdefault(part, []).append(page.page_id)
    return list(texts.values())


def _prefixes(texts: Sequence[_Text], threshold: float) -> list[list[int]]:
    """The rarest shingles of each text, as many as a similar text has to have one of."""
    counts = Counter(shingle for text in texts for shingle in text.shingles)
    prefixes = []
    for text in texts:
        ordered = sorted(text.shingles, key=lambda shingle: (counts[shingle], shingle))
        prefix = len(ordered) - math.ceil(threshold * len(ordered) - 1e-9) + 1
        prefixes.append([shingle for shingle in ordered[:prefix] if counts[shingle] > 1])
    return prefixes


def _similarity(one: frozenset[int], other: frozenset[int], threshold: float) -> float:
    """Jaccard; 0 where the sizes alone rule the threshold out."""
    fewer, more = sorted((len(one), len(other)))
    if fewer < threshold * more:
        return 0.0
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def _note(found: dict[str, NearDuplicate], text: _Text, other: _Text, similarity: float, order: Sequence[str]) -> None:
    """Keep for each page of `text` that a page of an earlier part is in `other`, if none more similar is known."""
    for part, page_ids in text.pages.items():
        earlier = next((name for name in order[: order.index(part)] if name in other.pages), None)
        if earlier is None:
            continue
        best = other.pages[earlier][0]
        for page_id in page_ids:
            known = found.get(page_id)
            if known is None or similarity > known.similarity:
                found[page_id] = NearDuplicate(page_id, part, best, earlier, round(similarity, 3))

"""Slices of pages by which scores are broken down, the same in evaluations and reports."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

LENGTHS: Final = (0, 100, 200, 400)
"""Words after which a slice of longer pages begins."""

ITEMS: Final = (0, 1, 5, 10, 20)
"""Items after which a slice of pages with more of them begins."""


def slice_name(count: int, bounds: Sequence[int]) -> str:
    """The slice of a count: `none`, `1`, `2 to 5`, `over 20`."""
    if count <= bounds[0]:
        return "none"
    for low, high in pairwise(bounds):
        if count <= high:
            return f"{low + 1} to {high}" if high > low + 1 else f"{high}"
    return f"over {bounds[-1]}"


def items_of(tags: Sequence[str]) -> int:
    """Items of a page: entities of the label that occurs most often on it, as line totals do on a receipt."""
    counts = Counter(tag[2:] for tag in tags if tag[:1] == "B")
    return max(counts.values(), default=0)

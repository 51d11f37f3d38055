"""Suggestions for misspelt names: options, keys, labels, recipes, datasets, jobs."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest_name(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The most similar known name, whatever its case; None if none is similar (1 is equal, 0 has nothing in common)."""
    spelling = {candidate.casefold(): candidate for candidate in sorted(known)}
    near = get_close_matches(name.casefold(), spelling, n=1, cutoff=cutoff)
    return spelling[near[0]] if near else None

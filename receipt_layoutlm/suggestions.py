"""Suggestions for misspelt names: options, keys, labels, recipes, datasets, jobs."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest_name(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The most similar known name, whatever its case; None if none is similar (1 is equal, 0 has nothing in common)."""
    spelling = {candidate.casefold(): candidate for candidate in sorted(known)}
    near = get_close_matches(name.casefold(), spelling, n=1, cutoff=cutoff)
    letters = sorted(name.casefold())
    swapped = [each for each in spelling if sorted(each) == letters]  # in a short name, nothing else is in common
    return next((spelling[each] for each in [*near, *swapped]), None)

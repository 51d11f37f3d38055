"""How often the values that are given for whole pages were found among their words."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from receipt_layoutlm.data.importers.source_page import SourcePage


@dataclass(frozen=True, slots=True)
class Matches:
    """How often a value that is given for a whole page was found among its words."""

    given: int
    exact: int
    approximate: int
    missing_on: tuple[str, ...]
    """Ids of the pages where it was not found."""

    @property
    def rate(self) -> float:
        """Found over given; 1 when none was given."""
        return (self.exact + self.approximate) / self.given if self.given else 1.0

    @classmethod
    def by_value(cls, sources: Iterable[SourcePage]) -> dict[str, "Matches"]:
        """The matches on all pages, by the name of the value."""
        matches = [(match.name, match.how, source.page_id) for source in sources for match in source.matches]
        counts = Counter((name, how) for name, how, _ in matches)
        return {
            name: cls(
                given=sum(of == name for of, _, _ in matches),
                exact=counts[name, "exact"],
                approximate=counts[name, "approximate"],
                missing_on=tuple(page_id for of, how, page_id in matches if (of, how) == (name, "missing")),
            )
            for name in dict.fromkeys(name for name, _, _ in matches)
        }

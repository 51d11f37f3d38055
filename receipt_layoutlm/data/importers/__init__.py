"""Imports labelled pages of several formats and reports how their labels and values were used."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from receipt_layoutlm.data.importers.label_table import LabelTable
from receipt_layoutlm.data.importers.source_page import (
    SourceFormat,
    SourcePage,
    cut_words,
    entity_counts,
    page_of,
    torn_in_source,
)
from receipt_layoutlm.data.labels import OUTSIDE, LabelError
from receipt_layoutlm.data.order_check import TornEntity
from receipt_layoutlm.data.page import DEFAULT_ORDER, DataError, Page, WordOrder
from receipt_layoutlm.data.snapshot import label_counts

FORMATS = ("jsonl", "sroie", "cord", "funsd", "wildreceipt")
"""Names of the formats; each is the module of its name, which defines FORMAT."""


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


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The imported pages, and how the labels and values of the source were used."""

    format: str
    pages: int
    words: int
    entities: dict[str, int]
    """By our label; an entity that the reading order splits counts once for each piece."""
    renamed: dict[str, dict[str, int]]
    """Entities of the source by our label (or "O") and its label."""
    dropped: dict[str, int]
    """Entities that became "O", by the source's label."""
    matches: dict[str, Matches] = field(default_factory=dict)
    blank_texts: int = 0
    cut_words: int = 0
    """Words that extended over the edge of the page, where they were cut."""
    guessed_sizes: int = 0
    """Pages without a readable image, whose size is the extent of their boxes."""
    skipped: tuple[str, ...] = ()
    """Files and lines that cannot be used, with place and reason."""
    torn: tuple[TornEntity, ...] = ()
    """Entities of the source that the reading order tears apart."""

    @property
    def learned(self) -> int:
        """Entities of the source that have a label of ours."""
        return sum(sum(labels.values()) for label, labels in self.renamed.items() if label != OUTSIDE)


def load_format(name: str) -> SourceFormat:
    """The format of a name; KeyError when there is none."""
    if name not in FORMATS:
        raise KeyError(name)
    source_format: SourceFormat = import_module(f"receipt_layoutlm.data.importers.{name}").FORMAT
    return source_format


def import_pages(
    name: str,
    paths: Sequence[Path],
    table: LabelTable,
    on_bad: Callable[[DataError], None],
    order: WordOrder = DEFAULT_ORDER,
) -> tuple[list[Page], ImportReport]:
    """The pages of files and folders, in their order.

    `on_bad` gets the error of each page that cannot be used: it raises to refuse everything, or returns to continue
    without the page. LabelError, and DataError if no page can be used, are always raised.
    """
    source_format = load_format(name)
    sources: list[SourcePage] = []
    pages: list[Page] = []
    skipped: list[DataError] = []
    place_of: dict[str, str] = {}
    for source in source_format.read(paths, order):
        try:
            if isinstance(source, DataError):
                raise source
            page = page_of(source, table)
            if source.page_id in place_of:
                reason = f"page id {source.page_id!r} is already used in {place_of[source.page_id]}"
                raise DataError(reason, file=source.file, line=source.line)
        except LabelError as error:
            assert isinstance(source, SourcePage)
            raise LabelError(f"{source.place}: {error}") from error
        except DataError as error:
            on_bad(error)
            skipped.append(error)
        else:
            place_of[source.page_id] = source.place
            sources.append(source)
            pages.append(page)
    if not pages:
        first = f": {skipped[0]}" if skipped else ""
        raise DataError(f"no page in {', '.join(map(str, paths))} can be used{first}")
    counts = sum((entity_counts(source) for source in sources), Counter[str]())
    renamed: dict[str, dict[str, int]] = {}
    for label, count in sorted(counts.items()):
        renamed.setdefault(table(label), {})[label] = count
    report = ImportReport(
        format=name,
        pages=len(pages),
        words=sum(len(page.words) for page in pages),
        entities=label_counts(pages),
        renamed=dict(sorted(renamed.items())),
        dropped={
            label: count for label, count in renamed.get(OUTSIDE, {}).items() if label not in source_format.no_labels
        },
        matches=Matches.by_value(sources),
        blank_texts=sum(source.blank for source in sources),
        cut_words=sum(map(cut_words, sources)),
        guessed_sizes=sum(source.is_size_guessed for source in sources),
        skipped=tuple(map(str, skipped)),
        torn=tuple(
            entity for source, page in zip(sources, pages, strict=True) for entity in torn_in_source(source, page)
        ),
    )
    return pages, report

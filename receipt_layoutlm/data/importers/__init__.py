"""What can be imported: the name of each format and its module, and the report of one import."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from receipt_layoutlm.data.importers.draft import Draft, cut_words, labels_of_entities, page_of
from receipt_layoutlm.data.importers.label_table import LabelTable
from receipt_layoutlm.data.labels import OUTSIDE, LabelError
from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.data.snapshot import label_counts

IMPORTERS: dict[str, str] = {
    name: f"receipt_layoutlm.data.importers.{name}" for name in ("jsonl", "sroie", "cord", "funsd", "wildreceipt")
}


class Importer(Protocol):
    """What the module of a format holds."""

    LABELS: Mapping[str, str]
    """The table: its label -> ours, or "O"."""
    OWN_LABELS: Mapping[str, str]
    """The same for those who keep its labels: what it spells in two ways, and what it means as no label."""
    NO_LABELS: frozenset[str]
    """Labels with which the format says that a word has none."""

    def drafts(self, paths: Sequence[Path]) -> Iterator[Draft | DataError]:
        """Each page of the files and folders, or why it cannot be used."""


@dataclass(frozen=True, slots=True)
class Matches:
    """How often a value that is given for a whole page was found among its words."""

    given: int
    exact: int
    approximate: int
    missing_on: tuple[str, ...]
    """Ids of the pages on which it was not found."""

    @property
    def rate(self) -> float:
        """Found over given; 1 when none was given."""
        return (self.exact + self.approximate) / self.given if self.given else 1.0


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What was read and what became of it."""

    format: str
    pages: int
    words: int
    entities: dict[str, int]
    """By our label; one that the reading order tears apart counts once for each piece."""
    renamed: dict[str, dict[str, int]]
    """Entities of the source by our label (or "O") and its label."""
    dropped: dict[str, int]
    """Entities by the source's label that became "O"."""
    matches: dict[str, Matches] = field(default_factory=dict)
    blank_texts: int = 0
    cut_words: int = 0
    """Words that stuck out of the page and were cut at its edge."""
    guessed_sizes: int = 0
    """Pages that have no image, or none that can be read: their size is that of their boxes."""
    skipped: tuple[str, ...] = ()
    """What could not be used, with place and reason."""


def load_importer(name: str) -> Importer:
    """The module of a format; KeyError when there is none of that name."""
    return cast(Importer, import_module(IMPORTERS[name]))


def import_pages(
    name: str, paths: Sequence[Path], table: LabelTable, on_bad: Callable[[DataError], None]
) -> tuple[list[Page], ImportReport]:
    """Read the pages of some files and folders.

    `on_bad` gets what cannot be used and its place, in the order of the files: it raises to refuse everything,
    or returns to go on without. LabelError and an import that finds no pages are always raised.
    """
    importer = load_importer(name)
    read: list[tuple[Draft, Page]] = []
    skipped: list[DataError] = []
    place_of: dict[str, str] = {}
    for found in importer.drafts(paths):
        try:
            read.append(_page(found, table, place_of))
        except DataError as error:
            on_bad(error)
            skipped.append(error)
    if not read:
        raise DataError(f"no page in {', '.join(map(str, paths))} can be used" + _first_of(skipped))
    return [page for _, page in read], _report(name, read, table, importer.NO_LABELS, skipped)


def _page(found: Draft | DataError, table: LabelTable, place_of: dict[str, str]) -> tuple[Draft, Page]:
    if isinstance(found, DataError):
        raise found
    try:
        page = page_of(found, table)
    except LabelError as error:
        raise LabelError(f"{_place(found)}: {error}") from error
    if found.page_id in place_of:
        reason = f"page id {found.page_id!r} stands in {place_of[found.page_id]} already"
        raise DataError(reason, file=found.file, line=found.line)
    place_of[found.page_id] = _place(found)
    return found, page


def _place(draft: Draft) -> str:
    return draft.file if draft.line is None else f"{draft.file}:{draft.line}"


def _first_of(skipped: Sequence[DataError]) -> str:
    return f": {skipped[0]}" if skipped else ""


def _report(
    name: str,
    read: Sequence[tuple[Draft, Page]],
    table: LabelTable,
    no_labels: frozenset[str],
    skipped: Sequence[DataError],
) -> ImportReport:
    theirs: Counter[str] = Counter()
    for draft, _ in read:
        theirs.update(labels_of_entities(draft.words))
    renamed: dict[str, dict[str, int]] = {}
    for label, count in sorted(theirs.items()):
        renamed.setdefault(table(label), {})[label] = count
    return ImportReport(
        format=name,
        pages=len(read),
        words=sum(len(page.words) for _, page in read),
        entities=label_counts(page for _, page in read),
        renamed=dict(sorted(renamed.items())),
        dropped={label: count for label, count in renamed.get(OUTSIDE, {}).items() if label not in no_labels},
        matches=_matches(draft for draft, _ in read),
        blank_texts=sum(draft.blank for draft, _ in read),
        cut_words=sum(cut_words(draft) for draft, _ in read),
        guessed_sizes=sum(draft.is_size_guessed for draft, _ in read),
        skipped=tuple(map(str, skipped)),
    )


def _matches(drafts: Iterable[Draft]) -> dict[str, Matches]:
    found = [(each.name, each.how, draft.page_id) for draft in drafts for each in draft.found]
    counts = Counter((name, how) for name, how, _ in found)
    return {
        name: Matches(
            given=sum(each == name for each, _, _ in found),
            exact=counts[name, "exact"],
            approximate=counts[name, "approximate"],
            missing_on=tuple(page for each, how, page in found if (each, how) == (name, "missing")),
        )
        for name in dict.fromkeys(name for name, _, _ in found)
    }

"""Imports labelled pages of several formats and reports how their labels and values were used."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path

from receipt_layoutlm.data.importers.label_table import LabelTable, label_map_for, refused_labels
from receipt_layoutlm.data.importers.matches import Matches
from receipt_layoutlm.data.importers.plausibility import refuse_corner, refuse_garbled, refuse_unfound
from receipt_layoutlm.data.importers.recognise import Known, recognised, recognised_layout
from receipt_layoutlm.data.importers.source_page import (
    SourceFormat,
    SourcePage,
    cut_words,
    entity_counts,
    page_of,
    torn_in_source,
)
from receipt_layoutlm.data.jsonl import ReadOptions
from receipt_layoutlm.data.labels import CORE_LABELS, OUTSIDE, LabelError
from receipt_layoutlm.data.order_check import TornEntity
from receipt_layoutlm.data.page import DataError, Page, bad_lines
from receipt_layoutlm.data.snapshot import label_counts
from receipt_layoutlm.data.tag_schemes import is_no_entity

FORMATS = (
    *("jsonl", "sroie", "cord", "funsd", "xfund", "wildreceipt"),
    *("textract", "document-ai", "azure", "paddleocr", "doctr", "hocr", "alto", "label-studio", "doccano", "hf"),
)
"""Names of the formats; each is the module of its name, with _ for -, which defines FORMAT."""


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
    notes: tuple[str, ...] = ()
    """Units, encodings and schemes that were not given but told from the data, with the number of files."""
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
    source_format: SourceFormat = import_module(f"receipt_layoutlm.data.importers.{name.replace('-', '_')}").FORMAT
    return source_format


def import_pages(
    name: str,
    paths: Sequence[Path],
    table: LabelTable,
    on_bad: Callable[[DataError], None],
    options: ReadOptions | None = None,
) -> tuple[list[Page], ImportReport]:
    """The pages of files and folders, in their order.

    `on_bad` gets the error of each page that cannot be used: it raises to refuse everything, or returns to continue
    without the page. LabelError, and DataError if no page can be used or if the pages are garbage, are always raised.
    """
    source_format = load_format(name)
    options, notes = options or ReadOptions(), Counter[str]()
    options = replace(options, text=replace(options.text, note=lambda text: notes.update((text,))))
    sources: list[SourcePage] = []
    pages: list[Page] = []
    skipped: list[DataError] = []
    refused: dict[str, DataError] = {}  # labels, with the place of the first word that has it
    place_of: dict[str, str] = {}
    for source in _explained(source_format.read(paths, options), name, paths):
        try:
            if isinstance(source, DataError):
                raise source
            page = page_of(source, table)
            if source.page_id in place_of:
                reason = f"page id {source.page_id!r} is already used in {place_of[source.page_id]}"
                raise DataError(reason, file=source.file, line=source.line)
        except LabelError:
            assert isinstance(source, SourcePage)
            refused = refused_labels(source, table) | refused
        except DataError as error:
            on_bad(error)
            skipped.append(error)
        else:
            place_of[source.page_id] = source.place
            sources.append(source)
            pages.append(page)
    if refused:
        raise LabelError(f"{bad_lines(list(refused.values()), 'labels')}{label_map_for(refused)}")
    if not pages:
        raise bad_lines(skipped) if skipped else DataError(f"no page in {', '.join(map(str, paths))} can be used")
    report = _report(source_format, name, table, sources, pages)
    if name != "jsonl":  # whose boxes are checked as they stand in each file
        refuse_corner(sources)
    refuse_garbled(pages)
    refuse_unfound({value: match for value, match in report.matches.items() if table(value) != OUTSIDE})
    if source_format.may_be_unlabelled and not report.entities:
        notes.update(("no word has a label: the pages can be predicted or labelled, not learned",))
    if other_case := {label: label.upper() for label in report.entities if label.upper() in {*CORE_LABELS} - {label}}:
        notes.update((f"labels are ours but for their case: {json.dumps(other_case)} as --label-map renames them",))
    if unlabelled := {label: OUTSIDE for label in report.entities if is_no_entity(label)}:
        notes.update(
            (f"{', '.join(unlabelled)} is learned as a label; {json.dumps(unlabelled)} as --label-map makes it O",)
        )
    noted = tuple(f"{text}{f' ({count} files)' if count > 1 else ''}" for text, count in notes.items())
    return pages, replace(report, notes=noted, skipped=tuple(map(str, skipped)))


def _explained(
    read: Iterable[SourcePage | DataError], name: str, paths: Sequence[Path]
) -> Iterator[SourcePage | DataError]:
    """What a format reads, with one error for each file or folder that is in another format, which it names."""
    formats: dict[str, tuple[Path, Known | None]] = {}
    named: set[Path] = set()
    for each in _until_refused(read):
        if not isinstance(each, DataError) or each.file is None:
            yield each
            continue
        if each.file not in formats:
            formats[each.file] = _format_of(Path(each.file), paths)
        place, known = formats[each.file]
        if known is None or known.importer == name:
            yield each
        elif place not in named:
            named.add(place)
            yield DataError(f"{known.text(place)} ({each.reason})", file=str(place))


def _format_of(file: Path, paths: Sequence[Path]) -> tuple[Path, Known | None]:
    """The format of a file, or else of the folder that was named, with its place."""
    if known := recognised(file):
        return file, known
    layouts = ((path, recognised_layout(path)) for path in paths)
    return next(((path, known) for path, known in layouts if known), (file, None))


def _until_refused(read: Iterable[SourcePage | DataError]) -> Iterator[SourcePage | DataError]:
    """What a format reads, and the error with which it ends, such as a folder without its files."""
    try:
        yield from read
    except DataError as error:
        yield error


def _report(
    source_format: SourceFormat, name: str, table: LabelTable, sources: Sequence[SourcePage], pages: Sequence[Page]
) -> ImportReport:
    counts = sum((entity_counts(source) for source in sources), Counter[str]())
    renamed: dict[str, dict[str, int]] = {}
    for label, count in sorted(counts.items()):
        renamed.setdefault(table(label), {})[label] = count
    return ImportReport(
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
        torn=tuple(
            entity for source, page in zip(sources, pages, strict=True) for entity in torn_in_source(source, page)
        ),
    )

"""Draws scans whose values were not found, or not surely."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from receipt_layoutlm.data.importers.find_values import Document
from receipt_layoutlm.data.importers.labelled_scans import LabelledScan, ScanReport
from receipt_layoutlm.inference.scan_batch import ScannedFile
from receipt_layoutlm.inference.scans import upright_image
from receipt_layoutlm.reports.overlay import EntityMark, Overlay
from receipt_layoutlm.reports.overlay_folder import OverlayFolder, content_of, remove_drawn

MAX_DRAWN = 50
_DRAWN_BY = "values of a table"
_UNSURE = 0.0  # confidence of a place that is one of several


@dataclass(frozen=True, slots=True)
class Labelled:
    """A scan with the places of its values."""

    read: ScannedFile
    document: Document
    found: LabelledScan


def draw_doubtful(folder: Path, labelled: Sequence[Labelled], report: ScanReport) -> int:
    """Draw the first scans with doubts, the worst first, in place of those drawn before; returns their number."""
    by_name = {each.read.name: each for each in labelled}
    doubtful = [by_name[name] for name in dict.fromkeys(doubt.file for doubt in report.doubts)][:MAX_DRAWN]
    remove_drawn(folder)
    with OverlayFolder(folder, ["html"], _DRAWN_BY) as drawn:
        for each in doubtful:
            for overlay in _overlays(each, report):
                drawn.draw(overlay, content_of(overlay.page))
    return len(doubtful)


def _overlays(each: Labelled, report: ScanReport) -> Iterator[Overlay]:
    doubts = [doubt for doubt in report.doubts if doubt.file == each.read.name]
    notes = tuple(f"{doubt.label} {doubt.value}: {doubt.outcome}" for doubt in doubts)
    marks: dict[int, list[EntityMark]] = {}
    for label, placement in each.found.placements.items():
        likeness = next((doubt.likeness for doubt in doubts if doubt.label == label), 1.0)
        places = [(range(*span), likeness, "") for span in placement.spans]
        if placement.how == "ambiguous":
            places += [
                (range(index, index + 1), _UNSURE, "one of several places") for index in sorted(placement.doubtful)
            ]
        for words, confidence, note in places:
            number = each.document.order[words[0]][0]
            indices = tuple(index for page, index in map(each.document.order.__getitem__, words) if page == number)
            marks.setdefault(number, []).append(EntityMark(label, indices, confidence, note))
    for number, (page, scanned) in enumerate(zip(each.read.as_pages(each.found.tags), each.read.pages, strict=True)):
        yield Overlay(
            page=page,
            predicted=tuple(marks.get(number, ())),
            image=upright_image(each.read.path, scanned.number, scanned.rotation),
            source=str(each.read.path),
            number=scanned.number,
            notes=(*notes, *scanned.notes),
        )

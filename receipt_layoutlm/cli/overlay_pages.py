"""Pages that overlay draws: their gold and predicted entities, and their pictures."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from receipt_layoutlm.cli.sources import Input, pages_of
from receipt_layoutlm.data.images import find_image, images_by_name
from receipt_layoutlm.data.labels import OUTSIDE, LabelMap
from receipt_layoutlm.data.page import UNSUPERVISED, Page
from receipt_layoutlm.datasets.predictions import HeldOut
from receipt_layoutlm.datasets.suspects import of_another_version
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.inference.extraction import ExtractedEntity
from receipt_layoutlm.inference.scans import upright_image
from receipt_layoutlm.inference.sources import InputPage
from receipt_layoutlm.reports.overlay import EntityMark, Overlay, entity_marks, gold_of
from receipt_layoutlm.reports.overlay_folder import OverlayFolder

if TYPE_CHECKING:
    from PIL.Image import Image

    from receipt_layoutlm.extractor import Extractor


class Judged(NamedTuple):
    """A page with its gold entities, its predicted ones, and the confidence in each word's label."""

    page: InputPage
    gold: tuple[EntityMark, ...] | None
    predicted: tuple[EntityMark, ...]
    confidences: tuple[float, ...]
    notes: tuple[str, ...] = ()


class Picture(NamedTuple):
    """A page of a picture or PDF, and the angle by which it is turned, as in ScannedPage."""

    path: Path
    number: int
    rotation: int

    def open(self) -> "Image":
        """Raises ScanError."""
        return upright_image(self.path, self.number, self.rotation)


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures of pages: the scans that were read, the files of a folder, and those that are stored with pages."""

    files: Mapping[str, Path]
    fetch: Callable[[Page], Path | None]

    @classmethod
    def of(cls, folder: Path | None, fetch: Callable[[Page], Path | None]) -> Self:
        return cls({} if folder is None else images_by_name(folder), fetch)

    def find(self, each: InputPage) -> Picture | None:
        if each.rotation is not None:
            return Picture(Path(each.source), each.number, each.rotation)
        path = find_image(each.page, self.files) or self.fetch(each.page)
        number = re.search(r"#([1-9]\d*)$", each.page.page_id)  # as ScannedPage names the pages of a file
        return None if path is None else Picture(path, int(number[1]) if number else 1, 0)

    def version(self, each: InputPage) -> str:
        picture = self.find(each)
        return "" if picture is None else f"{picture} {picture.path.stat().st_mtime_ns}"


def predicted_pages(
    extractor: "Extractor",
    inputs: Iterable[Input],
    failed: dict[str, str],
    is_done: Callable[[InputPage], bool],
    on_progress: Callable[[float], None],
) -> Iterator[Judged]:
    """Pages with the predictions of a model; labels are compared as the model has them."""
    label_map = extractor.predictor.label_map
    given, pages = tee(pages_of(inputs, is_done, failed, on_progress))
    for each, extraction in zip(given, extractor.extract(pages), strict=True):
        gold = gold_of(replace(each.page, tags=label_map.apply(each.page.tags)))
        marks = tuple(EntityMark(e.label, e.words, e.confidence, _note(e)) for e in extraction.entities)
        notes = extraction.notes if gold is None else (*extraction.notes, *_unknown_labels(each.page, label_map))
        yield Judged(each, gold, marks, tuple(word.confidence for word in extraction.words), notes)


def _note(entity: ExtractedEntity) -> str:
    if entity.value is None:
        return entity.problem or ""
    return entity.value.shown if entity.value.shown != entity.text else ""


def _unknown_labels(page: Page, label_map: LabelMap) -> list[str]:
    labels = {label_map.merged(tag[2:]) for tag in page.tags if tag[0] == "B"} - {OUTSIDE, *label_map.labels}
    return [f"labels that the model does not know are left out: {', '.join(sorted(labels))}"] if labels else []


def evaluated_pages(
    held_out: HeldOut, is_done: Callable[[InputPage], bool], on_progress: Callable[[float], None]
) -> Iterator[Judged]:
    """Pages with the stored predictions of a job. Raises DataError if they are of another version of a page."""
    ((job, _),) = held_out.evaluations
    for number, view in enumerate(held_out.predicted, start=1):
        page = held_out.pages.get(view.page_id)
        if page is None or not view.is_of(page):
            raise of_another_version(view.page_id)
        each = InputPage(page, job, number, len(held_out.predicted))
        if not is_done(each):
            is_labelled = any(tag != UNSUPERVISED for tag in view.true)
            confidence_at = dict(zip(view.index, view.confidence, strict=True))
            yield Judged(
                each,
                entity_marks(view.true, view.index) if is_labelled else None,
                entity_marks(view.predicted, view.index, view.confidence),
                tuple(confidence_at[index] for index in range(len(page.words))),
            )
        on_progress(number)


def draw_pages(
    pages: Iterable[Judged],
    folder: OverlayFolder,
    pictures: Pictures,
    content: Callable[[InputPage], str],
    failed: dict[str, str],
) -> int:
    """Draw pages and count them. A picture that cannot be read is added to `failed`; its page is drawn without."""
    drawn = 0
    for each in pages:
        picture, notes, image = pictures.find(each.page), each.notes, None
        try:
            image = picture.open() if picture else None
        except UserError as error:
            failed[each.page.page.page_id] = str(error)
            notes = (*notes, str(error))
        overlay = Overlay(
            page=each.page.page,
            predicted=each.predicted,
            gold=each.gold,
            confidences=each.confidences,
            image=image,
            source=each.page.source,
            number=each.page.number,
            notes=notes,
        )
        folder.draw(overlay, content(each.page))
        drawn += 1
    return drawn

"""Stored predictions on held-out pages: errors of each page, cells of the confusion matrix, slices, reliability."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from receipt_layoutlm.data.page import UNSUPERVISED, Page
from receipt_layoutlm.data.tags import Entity, entities, label_of
from receipt_layoutlm.reports.overlay import Overlay, entity_marks
from receipt_layoutlm.reports.report import SliceRow
from receipt_layoutlm.run.predictions import PredictedPage
from receipt_layoutlm.run.scores import Bin
from receipt_layoutlm.run.slices import ITEMS, LENGTHS, items_of, slice_name
from receipt_layoutlm.run.word_scores import rates

BINS: Final = 15
"""Of equal width over (0, 1], as those of an evaluation; a bin includes its upper edge."""


@dataclass(frozen=True)
class JudgedPage:
    """A page with its predictions. `page` is None where the snapshot cannot be read or has another version of it."""

    predicted: PredictedPage
    page: Page | None

    @property
    def page_id(self) -> str:
        return self.predicted.page_id

    @cached_property
    def entities(self) -> tuple[set[Entity], set[Entity]]:
        """True and predicted ones, found once."""
        return self.predicted.entities()

    @property
    def trouble(self) -> tuple[float, float, str]:
        """Sorts the worst page first: by errors, then by the least certain entity."""
        true, predicted = self.entities
        certain = [min(self.predicted.confidence[begin:end]) for _, begin, end in entities(self.predicted.predicted)]
        return -len(true ^ predicted), min(certain, default=1.0), self.page_id

    def overlay(self) -> Overlay | None:
        """The page with its entities; None without the page."""
        view = self.predicted
        if self.page is None:
            return None
        is_labelled = any(tag != UNSUPERVISED for tag in view.true)
        confidence_at = dict(zip(view.index, view.confidence, strict=True))
        return Overlay(
            page=self.page,
            predicted=entity_marks(view.predicted, view.index, view.confidence),
            gold=entity_marks(view.true, view.index) if is_labelled else None,
            confidences=tuple(confidence_at[index] for index in range(len(self.page.words))),
        )


def judged_pages(predicted: Iterable[PredictedPage], pages: Mapping[str, Page]) -> list[JudgedPage]:
    """The pages in the order of the predictions."""
    found = ((view, pages.get(view.page_id)) for view in predicted)
    return [JudgedPage(view, page if page is not None and view.is_of(page) else None) for view, page in found]


def cells_by_page(judged: Iterable[JudgedPage]) -> dict[tuple[str, str], Counter[str]]:
    """Labelled words by true and predicted label, counted for each page."""
    cells: dict[tuple[str, str], Counter[str]] = {}
    for each in judged:
        for true, predicted in zip(each.predicted.true, each.predicted.predicted, strict=True):
            if true != UNSUPERVISED:
                cells.setdefault((label_of(true), label_of(predicted)), Counter())[each.page_id] += 1
    return cells


def slices_of(judged: Sequence[JudgedPage], trained_on: Set[str] | None) -> dict[str, tuple[SliceRow, ...]]:
    """Scores by merchant in the training set or new, by words of a page, and by its items.

    A slicing by size that puts all pages into one slice is left out.
    """

    def merchant(each: JudgedPage) -> str | None:
        if trained_on is None or each.page is None:
            return None
        return "seen in training" if each.page.group in trained_on else "new"

    def length(each: JudgedPage) -> int:
        return len(each.predicted.words)

    def items(each: JudgedPage) -> int:
        return items_of(each.predicted.true)

    by_length, by_items = sorted(judged, key=length), sorted(judged, key=items)  # so that slices come by size
    found = {
        "merchant": _members((each, merchant(each)) for each in judged),
        "words on the page": _members((each, slice_name(length(each), LENGTHS)) for each in by_length),
        "items on the page": _members((each, slice_name(items(each), ITEMS)) for each in by_items),
    }
    return {
        name: tuple(_slice_row(part, pages) for part, pages in members.items())
        for name, members in found.items()
        if len(members) > 1 or (name == "merchant" and members)
    }


def _members(parts: Iterable[tuple[JudgedPage, str | None]]) -> dict[str, list[JudgedPage]]:
    members: dict[str, list[JudgedPage]] = {}
    for each, part in parts:
        if part is not None:
            members.setdefault(part, []).append(each)
    return members


def _slice_row(name: str, judged: Sequence[JudgedPage]) -> SliceRow:
    true = sum(len(each.entities[0]) for each in judged)
    predicted = sum(len(each.entities[1]) for each in judged)
    right = sum(len(each.entities[0] & each.entities[1]) for each in judged)
    precision, recall, f1 = rates(right, predicted, true)
    return SliceRow(name=name, pages=len(judged), support=true, precision=precision, recall=recall, f1=f1)


def reliability_of(judged: Iterable[JudgedPage]) -> tuple[Bin, ...]:
    """Bins of the labelled words by the confidence in their predicted label; those without words are left out."""
    words = [[0, 0.0, 0] for _ in range(BINS)]  # number, sum of confidences, number of right ones
    for each in judged:
        view = each.predicted
        for true, predicted, confidence in zip(view.true, view.predicted, view.confidence, strict=True):
            if true != UNSUPERVISED:
                place = min(max(math.ceil(confidence * BINS) - 1, 0), BINS - 1)
                words[place][0] += 1
                words[place][1] += confidence
                words[place][2] += label_of(true) == label_of(predicted)
    return tuple(
        Bin(
            low=place / BINS,
            high=(place + 1) / BINS,
            words=int(number),
            confidence=total / number,
            accuracy=right / number,
        )
        for place, (number, total, right) in enumerate(words)
        if number
    )

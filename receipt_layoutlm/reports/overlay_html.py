"""A page with its entities as one HTML file."""

from collections.abc import Iterable
from dataclasses import dataclass

from receipt_layoutlm.data.page import UNSUPERVISED
from receipt_layoutlm.reports.drawing import Drawing, PlacedBox
from receipt_layoutlm.reports.html import html_document
from receipt_layoutlm.reports.overlay import EntityMark, Kind, Overlay


@dataclass(frozen=True, slots=True)
class _Word:
    """A row of the token list, and the word's place in the drawing.

    The tag of a word outside every entity is empty; an unlabelled word has UNSUPERVISED as gold.
    """

    index: int
    text: str
    box: PlacedBox
    gold: str
    predicted: str
    confidence: float | None

    @property
    def differs(self) -> bool:
        return self.gold not in (self.predicted, UNSUPERVISED)


def overlay_html(overlay: Overlay, index: str | None = None) -> str:
    """The page with toggles, a confidence slider, its fields and its tokens; `index` is a file beside it to link to."""
    drawing = Drawing(overlay)
    return html_document(
        "overlay.html.jinja",
        ("overlay.css", "overlay.js"),
        overlay=overlay,
        index=index,
        drawing=drawing,
        words=_words(drawing),
        kinds=[kind for kind in Kind if overlay.count(kind)],
    )


def _tags(marks: Iterable[EntityMark]) -> dict[int, str]:
    return {word: f"{'I' if place else 'B'}-{mark.label}" for mark in marks for place, word in enumerate(mark.words)}


def _words(drawing: Drawing) -> list[_Word]:
    """In reading order."""
    overlay = drawing.overlay
    page, gold, predicted = overlay.page, _tags(overlay.gold or ()), _tags(overlay.predicted)
    return [
        _Word(
            index=index,
            text=page.words[index],
            box=drawing.box_of(index),
            gold=gold.get(index, UNSUPERVISED if page.tags[index] == UNSUPERVISED else ""),
            predicted=predicted.get(index, ""),
            confidence=overlay.confidences[index] if overlay.confidences else None,
        )
        for index in overlay.order
    ]

"""Label Studio tasks of pages, with a region for each word and its label as a pre-annotation.

    {"data": {"ocr": "/data/local-files/?d=r1.png", "page": {the page}},
     "predictions": [{"model_version": "...", "score": 0.97, "result": [
        {"id": "w0", "type": "rectangle", "from_name": "bbox", "to_name": "image", "value": {x, y, width, height}},
        {"id": "w0", "type": "labels", "from_name": "label", ..., "value": {..., "labels": ["DATE"]}},
        {"id": "w0", "type": "textarea", "from_name": "transcription", ..., "value": {..., "text": ["25/12/18"]}}]}]}

Boxes of regions are percent of the page. importers/label_studio.py reads what a reviewer made of them; the page in
`data`, which Label Studio keeps as it is, has words, boxes and the beginnings of entities.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

from receipt_layoutlm.data.labels import OUTSIDE
from receipt_layoutlm.data.page import PAGE_EXTENT, UNSUPERVISED, Page, page_to_line

PAGE_FIELD = "page"
REGION = "w"
"""Ids of regions are this and the word's index."""

_PERCENT = PAGE_EXTENT / 100
_COLOURS = (
    "#e6194b",
    "#3cb44b",
    "#4363d8",
    "#f58231",
    "#911eb4",
    "#008080",
    "#9a6324",
    "#808000",
    "#000075",
    "#f032e6",
)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A page whose tags are to be reviewed. `model` proposed them; of a model each word has a confidence."""

    page: Page
    image: str
    """Address of the image, as Label Studio opens it."""
    model: str
    confidences: Sequence[float] | None = None


def task_of(proposal: Proposal) -> dict[str, object]:
    """The task, to be written as JSON."""
    page, confidences = proposal.page, proposal.confidences
    result = [region for index in range(len(page.words)) for region in _regions(page, index, confidences)]
    prediction: dict[str, object] = {"model_version": proposal.model, "result": result}
    if confidences:
        prediction["score"] = min(confidences)
    return {
        "data": {"ocr": proposal.image, PAGE_FIELD: json.loads(page_to_line(page))},
        "predictions": [prediction],
    }


def _regions(page: Page, index: int, confidences: Sequence[float] | None) -> Iterable[dict[str, object]]:
    x0, y0, x1, y1 = page.boxes[index]
    sides = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}
    place = {**{name: value / _PERCENT for name, value in sides.items()}, "rotation": 0}
    size = {"original_width": page.width, "original_height": page.height, "image_rotation": 0}
    region = {"id": f"{REGION}{index}", "to_name": "image", **size}
    if confidences:
        region["score"] = confidences[index]
    yield {**region, "from_name": "bbox", "type": "rectangle", "value": place}
    if page.tags[index] not in (OUTSIDE, UNSUPERVISED):
        labels = {**place, "labels": [page.tags[index][2:]]}
        yield {**region, "from_name": "label", "type": "labels", "value": labels}
    yield {**region, "from_name": "transcription", "type": "textarea", "value": {**place, "text": [page.words[index]]}}


def labelling_interface(labels: Iterable[str]) -> str:
    """The labelling configuration of a project for such tasks."""
    rows = [
        f"    <Label value={quoteattr(label)} background={quoteattr(_COLOURS[index % len(_COLOURS)])}/>"
        for index, label in enumerate(labels)
    ]
    return "\n".join(
        [
            "<View>",
            '  <Image name="image" value="$ocr" zoom="true" zoomControl="true"/>',
            '  <Labels name="label" toName="image" showInline="true">',
            *rows,
            "  </Labels>",
            '  <Rectangle name="bbox" toName="image" strokeWidth="2"/>',
            '  <TextArea name="transcription" toName="image" editable="true" perRegion="true" maxSubmissions="1" '
            'rows="1" displayMode="region-list"/>',
            "</View>\n",
        ]
    )

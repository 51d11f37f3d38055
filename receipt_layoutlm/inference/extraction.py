"""Results of an extraction, as they are printed and stored. The JSON schema is docs/extraction.schema.json."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from receipt_layoutlm.data.dates import DateOrder
from receipt_layoutlm.data.labels import OUTSIDE
from receipt_layoutlm.data.lines import around
from receipt_layoutlm.data.page import Box, Page
from receipt_layoutlm.data.tags import entities
from receipt_layoutlm.inference.values import FieldValue, read_value

SCHEMA_VERSION: Final = 1
DIGITS: Final = 4  # of a confidence


@dataclass(frozen=True, slots=True)
class PagePrediction:
    """One page in reading order: each word's index in the given page, its IOB2 tag and the confidence in its label."""

    order: tuple[int, ...]
    tags: tuple[str, ...]
    confidences: tuple[float, ...]


class ExtractedWord(BaseModel):
    """A word of the page, in the page's own order."""

    model_config = ConfigDict(frozen=True)

    text: str
    box: Box = Field(description="x0, y0, x1, y1 in thousandths of the page, origin top-left.")
    label: str = Field(description="Label of the word, O for none.")
    confidence: float = Field(ge=0, le=1, description="Calibrated probability of the label.")


class ExtractedEntity(BaseModel):
    """A field of the page."""

    model_config = ConfigDict(frozen=True)

    label: str
    text: str = Field(description="As read: the words with a space between them.")
    value: FieldValue | None = Field(
        None, description="Date or amount, where the label has one and the text can be read."
    )
    problem: str | None = Field(None, description="Why a text that should have a value could not be read.")
    confidence: float = Field(ge=0, le=1, description="Confidence of its least certain word.")
    box: Box = Field(description="Of all its words.")
    words: tuple[int, ...] = Field(description="Indices into `words`, in reading order.")


class Extraction(BaseModel):
    """Words and fields of one page."""

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1] = SCHEMA_VERSION
    source: str = Field(description="File, dataset or receipt that the page is from.")
    page: int = Field(ge=1, description="Number of the page in its source, from 1.")
    page_id: str
    width: int
    height: int
    model: str = Field(description="SHA-256 of the model's weights.")
    entities: tuple[ExtractedEntity, ...] = Field(description="In reading order.")
    words: tuple[ExtractedWord, ...]
    notes: tuple[str, ...] = ()

    def best(self, label: str) -> ExtractedEntity | None:
        """The most confident entity of a label; the first of equals."""
        return max((each for each in self.entities if each.label == label), key=lambda e: e.confidence, default=None)


def extraction_of(
    page: Page,
    prediction: PagePrediction,
    *,
    source: str,
    number: int,
    model: str,
    date_order: DateOrder | None,
    notes: Sequence[str] = (),
) -> Extraction:
    """The result for a page that was predicted."""
    place = {word: position for position, word in enumerate(prediction.order)}
    words = tuple(
        ExtractedWord(
            text=text,
            box=box,
            label=prediction.tags[place[index]].partition("-")[2] or OUTSIDE,
            confidence=round(prediction.confidences[place[index]], DIGITS),
        )
        for index, (text, box) in enumerate(zip(page.words, page.boxes, strict=True))
    )
    found = []
    for label, begin, end in entities(prediction.tags):
        indices = prediction.order[begin:end]
        text = " ".join(words[index].text for index in indices)
        value = read_value(label, text, date_order)
        found.append(
            ExtractedEntity(
                label=label,
                text=text,
                value=value if isinstance(value, FieldValue) else None,
                problem=value if isinstance(value, str) else None,
                confidence=min(words[index].confidence for index in indices),
                box=around([page.boxes[index] for index in indices]),
                words=indices,
            )
        )
    return Extraction(
        source=source,
        page=number,
        page_id=page.page_id,
        width=page.width,
        height=page.height,
        model=model,
        entities=tuple(found),
        words=words,
        notes=tuple(notes),
    )

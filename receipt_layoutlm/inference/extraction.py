"""Results of an extraction, as they are printed and stored. The JSON schema is docs/extraction.schema.json."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from receipt_layoutlm.data.dates import DateOrder
from receipt_layoutlm.data.labels import OUTSIDE
from receipt_layoutlm.data.lines import around
from receipt_layoutlm.data.page import Box, Page
from receipt_layoutlm.data.tags import entities
from receipt_layoutlm.inference.acceptance import AcceptanceRule
from receipt_layoutlm.inference.certainty import Certainty
from receipt_layoutlm.inference.values import FieldValue, read_value

SCHEMA_VERSION: Final = 2
DIGITS: Final = 4  # of a confidence
OCR_DOUBT: Final = 0.8
"""Confidence of the OCR in a word below which its field is asked about."""
BALANCE: Final = ("SUBTOTAL", "TAX", "GRAND_TOTAL")
"""The first two add up to the third."""
ROUNDING: Final = Decimal("0.05")  # of a total, in cash


@dataclass(frozen=True, slots=True)
class PagePrediction:
    """One page in reading order: each word's index in the given page, its IOB2 tag and the confidence in its label.

    certainties: of each entity of the tags, in their order.
    """

    order: tuple[int, ...]
    tags: tuple[str, ...]
    confidences: tuple[float, ...]
    certainties: tuple[Certainty, ...] = ()


class ExtractedWord(BaseModel):
    """A word of the page, in the page's own order."""

    model_config = ConfigDict(frozen=True)

    text: str
    box: Box = Field(description="x0, y0, x1, y1 in thousandths of the page, origin top-left.")
    label: str = Field(description="Label of the word, O for none.")
    confidence: float = Field(ge=0, le=1, description="Calibrated probability of the label.")
    ocr_confidence: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Confidence of the OCR in the text; null for words that were not read by OCR.",
    )


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
    certainty: float | None = Field(
        default=None, ge=0, le=1, description="Certainty that the field is exactly right, which --max-error decides by."
    )
    decision: Literal["accept", "ask"] | None = Field(
        default=None, description="With --max-error: accept it unseen, or ask."
    )
    doubts: tuple[str, ...] = Field(default=(), description="Why to ask.")
    origin: Literal["model"] = "model"


class FallbackField(BaseModel):
    """A heuristic's answer where the model has none, or asks."""

    model_config = ConfigDict(frozen=True)

    label: str
    text: str = Field(description="As the file of answers has it.")
    value: FieldValue | None = Field(None, description="As of an entity.")
    problem: str | None = Field(None, description="Why a text that should have a value could not be read.")
    reason: Literal["missing", "asked"] = Field(
        description="No page has the field, or each of them is to be asked about."
    )
    origin: Literal["fallback"] = "fallback"


class Extraction(BaseModel):
    """Words and fields of one page."""

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[2] = SCHEMA_VERSION
    source: str = Field(description="File, dataset or receipt that the page is from.")
    page: int = Field(ge=1, description="Number of the page in its source, from 1.")
    page_id: str
    width: int
    height: int
    model: str = Field(description="SHA-256 of the model's weights.")
    entities: tuple[ExtractedEntity, ...] = Field(description="In reading order.")
    words: tuple[ExtractedWord, ...]
    notes: tuple[str, ...] = ()
    fallback: tuple[FallbackField, ...] = Field(
        default=(), description="With --fallback, on the first page of a source: answers in place of the model's."
    )

    def answered_by_fallback(self, label: str) -> FallbackField | None:
        """The heuristic's answer, which counts in place of the entities of its label."""
        return next((each for each in self.fallback if each.label == label), None)

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
    ocr_confidences: Sequence[float] | None = None,
    rule: AcceptanceRule | None = None,
    notes: Sequence[str] = (),
) -> Extraction:
    """The result for a page that was predicted. ocr_confidences: of the page's words, where OCR read them."""
    place = {word: position for position, word in enumerate(prediction.order)}
    words = tuple(
        ExtractedWord(
            text=text,
            box=box,
            label=prediction.tags[place[index]].partition("-")[2] or OUTSIDE,
            confidence=round(prediction.confidences[place[index]], DIGITS),
            ocr_confidence=None if ocr_confidences is None else round(ocr_confidences[index], DIGITS),
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
    if rule is not None:
        found = decided(found, words, prediction, rule)
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


def decided(
    found: Sequence[ExtractedEntity], words: Sequence[ExtractedWord], prediction: PagePrediction, rule: AcceptanceRule
) -> list[ExtractedEntity]:
    """The fields of a page, each with accept or ask and the doubts."""
    in_order = [words[index].text for index in prediction.order]
    unbalanced = amounts_doubt(found)
    result = []
    for entity, certainty in zip(found, prediction.certainties, strict=True):
        unclear = [words[index].text for index in entity.words if (words[index].ocr_confidence or 1.0) < OCR_DOUBT]
        doubts = [
            entity.problem,
            rule.doubt(entity.label, certainty, in_order),
            unbalanced if entity.label in BALANCE else None,
            f"the OCR is unsure of {', '.join(unclear)}" if unclear else None,
        ]
        reasons = tuple(doubt for doubt in doubts if doubt is not None)
        result.append(
            entity.model_copy(
                update={
                    "certainty": round(rule.certainty(entity.label, certainty), DIGITS),
                    "decision": "ask" if reasons else "accept",
                    "doubts": reasons,
                }
            )
        )
    return result


def amounts_doubt(found: Sequence[ExtractedEntity]) -> str | None:
    """Says so if subtotal and tax, each printed with one value, do not add up to the total."""
    amounts: dict[str, set[Decimal]] = {label: set() for label in BALANCE}
    for entity in found:
        if entity.label in amounts and entity.value is not None:
            amounts[entity.label].add(Decimal(entity.value.text))
    if any(len(values) != 1 for values in amounts.values()):
        return None
    subtotal, tax, total = (values.pop() for values in amounts.values())
    if abs(subtotal + tax - total) <= ROUNDING:
        return None
    return f"amounts do not add up: {subtotal} + {tax} is not {total}"

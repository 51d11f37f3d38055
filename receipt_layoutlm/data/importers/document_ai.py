"""Google Document AI: a Document as JSON, as the API, the console and batch processing write it.

    {"text": "Corner Shop ...", "pages": [{"dimension": {"width": 600, "height": 800}, "tokens": [{"layout": {
        "textAnchor": {"textSegments": [{"startIndex": "0", "endIndex": "7"}]},
        "boundingPoly": {"normalizedVertices": [{"x": 0.1, "y": 0.05}, ...]}}}]}],
     "entities": [{"type": "supplier_name", "mentionText": "Corner Shop", "textAnchor": {...}, "properties": [...]}]}

Names may be in camel or snake case, and the Document inside of {"document": ...}. A missing index or coordinate is 0.
Words are the tokens, or lines where there are none. Words in the text of an entity have its type as label; of an entity
with properties these are the labels, such as line_item/amount.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import AliasChoices, AliasGenerator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from receipt_layoutlm.data.importers.ocr_page import SHARES_SIZE, FoundField, OcrPage, field_pages, scaled
from receipt_layoutlm.data.importers.source_page import SourceFormat, SourcePage, SourceWord
from receipt_layoutlm.data.jsonl import ReadOptions
from receipt_layoutlm.data.lines import bounds
from receipt_layoutlm.data.page import LARGEST_EXTENT, DataError
from receipt_layoutlm.data.source_text import RECORD, NullableText, files_below, read_source, shaped

_LABELS: dict[str, str] = {
    "supplier_name": "MERCHANT_NAME",
    "supplier_address": "ADDRESS_LINE",
    "supplier_phone": "PHONE_NUMBER",
    "supplier_website": "WEBSITE",
    "receipt_date": "DATE",
    "invoice_date": "DATE",
    "purchase_time": "TIME",
    "total_amount": "GRAND_TOTAL",
    "net_amount": "SUBTOTAL",
    "total_tax_amount": "TAX",
    "tip_amount": "TIP",
    "payment_type": "PAYMENT_METHOD",
    "line_item/description": "PRODUCT_NAME",
    "line_item/quantity": "QUANTITY",
    "line_item/unit_price": "UNIT_PRICE",
    "line_item/amount": "LINE_TOTAL",
    **dict.fromkeys(
        ("currency", "supplier_city", "credit_card_last_four_digits", "start_date", "end_date", "invoice_id"), "O"
    ),
    **dict.fromkeys(
        ("line_item", "line_item/product_code", "vat", "vat/amount", "vat/tax_amount", "vat/tax_rate"), "O"
    ),
}
_EITHER_CASE = ConfigDict(
    **RECORD, alias_generator=AliasGenerator(validation_alias=lambda name: AliasChoices(to_camel(name), name))
)


class Segment(BaseModel):
    """Characters of the text."""

    model_config = _EITHER_CASE

    start_index: int = 0
    end_index: int = 0


class TextAnchor(BaseModel):
    """A part of the text."""

    model_config = _EITHER_CASE

    text_segments: tuple[Segment, ...] = ()

    def text(self, whole: str) -> str:
        return "".join(whole[segment.start_index : segment.end_index] for segment in self.text_segments)

    def covers(self, other: "TextAnchor") -> bool:
        """Whether the other one begins inside of this one."""
        begin = min((segment.start_index for segment in other.text_segments), default=-1)
        return any(segment.start_index <= begin < segment.end_index for segment in self.text_segments)


class Vertex(BaseModel):
    """A corner; a coordinate of 0 is left out."""

    model_config = RECORD

    x: float = 0
    y: float = 0


class Poly(BaseModel):
    """Corners in shares of the page, or in pixels."""

    model_config = _EITHER_CASE

    normalized_vertices: tuple[Vertex, ...] = ()
    vertices: tuple[Vertex, ...] = ()


class Layout(BaseModel):
    """A text and its place."""

    model_config = _EITHER_CASE

    text_anchor: TextAnchor = TextAnchor()
    bounding_poly: Poly = Poly()


class Element(BaseModel):
    """A token, line or paragraph."""

    model_config = _EITHER_CASE

    layout: Layout


class Dimension(BaseModel):
    """Pixels."""

    model_config = RECORD

    width: float = Field(gt=0, le=LARGEST_EXTENT)
    height: float = Field(gt=0, le=LARGEST_EXTENT)


class DocumentPage(BaseModel):
    """One page."""

    model_config = _EITHER_CASE

    dimension: Dimension | None = None
    tokens: tuple[Element, ...] = ()
    lines: tuple[Element, ...] = ()
    paragraphs: tuple[Element, ...] = ()

    def elements(self) -> tuple[Element, ...]:
        """The smallest that there are."""
        return self.tokens or self.lines or self.paragraphs

    def page(self, text: str) -> OcrPage:
        """A word for each element. ValueError for one without a place."""
        size = (self.dimension.width, self.dimension.height) if self.dimension else SHARES_SIZE
        return OcrPage([_word(each.layout, text, size) for each in self.elements()], size)


def _word(layout: Layout, text: str, size: tuple[float, float]) -> SourceWord:
    shares, pixels = layout.bounding_poly.normalized_vertices, layout.bounding_poly.vertices
    content = layout.text_anchor.text(text)
    if not shares and not pixels:
        raise ValueError(f"the boundingPoly of {content.strip()!r} has no vertices")
    box = bounds([value for vertex in shares or pixels for value in (vertex.x, vertex.y)])
    return SourceWord(content, scaled(box, size) if shares else box)


class GoogleEntity(BaseModel):
    """What a processor extracted; without a text anchor if it was inferred."""

    model_config = _EITHER_CASE

    type: str = ""
    mention_text: NullableText = ""
    text_anchor: TextAnchor | None = None
    properties: tuple["GoogleEntity", ...] = ()

    def leaves(self) -> list["GoogleEntity"]:
        """The properties, of any depth, or the entity itself."""
        return [leaf for inner in self.properties for leaf in inner.leaves()] if self.properties else [self]


class GoogleDocument(BaseModel):
    """A whole file."""

    model_config = _EITHER_CASE

    text: str
    pages: tuple[DocumentPage, ...]
    entities: tuple[GoogleEntity, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _unwrapped(cls, value: object) -> object:
        return value["document"] if isinstance(value, dict) and isinstance(value.get("document"), dict) else value

    def fields(self) -> list[FoundField]:
        """The entities that stand in the text."""
        found = []
        for entity in (leaf for each in self.entities for leaf in each.leaves()):
            if (anchor := entity.text_anchor) and anchor.text_segments:
                places = {index: _places(page, anchor) for index, page in enumerate(self.pages)}
                found.append(FoundField(entity.type, {index: at for index, at in places.items() if at} or {0: ()}))
        return found


def _places(page: DocumentPage, anchor: TextAnchor) -> list[int]:
    return [index for index, each in enumerate(page.elements()) if anchor.covers(each.layout.text_anchor)]


def read_document_ai(paths: Sequence[Path], options: ReadOptions) -> Iterator[SourcePage | DataError]:
    """The pages of each file."""
    for path in files_below(paths, "*.json", "*.json.gz"):
        try:
            document = shaped(GoogleDocument, read_source(path, options.text), path)
            pages = [page.page(document.text) for page in document.pages]
        except DataError as error:
            yield error
        except ValueError as error:
            yield DataError(str(error), file=str(path))
        else:
            yield from field_pages(path, pages, document.fields(), options)


_OWN = {label: label.replace("/", ".") for label in _LABELS if "/" in label}

FORMAT = SourceFormat(read_document_ai, _LABELS, _OWN, may_be_unlabelled=True)

"""Azure Document Intelligence: results of its read, layout and prebuilt models as JSON.

    {"analyzeResult": {"modelId": "prebuilt-receipt", "pages": [{"width": 8.5, "height": 11, "unit": "inch",
        "words": [{"content": "Shop", "polygon": [x1, y1, ..., x4, y4], "span": {"offset", "length"}}]}],
      "documents": [{"fields": {"MerchantName": {"type": "string", "content": "Shop", "spans": [...]},
        "Items": {"type": "array", "valueArray": [{"type": "object", "valueObject": {"Price": {...}}}]}}}]}}

The result may be bare, and polygons may be points {"x", "y"}, as the SDK writes them; version 2 has readResults and
boundingBox. Boxes are in the unit of the page. Words in the spans of a field, or else in its regions, have its name as
label, below arrays as Items.Price.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, model_validator

from receipt_layoutlm.data.importers.ocr_page import FoundField, OcrPage, field_pages
from receipt_layoutlm.data.importers.source_page import SourceFormat, SourcePage, SourceWord
from receipt_layoutlm.data.jsonl import ReadOptions
from receipt_layoutlm.data.lines import FloatBox, bounds
from receipt_layoutlm.data.page import LARGEST_EXTENT, DataError
from receipt_layoutlm.data.source_text import RECORD, NullableText, files_below, read_source, shaped

_PIXELS = {"inch": 100.0}
"""Pixels of a unit, of which pages have whole numbers; boxes are shares of the page in the end."""

_LABELS: dict[str, str] = {
    "MerchantName": "MERCHANT_NAME",
    "MerchantAddress": "ADDRESS_LINE",
    "MerchantPhoneNumber": "PHONE_NUMBER",
    "TransactionDate": "DATE",
    "TransactionTime": "TIME",
    "Total": "GRAND_TOTAL",
    "Subtotal": "SUBTOTAL",
    "TotalTax": "TAX",
    "Tax": "TAX",
    "Tip": "TIP",
    "VendorName": "MERCHANT_NAME",
    "VendorAddress": "ADDRESS_LINE",
    "InvoiceDate": "DATE",
    "InvoiceTotal": "GRAND_TOTAL",
    "SubTotal": "SUBTOTAL",
    "Items.Description": "PRODUCT_NAME",
    "Items.Name": "PRODUCT_NAME",
    "Items.Quantity": "QUANTITY",
    "Items.Price": "UNIT_PRICE",
    "Items.UnitPrice": "UNIT_PRICE",
    "Items.TotalPrice": "LINE_TOTAL",
    "Items.Amount": "LINE_TOTAL",
    **dict.fromkeys(
        ("ReceiptType", "CountryRegion", "ArrivalDate", "DepartureDate", "Currency", "Category", "InvoiceId"), "O"
    ),
    **dict.fromkeys(
        ("Items.ProductCode", "Items.QuantityUnit", "Items.Category", "Items.Date", "Items.Unit", "Items.Tax"), "O"
    ),
    **dict.fromkeys(("TaxDetails.Amount", "TaxDetails.Rate", "TaxDetails.NetAmount", "TaxDetails.Description"), "O"),
    **dict.fromkeys(("Payments.Method", "Payments.Amount"), "O"),
}


def _polygon(value: object) -> object:
    """The numbers of corners that may be points with names."""
    if isinstance(value, list) and value and all(isinstance(point, dict) for point in value):
        return [number for point in value for number in (point.get("x"), point.get("y"))]
    return value


Polygon = Annotated[tuple[float, ...], BeforeValidator(_polygon), Field(min_length=8)]


class ContentSpan(BaseModel):
    """Characters of the document's content."""

    model_config = RECORD

    offset: int
    length: int

    def holds(self, offset: int) -> bool:
        return self.offset <= offset < self.offset + self.length


class AzureWord(BaseModel):
    """One word."""

    model_config = RECORD

    content: NullableText = Field(validation_alias=AliasChoices("content", "text"))
    polygon: Polygon = Field(validation_alias=AliasChoices("polygon", "boundingBox", "bounding_box"))
    span: ContentSpan | None = None


class AzureLine(BaseModel):
    """One line, of which version 2 has the words."""

    model_config = RECORD

    words: tuple[AzureWord, ...] = ()


class AzurePage(BaseModel):
    """One page."""

    model_config = RECORD

    width: float = Field(gt=0, le=LARGEST_EXTENT)
    height: float = Field(gt=0, le=LARGEST_EXTENT)
    unit: str = "pixel"
    words: tuple[AzureWord, ...] = ()
    lines: tuple[AzureLine, ...] = ()

    def all_words(self) -> tuple[AzureWord, ...]:
        return self.words or tuple(word for line in self.lines for word in line.words)

    def box(self, polygon: Sequence[float]) -> FloatBox:
        """The upright box around corners, in pixels."""
        pixels = _PIXELS.get(self.unit, 1.0)
        return bounds([value * pixels for value in polygon])

    def page(self) -> OcrPage:
        pixels = _PIXELS.get(self.unit, 1.0)
        words = [SourceWord(word.content, self.box(word.polygon)) for word in self.all_words()]
        return OcrPage(words, (self.width * pixels, self.height * pixels))


class BoundingRegion(BaseModel):
    """A place of a field."""

    model_config = RECORD

    page: int = Field(ge=1, validation_alias=AliasChoices("pageNumber", "page_number"))
    polygon: Polygon = Field(validation_alias=AliasChoices("polygon", "boundingBox", "bounding_box"))


class AzureField(BaseModel):
    """A field, or an array or object of them."""

    model_config = RECORD

    content: NullableText = Field("", validation_alias=AliasChoices("content", "text"))
    spans: tuple[ContentSpan, ...] = ()
    regions: tuple[BoundingRegion, ...] = Field(
        default=(), validation_alias=AliasChoices("boundingRegions", "bounding_regions")
    )
    array: tuple["AzureField | None", ...] = Field(
        default=(), validation_alias=AliasChoices("valueArray", "value_array")
    )
    members: dict[str, "AzureField | None"] = Field(
        default_factory=dict, validation_alias=AliasChoices("valueObject", "value_object")
    )

    @model_validator(mode="before")
    @classmethod
    def _one_region(cls, value: object) -> object:
        """The place of version 2 as a region."""
        if isinstance(value, dict) and "page" in value and "boundingBox" in value:
            return {**value, "boundingRegions": [{"pageNumber": value["page"], "polygon": value["boundingBox"]}]}
        return value

    def leaves(self, name: str) -> Iterator[tuple[str, "AzureField"]]:
        """The fields with a value, each with its name below this one's."""
        for each in self.array:
            if each is not None:
                yield from each.leaves(name)
        for inner, each in self.members.items():
            if each is not None:
                yield from each.leaves(f"{name}.{inner}")
        if not self.array and not self.members:
            yield name, self


class AzureDocument(BaseModel):
    """One receipt or form."""

    model_config = RECORD

    fields: dict[str, AzureField | None] = Field(default_factory=dict)


class AzureResult(BaseModel):
    """A whole file."""

    model_config = RECORD

    pages: tuple[AzurePage, ...] = Field(validation_alias=AliasChoices("pages", "readResults"))
    documents: tuple[AzureDocument, ...] = Field(
        default=(), validation_alias=AliasChoices("documents", "documentResults")
    )

    @model_validator(mode="before")
    @classmethod
    def _unwrapped(cls, value: object) -> object:
        inner = value.get("analyzeResult", value.get("analyze_result")) if isinstance(value, dict) else None
        return inner if isinstance(inner, dict) else value

    def found(self, pages: Sequence[OcrPage]) -> Iterator[FoundField]:
        """The fields that stand in the document."""
        for document in self.documents:
            named = [(name, each) for name, each in document.fields.items() if each is not None]
            for label, field in (leaf for name, each in named for leaf in each.leaves(name)):
                if field.spans or field.regions:
                    yield FoundField(label, self._places(field, pages) or {0: ()})

    def _places(self, field: AzureField, pages: Sequence[OcrPage]) -> dict[int, Sequence[int]]:
        places: dict[int, Sequence[int]] = {}
        for index, page in enumerate(self.pages):
            spans = [(place, word.span) for place, word in enumerate(page.all_words()) if word.span]
            inside = [place for place, span in spans if any(each.holds(span.offset) for each in field.spans)]
            if not spans:
                boxes = [page.box(region.polygon) for region in field.regions if region.page == index + 1]
                inside = [place for box in boxes for place in pages[index].inside(box, field.content)]
            if inside:
                places[index] = inside
        return places


def read_azure(paths: Sequence[Path], options: ReadOptions) -> Iterator[SourcePage | DataError]:
    """The pages of each file."""
    for path in files_below(paths, "*.json", "*.json.gz"):
        try:
            result = shaped(AzureResult, read_source(path, options.text), path)
        except DataError as error:
            yield error
            continue
        pages = [page.page() for page in result.pages]
        yield from field_pages(path, pages, result.found(pages), options)


FORMAT = SourceFormat(read_azure, _LABELS, own_labels={}, may_be_unlabelled=True)

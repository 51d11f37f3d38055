"""AWS Textract: the replies of DetectDocumentText, AnalyzeDocument and AnalyzeExpense as JSON files.

    {"Blocks": [{"BlockType": "WORD", "Text": "Shop", "Page": 1,
                 "Geometry": {"BoundingBox": {"Left": 0.1, "Top": 0.05, "Width": 0.1, "Height": 0.03}}}]}
    {"ExpenseDocuments": [{"Blocks": [...], "SummaryFields": [{"Type": {"Text": "TOTAL"}, "PageNumber": 1,
        "ValueDetection": {"Text": "$3.70", "Geometry": {...}}}], "LineItemGroups": [...]}]}

A file is one document; the replies of one that came in parts are a list. Boxes are shares of the page, whose pixels
Textract does not tell. Words get the type of the expense field in whose value they stand; the other replies have no
labels. Captions and EXPENSE_ROW, the text of a whole row, are omitted.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator
from pydantic.alias_generators import to_pascal

from receipt_layoutlm.data.importers.ocr_page import (
    SHARES_SIZE,
    FoundField,
    OcrPage,
    document_pages,
    field_pages,
    scaled,
)
from receipt_layoutlm.data.importers.source_page import SourceFormat, SourcePage, SourceWord
from receipt_layoutlm.data.jsonl import ReadOptions
from receipt_layoutlm.data.lines import FloatBox
from receipt_layoutlm.data.page import DataError
from receipt_layoutlm.data.source_text import RECORD, NullableText, OneOrMany, files_below, read_source, shaped

_PIECES = ("ADDRESS", "ADDRESS_BLOCK", "STREET", "CITY", "STATE", "COUNTRY", "ZIP_CODE", "NAME", "OTHER")
"""Addresses and names again, in pieces or without their role."""
_OTHERS = (
    *_PIECES,
    *("ACCOUNT_NUMBER", "AMOUNT_DUE", "AMOUNT_PAID", "CUSTOMER_NUMBER", "DELIVERY_DATE", "DUE_DATE"),
    *("INVOICE_RECEIPT_ID", "ORDER_DATE", "PAYMENT_TERMS", "PO_NUMBER", "PRIOR_BALANCE", "PRODUCT_CODE"),
    *("RECEIVER_ABN_NUMBER", "RECEIVER_ADDRESS", "RECEIVER_GST_NUMBER", "RECEIVER_NAME", "RECEIVER_PAN_NUMBER"),
    *("RECEIVER_PHONE", "RECEIVER_VAT_NUMBER", "SERVICE_CHARGE", "SHIPPING_HANDLING_CHARGE", "TAX_PAYER_ID"),
    *("VENDOR_ABN_NUMBER", "VENDOR_GST_NUMBER", "VENDOR_PAN_NUMBER", "VENDOR_VAT_NUMBER"),
)
_LABELS: dict[str, str] = {
    "VENDOR_NAME": "MERCHANT_NAME",
    "VENDOR_ADDRESS": "ADDRESS_LINE",
    "VENDOR_PHONE": "PHONE_NUMBER",
    "VENDOR_URL": "WEBSITE",
    "INVOICE_RECEIPT_DATE": "DATE",
    "TOTAL": "GRAND_TOTAL",
    "SUBTOTAL": "SUBTOTAL",
    "TAX": "TAX",
    "DISCOUNT": "DISCOUNT",
    "GRATUITY": "TIP",
    "ITEM": "PRODUCT_NAME",
    "QUANTITY": "QUANTITY",
    "UNIT_PRICE": "UNIT_PRICE",
    "PRICE": "LINE_TOTAL",
    **dict.fromkeys(_OTHERS, "O"),
}
_ROW = "EXPENSE_ROW"
_MOST_PAGES = 3000  # of a document that Textract accepts
_PASCAL = ConfigDict(**RECORD, alias_generator=to_pascal)


class BoundingBox(BaseModel):
    """Shares of the page."""

    model_config = _PASCAL

    left: float
    top: float
    width: float
    height: float

    @property
    def box(self) -> FloatBox:
        """On a page of SHARES_SIZE."""
        return scaled((self.left, self.top, self.left + self.width, self.top + self.height), SHARES_SIZE)


class Geometry(BaseModel):
    """Where a text stands; its polygon is omitted."""

    model_config = _PASCAL

    bounding_box: BoundingBox


class TextractBlock(BaseModel):
    """A word, or a line, a page, a table, of which the words are blocks too."""

    model_config = _PASCAL

    block_type: str
    text: NullableText = ""
    page: int = Field(default=1, ge=1, le=_MOST_PAGES)
    geometry: Geometry | None = None

    def word(self) -> SourceWord | None:
        """The word; None if it is no word."""
        is_word = self.block_type == "WORD" and self.geometry is not None
        return SourceWord(self.text, self.geometry.bounding_box.box) if is_word and self.geometry else None


class Detection(BaseModel):
    """A text that was found; without a place if Textract inferred it."""

    model_config = _PASCAL

    text: NullableText = ""
    geometry: Geometry | None = None


class FieldType(BaseModel):
    """The name of a field."""

    model_config = _PASCAL

    text: str


class ExpenseField(BaseModel):
    """A field of the summary or of a line item."""

    model_config = _PASCAL

    type: FieldType
    value_detection: Detection | None = None
    label_detection: Detection | None = None
    page_number: int = Field(default=1, ge=1, le=_MOST_PAGES)


class LineItem(BaseModel):
    """One row."""

    model_config = _PASCAL

    line_item_expense_fields: tuple[ExpenseField, ...] = ()


class LineItemGroup(BaseModel):
    """One table."""

    model_config = _PASCAL

    line_items: tuple[LineItem, ...] = ()


class ExpenseDocument(BaseModel):
    """One receipt or invoice."""

    model_config = _PASCAL

    summary_fields: tuple[ExpenseField, ...] = ()
    line_item_groups: tuple[LineItemGroup, ...] = ()
    blocks: tuple[TextractBlock, ...] = ()

    def fields(self) -> list[ExpenseField]:
        """Those that have a value with a place; names and addresses before their pieces."""
        rows = [
            each
            for group in self.line_item_groups
            for item in group.line_items
            for each in item.line_item_expense_fields
        ]
        fields = [each for each in (*self.summary_fields, *rows) if each.type.text != _ROW]
        placed = (each for each in fields if each.value_detection and each.value_detection.geometry)
        return sorted(placed, key=lambda each: each.type.text in _PIECES)


class Reply(BaseModel):
    """One reply."""

    model_config = _PASCAL

    blocks: tuple[TextractBlock, ...] | None = None
    expense_documents: tuple[ExpenseDocument, ...] | None = None

    @model_validator(mode="after")
    def _has_content(self) -> "Reply":
        if self.blocks is None and self.expense_documents is None:
            raise ValueError("has neither Blocks nor ExpenseDocuments, as a reply of Textract has")
        return self


class Replies(RootModel[OneOrMany[Reply]]):
    """A file: a reply, or the replies of one document that came in parts."""


def read_textract(paths: Sequence[Path], options: ReadOptions) -> Iterator[SourcePage | DataError]:
    """The pages of each file."""
    for path in files_below(paths, "*.json", "*.json.gz"):
        try:
            replies = shaped(Replies, read_source(path, options.text), path).root
        except DataError as error:
            yield error
            continue
        expenses = [expense for reply in replies for expense in reply.expense_documents or ()]
        blocks = [block for reply in replies for block in reply.blocks or ()]
        blocks += [block for expense in expenses for block in expense.blocks]
        fields = [field for expense in expenses for field in expense.fields()]
        pages = _pages(blocks, fields)
        if fields:
            yield from field_pages(path, pages, (_found(field, pages) for field in fields), options)
        else:
            yield from document_pages(path, pages, options)


def _pages(blocks: Sequence[TextractBlock], fields: Sequence[ExpenseField]) -> list[OcrPage]:
    """The words by page; of replies from before Blocks were part of an expense, the texts of the fields."""
    words = [(block.page, word) for block in blocks if (word := block.word())]
    if not words:
        words = [
            (field.page_number, SourceWord(text.text, text.geometry.bounding_box.box))
            for field in fields
            for text in (field.label_detection, field.value_detection)
            if text and text.geometry
        ]
    count = max([1, *(number for number, _ in words), *(field.page_number for field in fields)])
    return [OcrPage([word for of, word in words if of == number], SHARES_SIZE) for number in range(1, count + 1)]


def _found(field: ExpenseField, pages: Sequence[OcrPage]) -> FoundField:
    value, index = field.value_detection, field.page_number - 1
    assert value is not None and value.geometry is not None
    return FoundField(field.type.text, {index: pages[index].inside(value.geometry.bounding_box.box, value.text)})


FORMAT = SourceFormat(read_textract, _LABELS, own_labels={}, may_be_unlabelled=True)

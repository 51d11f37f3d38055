"""layoutlm-cli dataset import: pages from OCR results, document services and annotation tools."""

from typing import Any

import click

from receipt_layoutlm.cli.connection import Connection
from receipt_layoutlm.cli.dataset.import_files import (
    arrangement_options,
    import_as,
    keep_labels_option,
    source_options,
    tag_options,
    unit_option,
)


@click.command()
@keep_labels_option
@source_options
def textract(connection: Connection, **given: Any) -> None:
    """Import replies of AWS Textract: DetectDocumentText, AnalyzeDocument, AnalyzeExpense, a .json file a document.

    \b
    VENDOR_NAME             MERCHANT_NAME     ITEM          PRODUCT_NAME
    VENDOR_ADDRESS          ADDRESS_LINE      QUANTITY      QUANTITY
    VENDOR_PHONE            PHONE_NUMBER      UNIT_PRICE    UNIT_PRICE
    VENDOR_URL              WEBSITE           PRICE         LINE_TOTAL
    INVOICE_RECEIPT_DATE    DATE              SUBTOTAL      SUBTOTAL
    TOTAL                   GRAND_TOTAL       TAX           TAX
    GRATUITY                TIP               DISCOUNT      DISCOUNT

    Other types are dropped, and counted in the report. The words in the value of an expense field get its label; the
    other replies become pages without labels, to label or to predict them.
    """
    import_as(connection, "textract", **given)


@click.command()
@source_options
def paddleocr(connection: Connection, **given: Any) -> None:
    """Import PaddleOCR: results as .json, or PPOCRLabel's Label.txt with its classes (key_cls) as labels.

    \b
    [[[[x, y], [x, y], [x, y], [x, y]], ["TOTAL 3.70", 0.99]], ...]      version 2, json.dump of the result
    {"input_path": "a.jpg", "rec_texts": [...], "rec_polys": [...]}      version 3, save_to_json
    img/a.jpg<TAB>[{"transcription": ..., "points": ..., "key_cls": ...}]

    Lines are split into words in proportion to their characters. Of the images that are named only the size is read.
    Results, and a Label.txt without classes, become pages without labels.
    """
    import_as(connection, "paddleocr", keep_labels=True, **given)


@click.command()
@source_options
def doctr(connection: Connection, **given: Any) -> None:
    """Import docTR: results as .json (json.dump of result.export()), as pages without labels.

    Classes of the KIE predictor are labels.
    """
    import_as(connection, "doctr", keep_labels=True, **given)


@click.command()
@source_options
def hocr(connection: Connection, **given: Any) -> None:
    """Import hOCR, such as `tesseract scan.png scan hocr` writes it, as pages without labels."""
    import_as(connection, "hocr", keep_labels=True, **given)


@click.command()
@source_options
def alto(connection: Connection, **given: Any) -> None:
    """Import ALTO XML, such as `tesseract scan.png scan alto` writes it, as pages without labels.

    Named entities that words refer to (TAGREFS) are labels.
    """
    import_as(connection, "alto", keep_labels=True, **given)


@click.command("label-studio")
@source_options
def label_studio(connection: Connection, **given: Any) -> None:
    """Import Label Studio's JSON or JSON-MIN export: rectangles or polygons with labels and transcriptions.

    A region is one entity, and so are regions that a relation joins. Of several annotations of a task the ground truth,
    or else the newest, is read. Tasks that were not submitted are refused, or left out with --skip-bad.

    Tasks of `dataset export label-studio` come back as the same pages, with the labels, texts and boxes that were
    changed.
    """
    import_as(connection, "label-studio", keep_labels=True, **given)


@click.command()
@source_options
@unit_option
@arrangement_options
@tag_options
def hf(connection: Connection, **given: Any) -> None:
    """Import Hugging Face datasets: a folder of save_to_disk, .parquet or .arrow files.

    
    words | tokens                texts
    bboxes | boxes | bbox         as in a JSONL file
    ner_tags | labels | tags      tags, or class numbers with the names of their ClassLabel
    id | page_id, group           the page, its merchant
    image                         only its digest and size are kept

    All splits become one dataset; page ids then begin with the split. Needs pyarrow (extra hf).
    """
    import_as(connection, "hf", keep_labels=True, **given)


@click.command("document-ai")
@keep_labels_option
@source_options
def document_ai(connection: Connection, **given: Any) -> None:
    """Import documents of Google Document AI, a .json file each; entities are labels.

    
    supplier_name       MERCHANT_NAME     line_item/description    PRODUCT_NAME
    supplier_address    ADDRESS_LINE      line_item/quantity       QUANTITY
    supplier_phone      PHONE_NUMBER      line_item/unit_price     UNIT_PRICE
    receipt_date        DATE              line_item/amount         LINE_TOTAL
    purchase_time       TIME              net_amount               SUBTOTAL
    total_amount        GRAND_TOTAL       total_tax_amount         TAX
    payment_type        PAYMENT_METHOD    tip_amount               TIP

    Types of other processors need a label map, or --keep-labels. Documents without entities become pages without
    labels.
    """
    import_as(connection, "document-ai", **given)


@click.command()
@keep_labels_option
@source_options
def azure(connection: Connection, **given: Any) -> None:
    """Import results of Azure Document Intelligence, a .json file each; fields of a document are labels.

    
    MerchantName           MERCHANT_NAME     Items.Description    PRODUCT_NAME
    MerchantAddress        ADDRESS_LINE      Items.Quantity       QUANTITY
    MerchantPhoneNumber    PHONE_NUMBER      Items.Price          UNIT_PRICE
    TransactionDate        DATE              Items.TotalPrice     LINE_TOTAL
    TransactionTime        TIME              Subtotal             SUBTOTAL
    Total                  GRAND_TOTAL       TotalTax             TAX
    Tip                    TIP

    Fields of other models need a label map, or --keep-labels. Results of the read and layout models become pages
    without labels.
    """
    import_as(connection, "azure", **given)


@click.command()
@source_options
@unit_option
@arrangement_options
def doccano(connection: Connection, **given: Any) -> None:
    """Import doccano's JSONL of sequence labelling, with words and bboxes beside each text.

    
    {"text": "Corner Shop", "label": [[0, 11, "MERCHANT"]], "words": ["Corner", "Shop"], "bboxes": [...]}

    Write words and bboxes into the lines before they are imported into doccano: it exports them with the labels,
    perhaps below meta. A text alone has no layout and is refused.
    """
    import_as(connection, "doccano", keep_labels=True, **given)


IMPORTS = (textract, document_ai, azure, paddleocr, doctr, hocr, alto, label_studio, doccano, hf)

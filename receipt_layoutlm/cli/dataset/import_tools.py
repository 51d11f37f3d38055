"""layoutlm-cli dataset import: pages from OCR results, document services and annotation tools."""

from typing import Any

import click

from receipt_layoutlm.cli.connection import Connection
from receipt_layoutlm.cli.dataset.import_files import import_as, keep_labels_option, source_options


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
    or else the newest, is read. Tasks that nobody has submitted are refused, or left out with --skip-bad.

    Tasks of `dataset export label-studio` come back as the same pages, with the labels, texts and boxes that were
    changed.
    """
    import_as(connection, "label-studio", keep_labels=True, **given)


IMPORTS = (textract, paddleocr, doctr, hocr, alto, label_studio)

"""Recognises the formats of other tools, and ours, by their content, so that an error can name them and the command."""

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from receipt_layoutlm.data.importers.arrow import ARROW_FILE, ARROW_STREAM, PARQUET
from receipt_layoutlm.data.importers.sroie_folders import receipt_folders
from receipt_layoutlm.data.page import DataError
from receipt_layoutlm.data.source_text import is_leftover, parse_json, read_content

LINE_FORM = '{"id": "1", "words": ["TOTAL"], "bboxes": [[x0, y0, x1, y1]], "labels": ["B-GRAND_TOTAL"]}'
_FILES = 20  # of a folder, which are looked at
_BYTES = 8_000_000  # of a file
_CORD_COLUMN = b"ground_truth"


@dataclass(frozen=True, slots=True)
class Known:
    """A format. `importer` is the command that reads it; None if there is none."""

    name: str
    importer: str | None = None

    def text(self, path: Path) -> str:
        """The format, and what to do with a file of it."""
        if self.importer:
            # of SROIE a file alone is not imported, but the folder that holds box and key
            place = path.resolve().parent.parent if self.importer == "sroie" and path.is_file() else path
            return f"this is {self.name}: layoutlm-cli dataset import {self.importer} {shlex.quote(str(place))}"
        return f"this is {self.name}, which no command reads: convert it to JSON lines such as {LINE_FORM}"


def recognised(path: Path) -> Known | None:
    """The format of a file, or of a folder or its first files; None if it is none of these."""
    if not path.is_dir():
        return _of_file(path)
    if layout := recognised_layout(path):
        return layout
    below = (each for each in sorted(path.rglob("*")) if each.is_file() and not is_leftover(each.relative_to(path)))
    texts = (each for each in below if each.suffix.lower() not in (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".pdf"))
    return next((known for each in islice(texts, _FILES) if (known := _of_file(each))), None)


def recognised_layout(folder: Path) -> Known | None:
    """The format that the names in a folder tell, without a look into its files."""
    if not folder.is_dir():
        return None
    if receipt_folders(folder):
        return Known("a SROIE folder", "sroie")
    names = {each.name for each in folder.iterdir()}
    is_saved = {"dataset_info.json", "state.json"} <= names or "dataset_dict.json" in names
    return Known("a data set saved by Hugging Face's save_to_disk", "hf") if is_saved else None


def _of_file(path: Path) -> Known | None:
    try:
        content = read_content(path)
    except DataError:
        return None
    if content.startswith((PARQUET, ARROW_FILE, ARROW_STREAM)):
        is_cord = _CORD_COLUMN in content[-_BYTES:]
        return Known("CORD as Hugging Face has it", "cord") if is_cord else Known("a Parquet or Arrow file", "hf")
    content = content[:_BYTES]
    text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", errors="replace")
    for value in _values(text):
        if known := _of_json(value):
            return known
    return next((known for pattern, known in _TEXTS if re.search(pattern, text[:20_000])), None)


def _values(text: str) -> Iterator[object]:
    """The JSON value of a file, or of its first lines, also behind a file name and a tab; none if it is not JSON."""
    try:
        yield parse_json(text)
        return
    except ValueError:
        pass
    for line in islice((line for line in text.split("\n") if line.strip()), 3):
        name, _, value = line.rpartition("\t")
        try:
            found = parse_json(value)
        except ValueError:
            continue
        yield {"name": name, "annotations": found} if name else found


def _of_json(value: object) -> Known | None:
    if _is_paddle_result(value):
        return Known("output of PaddleOCR", "paddleocr")
    first = value[0] if isinstance(value, list) and value else value
    if not isinstance(first, dict):
        return None
    return next((known for known, is_sign in _DOCUMENTS if is_sign(first)), None)


def _is_paddle_result(value: object) -> bool:
    """Whether a JSON value is [[corners, [text, confidence]], ...], or a list of such pages."""
    for _ in range(2):
        if not isinstance(value, list) or not value or not isinstance(value[0], list):
            return False
        line = value[0]
        if len(line) == 2 and isinstance(line[0], list) and isinstance(line[1], list) and line[1]:
            return isinstance(line[1][0], str)
        value = line
    return False


def _has(*path: str) -> Callable[[dict[str, object]], bool]:
    """Whether a JSON object has a field, the field of the first object in it, and so on; alternatives by |."""

    def is_sign(document: dict[str, object]) -> bool:
        value: object = document
        for names in path:
            while isinstance(value, list) and value:
                value = value[0]
            name = next((name for name in names.split("|") if isinstance(value, dict) and name in value), None)
            if name is None or not isinstance(value, dict):
                return False
            value = value[name]
        return True

    return is_sign


def _both(*paths: tuple[str, ...]) -> Callable[[dict[str, object]], bool]:
    return lambda document: all(_has(*path)(document) for path in paths)


def _is_donut(document: dict[str, object]) -> bool:
    return "gt_parse" in str(document.get("ground_truth")) and "valid_line" not in str(document.get("ground_truth"))


def _is_doccano(document: dict[str, object]) -> bool:
    spans = next((document[name] for name in ("label", "labels", "entities") if name in document), None)
    if not isinstance(document.get("text"), str) or not isinstance(spans, list):
        return False
    return all(isinstance(span, list) or (isinstance(span, dict) and "start_offset" in span) for span in spans)


def _is_values(document: dict[str, object]) -> bool:
    return {"company", "total"} <= document.keys() <= {"company", "date", "address", "total"}


_DOCUMENTS: tuple[tuple[Known, Callable[[dict[str, object]], bool]], ...] = (
    (Known("output of AWS Textract", "textract"), _has("Blocks", "BlockType")),
    (Known("output of AWS Textract's expense analysis", "textract"), _has("ExpenseDocuments")),
    (
        Known("a document of Google Document AI", "document-ai"),
        _both(("pages", "tokens|lines|blocks|paragraphs", "layout"), ("text",)),
    ),
    (
        Known("a document of Google Document AI", "document-ai"),
        _both(("document", "pages", "layout|tokens|lines"), ("document", "text")),
    ),
    (Known("output of Google Cloud Vision"), _has("fullTextAnnotation|textAnnotations|responses")),
    (Known("a labels file of Azure Document Intelligence"), _both(("document",), ("labels", "value|label"))),
    (Known("output of Azure Document Intelligence", "azure"), _has("analyzeResult|readResults|recognitionResults")),
    (Known("output of Azure Document Intelligence", "azure"), _both(("modelId",), ("pages", "words|lines"))),
    (Known("output of docTR", "doctr"), _has("pages", "blocks", "lines", "words", "geometry")),
    (Known("output of docTR", "doctr"), _both(("pages", "dimensions"), ("pages", "blocks|predictions"))),
    (Known("output of PaddleOCR", "paddleocr"), _has("rec_texts")),
    (Known("output of PaddleOCR", "paddleocr"), _has("res", "rec_texts")),
    (Known("XFUND", "xfund"), _has("documents", "document")),
    (Known("UBIAI's export"), _both(("documentName",), ("tokens|annotation|document",))),
    (Known("Label Studio's export", "label-studio"), _has("annotations|completions|predictions", "result")),
    (
        Known("Label Studio's tasks", "label-studio"),
        _both(("data", "ocr|image|pdf|text"), ("annotations|predictions|completions",)),
    ),
    (Known("Label Studio's JSON-MIN export", "label-studio"), _both(("ocr|image",), ("bbox", "original_width"))),
    (Known("Label Studio's JSON-MIN export", "label-studio"), _both(("ocr|image",), ("label", "original_width"))),
    (Known("PaddleOCR's labels (PPOCRLabel)", "paddleocr"), _both(("name",), ("annotations", "transcription"))),
    (Known("COCO annotations"), _both(("images",), ("annotations", "image_id"))),
    (Known("CORD", "cord"), _has("valid_line")),
    (Known("CORD as Hugging Face has it", "cord"), lambda document: "valid_line" in str(document.get("ground_truth"))),
    (Known("metadata of Donut, without boxes"), _is_donut),
    (Known("FUNSD", "funsd"), _has("form", "words")),
    (Known("WildReceipt", "wildreceipt"), _both(("file_name",), ("annotations", "box"))),
    (Known("labelme annotations"), _both(("shapes", "points"), ("imagePath",))),
    (Known("VIA annotations"), _has("_via_img_metadata|_via_settings")),
    (Known("Prodigy's export, texts without boxes"), _both(("spans",), ("tokens", "start"))),
    (Known("a value file of SROIE", "sroie"), _is_values),
    (Known("doccano's export", "doccano"), _is_doccano),
    (Known("JSON lines with a page each", "jsonl"), _both(("words|tokens",), ("bboxes|boxes|bbox",))),
    (Known("doccano's export, texts without boxes"), _both(("text|data",), ("label|labels|entities",))),
)
"""Formats by the fields of their first object, in the order of trial."""

_TEXTS: tuple[tuple[str, Known], ...] = (
    (r"^level\tpage_num\tblock_num", Known("Tesseract's TSV")),
    (r"class=['\"]ocr_page|<meta name=['\"]ocr-system", Known("hOCR", "hocr")),
    (r"<alto\b|loc\.gov/standards/alto", Known("ALTO XML", "alto")),
    (r"<PcGts\b", Known("PAGE XML")),
    (r"<annotation\b[^>]*>\s*(<folder>|<filename>)", Known("Pascal VOC annotations")),
    (r"<annotations>\s*<version>", Known("CVAT's XML")),
    (r"(?m)\A(?:\d+(?: [01]?\.\d+){4}\r?\n?)+\Z", Known("YOLO's boxes, without texts")),
    (r"^\S+ -X- |^-DOCSTART-", Known("CoNLL text, words without boxes")),
    (r"(?m)\A(?:[^\t\n]+\t(?:O|[BIESbies][-_][^\t\n]+)\r?\n\s*)+", Known("UniLM's text files of words and tags")),
    (r"(?m)\A(?:[^\t\n]+\t-?\d+ -?\d+ -?\d+ -?\d+(?:\t[^\n]*)?\r?\n)+", Known("UniLM's text files of words and boxes")),
    (r"(?m)\A(?:\S+ (?:\S+ )*(?:O|[BIESbies]-\S+)\r?\n)+", Known("CoNLL text, words without boxes")),
    (r"\A(?:-?\d+,){8}[^,\n]*\D", Known("a box file of SROIE", "sroie")),
)
"""Formats by their text, in the order of trial."""

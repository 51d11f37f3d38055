"""ALTO XML, as tesseract writes it (tesseract scan.png scan alto) and archives keep it; versions 1 to 4.

    <alto xmlns="http://www.loc.gov/standards/alto/ns-v3#"><Description><MeasurementUnit>pixel</MeasurementUnit>...
      <Layout><Page WIDTH="600" HEIGHT="800"><PrintSpace><TextBlock><TextLine>
        <String CONTENT="Corner" HPOS="60" VPOS="40" WIDTH="100" HEIGHT="30" WC="0.96"/>

Boxes are in the unit of the page's width and height. The named entities of tags, <NamedEntityTag ID="t1"
LABEL="merchant"/> with TAGREFS="t1" at the words, are labels. Files that declare entities are refused.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from receipt_layoutlm.data.importers.ocr_page import OcrPage, document_pages
from receipt_layoutlm.data.importers.source_page import SourceFormat, SourcePage, SourceWord
from receipt_layoutlm.data.jsonl import ReadOptions
from receipt_layoutlm.data.page import LARGEST_EXTENT, DataError
from receipt_layoutlm.data.source_text import files_below, read_markup


def read_alto(paths: Sequence[Path], options: ReadOptions) -> Iterator[SourcePage | DataError]:
    """The pages of each file."""
    for path in files_below(paths, "*.xml", "*.alto", "*.xml.gz"):
        try:
            pages = _pages(_parsed(path, options))
        except DataError as error:
            yield error
        except ValueError as error:
            yield DataError(str(error), file=str(path))
        else:
            yield from document_pages(path, pages, options)


def _parsed(path: Path, options: ReadOptions) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(read_markup(path, options.text))
    except ElementTree.ParseError as error:
        raise DataError(f"is not XML: {error}", file=str(path), line=error.position[0]) from error
    if _name(root) != "alto":
        raise DataError(f"its root is {_name(root)}, not alto: it is no ALTO file", file=str(path))
    return root


def _name(element: ElementTree.Element) -> str:
    """The name without its namespace, which differs by version."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _pages(root: ElementTree.Element) -> list[OcrPage]:
    elements = list(root.iter())
    names = {each.get("ID", ""): each.get("LABEL", "") for each in elements if _name(each) == "NamedEntityTag"}
    return [_page(each, names) for each in elements if _name(each) == "Page"]


def _page(page: ElementTree.Element, names: dict[str, str]) -> OcrPage:
    words: list[SourceWord] = []
    entity, last = -1, ""
    for each in page.iter():
        if _name(each) == "String":
            tag = next((reference for reference in each.get("TAGREFS", "").split() if names.get(reference)), "")
            entity += bool(tag) and tag != last
            last = tag
            x, y, width, height = (_number(each, name) for name in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))
            box = (x, y, x + width, y + height)
            words.append(SourceWord(each.get("CONTENT", ""), box, names.get(tag, ""), entity if tag else -1))
    size = None
    if page.get("WIDTH") and page.get("HEIGHT"):
        size = (_number(page, "WIDTH"), _number(page, "HEIGHT"))
    return OcrPage(words, size if size and min(size) > 0 else None)


def _number(element: ElementTree.Element, name: str) -> float:
    text = element.get(name, "")
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not abs(number) <= LARGEST_EXTENT:
        shown = element.get("CONTENT") or element.get("ID") or ""
        raise ValueError(f"{name} of {_name(element)} {shown!r} is {text!r}, not a number of the page")
    return number


FORMAT = SourceFormat(read_alto, labels={}, own_labels={}, may_be_unlabelled=True)

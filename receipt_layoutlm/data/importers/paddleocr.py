"""PaddleOCR: results as JSON, and PPOCRLabel's Label.txt with its classes as labels.

    [[[[x, y], [x, y], [x, y], [x, y]], ["Shop", 0.99]], ...]            a page, or a list of such pages (version 2)
    {"input_path": "a.jpg", "page_index": null, "rec_texts": ["Shop"], "rec_polys": [[[x, y], ...]]}       (version 3)
    img/a.jpg<TAB>[{"transcription": "Shop", "points": [[x, y], ...], "difficult": false, "key_cls": "store"}]

Corners are pixels. Texts are lines, which are split into words in proportion to their characters. Without the image,
which a result of version 3 and a line of Label.txt name, the page has the extent of its boxes. Texts of ### are
illegible and omitted. Each text with a class of its own is one entity; the class None is no label.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, RootModel, model_validator

from receipt_layoutlm.data.images import image_size
from receipt_layoutlm.data.importers.ocr_page import OcrPage, document_pages
from receipt_layoutlm.data.importers.source_page import SourceFormat, SourcePage, SourceWord
from receipt_layoutlm.data.jsonl import ReadOptions
from receipt_layoutlm.data.lines import FloatBox, bounds
from receipt_layoutlm.data.page import UNSUPERVISED, DataError
from receipt_layoutlm.data.source_text import (
    RECORD,
    NullableText,
    OneOrMany,
    files_below,
    numbered_lines,
    parse_json,
    read_source,
    shaped,
)

_ILLEGIBLE = frozenset(("###", "*"))
_NO_CLASS = "None"


def _corners(value: object) -> FloatBox:
    numbers: list[Any] = []
    for item in value if isinstance(value, list) else []:
        numbers += item if isinstance(item, list) else [item]
    if len(numbers) < 4 or len(numbers) % 2 or not all(type(number) in (int, float) for number in numbers):
        raise ValueError("is not a box of corners [[x, y], ...]")
    return bounds([float(number) for number in numbers])


Corners = Annotated[FloatBox, BeforeValidator(_corners)]
Recognised = Annotated[str, BeforeValidator(lambda value: value[0] if isinstance(value, list) and value else value)]
"""A text with its confidence, of which the text is kept."""


class Results(RootModel[tuple[tuple[tuple[Corners, Recognised], ...], ...]]):
    """Pages of version 2; a page without text is null."""

    @model_validator(mode="before")
    @classmethod
    def _as_pages(cls, value: object) -> object:
        pages: list[Any] = value if isinstance(value, list) else [value]
        try:
            is_page = isinstance(pages[0][0][0][0], int | float | list) and isinstance(pages[0][1][0], str)
        except (IndexError, TypeError, KeyError):
            is_page = False
        return [page or [] for page in ([pages] if is_page else pages)]


class PaddleResult(BaseModel):
    """A page of version 3."""

    model_config = RECORD

    input_path: str | None = None
    rec_texts: tuple[NullableText, ...]
    rec_polys: tuple[Corners, ...] | None = None
    rec_boxes: tuple[Corners, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _unwrapped(cls, value: object) -> object:
        return value["res"] if isinstance(value, dict) and isinstance(value.get("res"), dict) else value

    @model_validator(mode="after")
    def _one_box_each(self) -> "PaddleResult":
        boxes = self.boxes()
        if len(boxes) != len(self.rec_texts):
            raise ValueError(
                f"{len(self.rec_texts)} rec_texts, {len(boxes)} boxes in rec_polys or rec_boxes: need one each"
            )
        return self

    def boxes(self) -> tuple[FloatBox, ...]:
        """One for each text."""
        return self.rec_polys or self.rec_boxes or ()


class PaddleResults(RootModel[OneOrMany[PaddleResult]]):
    """A file of version 3: a page, or a list of them."""


class LabelledText(BaseModel):
    """A text of PPOCRLabel."""

    model_config = RECORD

    transcription: NullableText
    points: Corners
    key_cls: NullableText = _NO_CLASS


class LabelledTexts(RootModel[tuple[LabelledText, ...]]):
    """A line of Label.txt, behind its image."""


def read_paddleocr(paths: Sequence[Path], options: ReadOptions) -> Iterator[SourcePage | DataError]:
    """The pages of each file; of a folder, of its Label.txt or else of its .json files."""
    for path in files_below(paths, "Label.txt", "*.json", "*.json.gz"):
        try:
            text = read_source(path, options.text)
            if not text.lstrip().startswith(("[", "{")):
                yield from _of_labels(path, options)
            elif _is_result(parse_json(text)):
                yield from _of_results(path, shaped(PaddleResults, text, path).root, options)
            else:
                pages = [[SourceWord(text, box) for box, text in page] for page in shaped(Results, text, path).root]
                yield from document_pages(path, [OcrPage(words, None) for words in pages], options)
        except DataError as error:
            yield error
        except ValueError as error:
            yield DataError(f"is not JSON: {error}", file=str(path))


def _is_result(value: object) -> bool:
    return isinstance(value[0] if isinstance(value, list) and value else value, dict)


def _of_results(path: Path, results: Sequence[PaddleResult], options: ReadOptions) -> Iterator[SourcePage | DataError]:
    pages = []
    for result in results:
        words = [SourceWord(text, box) for text, box in zip(result.rec_texts, result.boxes(), strict=True)]
        image = Path(result.input_path) if result.input_path else path
        size = _size(path.parent / image.name) or _size(image)
        pages.append(OcrPage(words, size))
    return document_pages(path, pages, options)


def _size(image: Path) -> tuple[float, float] | None:
    return image_size(image) if image.is_file() else None


def _of_labels(path: Path, options: ReadOptions) -> Iterator[SourcePage | DataError]:
    """A page for each line; words without a class are unlabelled if no text of the file has a class."""
    pages: list[tuple[int, str, list[SourceWord]]] = []
    for number, line in numbered_lines(path, options.text):
        image, tab, texts = line.partition("\t")
        try:
            if not tab:
                reason = "is not an image, a tab and a list of texts, as a line of Label.txt"
                raise DataError(reason, file=str(path), line=number)
            labelled = shaped(LabelledTexts, texts, path, number).root
        except DataError as error:
            yield error
            continue
        words = [
            SourceWord(each.transcription, each.points, "" if each.key_cls == _NO_CLASS else each.key_cls, entity)
            for entity, each in enumerate(labelled)
            if each.transcription not in _ILLEGIBLE
        ]
        pages.append((number, image, words))
    no_label = "" if any(word.label for *_, words in pages for word in words) else UNSUPERVISED
    for number, image, words in pages:
        places = (path.parent.parent / image, path.parent / image, path.parent / Path(image).name)
        size = next((size for place in places if (size := _size(place))), None)
        name = str(Path(image).with_suffix(""))
        yield from document_pages(path, [OcrPage(words, size)], options, name, number, no_label)


FORMAT = SourceFormat(read_paddleocr, labels={}, own_labels={}, may_be_unlabelled=True)

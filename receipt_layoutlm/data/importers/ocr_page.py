"""Pages of OCR results: words or lines with boxes, and the fields that a service found among them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from receipt_layoutlm.data.importers.source_page import SourcePage, SourceWord, ValueMatch, extent, in_order
from receipt_layoutlm.data.jsonl import ReadOptions
from receipt_layoutlm.data.lines import FloatBox, split_line
from receipt_layoutlm.data.page import LARGEST_EXTENT, PAGE_EXTENT, UNSUPERVISED, DataError

SHARES_SIZE = (float(PAGE_EXTENT), float(PAGE_EXTENT))
"""The size of a page whose boxes are shares and whose pixels are not known."""

_SLACK = 0.002  # of the page, by which the centre of a word may lie outside of its field


@dataclass(frozen=True, slots=True)
class OcrPage:
    """One page of a document; a word's text may be a whole line. Boxes are in the unit of `size`.

    Without a size the page ends where its boxes end.
    """

    words: Sequence[SourceWord]
    size: tuple[float, float] | None
    matches: tuple[ValueMatch, ...] = ()

    def inside(self, box: FloatBox, text: str) -> tuple[int, ...]:
        """The indices of the words whose centre lies in a box and which the text has; all in the box if it is blank."""
        width, height = self.size or SHARES_SIZE
        x0, y0, x1, y1 = box
        slack_x, slack_y = width * _SLACK, height * _SLACK
        return tuple(
            index
            for index, word in enumerate(self.words)
            if x0 - slack_x <= (word.box[0] + word.box[2]) / 2 <= x1 + slack_x
            and y0 - slack_y <= (word.box[1] + word.box[3]) / 2 <= y1 + slack_y
            and (not text.strip() or word.text.strip() in text)
        )


@dataclass(frozen=True, slots=True)
class FoundField:
    """A field that a service found: its label, and the indices of its words by the page's index."""

    label: str
    words: Mapping[int, Sequence[int]]


def is_near(box: FloatBox) -> bool:
    """Whether the values of a box can be those of a page, in any unit."""
    return all(abs(value) <= LARGEST_EXTENT for value in box)


def scaled(box: FloatBox, size: tuple[float, float]) -> FloatBox:
    """A box in shares of the page, in the unit of the size."""
    width, height = size
    return box[0] * width, box[1] * height, box[2] * width, box[3] * height


def field_pages(
    path: Path, pages: Sequence[OcrPage], fields: Iterable[FoundField], options: ReadOptions
) -> Iterator[SourcePage | DataError]:
    """The pages of a document with the fields as labels; of several fields with the same word the first has it."""
    words = [list(page.words) for page in pages]
    matches: list[list[ValueMatch]] = [[] for _ in pages]
    for entity, found in enumerate(fields if pages else ()):
        if not any(found.words.values()):
            matches[min(found.words, default=0)].append(ValueMatch(found.label, "missing"))
        for index, places in found.words.items():
            if places:
                matches[index].append(ValueMatch(found.label, "exact"))
            for place in places:
                if not words[index][place].label:
                    words[index][place] = replace(words[index][place], label=found.label, entity=entity)
    labelled = (
        replace(page, words=of_page, matches=tuple(found))
        for page, of_page, found in zip(pages, words, matches, strict=True)
    )
    return document_pages(path, list(labelled), options)


def document_pages(
    path: Path,
    pages: Sequence[OcrPage],
    options: ReadOptions,
    name: str | None = None,
    line: int | None = None,
    no_label: str | None = None,
) -> Iterator[SourcePage | DataError]:
    """The pages of a document, named after its file or `name`, with #2 and so on for further pages; one group.

    Words without a label get `no_label`: by default they are unlabelled if no word of the document has a label. Pages
    without words are left out with a note.
    """
    name = Path(path.name.removesuffix(".gz")).stem if name is None else name
    if no_label is None:
        no_label = "" if any(word.label for page in pages for word in page.words) else UNSUPERVISED
    if not any(word.text.strip() for page in pages for word in page.words):
        yield DataError("no text was found: it has no words", file=str(path), line=line)
        return
    if far := next((word for page in pages for word in page.words if not is_near(word.box)), None):
        yield DataError(f"the box of {far.text!r} is {far.box}, no place on a page", file=str(path), line=line)
        return
    if not all(any(word.text.strip() for word in page.words) for page in pages):
        options.text.note("pages without words are left out")
    for number, page in enumerate(pages, start=1):
        words = [
            replace(word, text=text, box=box, label=word.label or no_label)
            for word in page.words
            for text, box in split_line(word.text, word.box)
        ]
        if not words:
            continue
        width, height = page.size or extent(word.box for word in words)
        yield SourcePage(
            file=str(path),
            line=line,
            page_id=name if number == 1 else f"{name}#{number}",
            group=name,
            words=in_order(words, (width, height), options.order),
            scale=(width, height),
            width=max(1, round(width)),
            height=max(1, round(height)),
            blank=sum(not word.text.strip() for word in page.words),
            matches=page.matches,
            is_size_guessed=page.size is None,
            order=options.order,
        )

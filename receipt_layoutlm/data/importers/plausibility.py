"""Refuses an import whose pages are certainly not what the files mean: no labels, values not found, garbled texts."""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from receipt_layoutlm.data.importers.matches import Matches
from receipt_layoutlm.data.importers.source_page import SourcePage
from receipt_layoutlm.data.labels import OUTSIDE
from receipt_layoutlm.data.page import PAGE_EXTENT, UNSUPERVISED, DataError, Page

_CORNER = 0.5  # of width and height of the image
_WORDS, _PAGES = 20, 3  # of an import; fewer prove nothing
_END = 0.8  # of the page, which its lowest or rightmost text reaches
_FOUND = 0.5  # least share of the values given that is found
_ACCENTED_RUN = re.compile(r"[\u00a1-\u00ff]{3}")  # no language has three accented letters in a row as a rule
_GARBLED = 0.5  # of the words with letters beyond ASCII
_MANY, _MANY_SHARE = 3, 0.02  # words, or share of all words; a single one may be a slip of OCR
_FINALS = "\u05da\u05dd\u05df\u05e3\u05e5\u0629\u0649"  # of Hebrew and Arabic, at the end of words only
_SHOWN = 3


def refuse_unlabelled(pages: Iterable[Page]) -> None:
    """Raises DataError if no word of the pages has a label."""
    if not any(tag not in (OUTSIDE, UNSUPERVISED) for page in pages for tag in page.tags):
        raise DataError("no word of these pages has a label: nothing can be learned; --unlabelled imports them anyway")


def refuse_unfound(matches: Mapping[str, Matches]) -> None:
    """Raises DataError if under half of the values that are given for pages are found among the words."""
    given = sum(match.given for match in matches.values())
    found = {name: match.exact + match.approximate for name, match in matches.items()}
    if sum(found.values()) < _FOUND * given:
        counts = ", ".join(f"{name} {found[name]} of {match.given}" for name, match in matches.items())
        raise DataError(
            f"only {sum(found.values())} of {given} values are found among the words of their pages ({counts}): "
            "the values belong to other pages, or the texts are in another encoding or order than they seem; "
            'a label map with {"company": "O"} leaves a value out'
        )


def refuse_corner(sources: Sequence[SourcePage]) -> None:
    """Raises DataError if boxes that should be pixels are percent or thousandths of the page, and so fill a corner."""
    pages = [source for source in sources if source.words and not source.is_size_guessed]
    if sum(len(page.words) for page in pages) < _WORDS or len(pages) < len(sources):
        return
    reaches = [[max(word.box[axis] for word in page.words) for axis in (2, 3)] for page in pages]
    filled = [max(x / page.scale[0], y / page.scale[1]) for page, (x, y) in zip(pages, reaches, strict=True)]
    if max(filled) > _CORNER:
        return
    ends = [max(reach) for reach in reaches]
    is_percent = max(ends) <= 100
    if is_percent or (len(ends) >= _PAGES and max(ends) <= PAGE_EXTENT and min(ends) >= _END * PAGE_EXTENT):
        unit = "percent" if is_percent else "thousandths"
        raise DataError(
            f"no value of a box is above {max(ends):g}, which puts all words into a corner of the images: the boxes "
            f"seem to be {unit} of the page: write pixels, or leave the images out, and the extent of the boxes counts"
        )


def refuse_garbled(pages: Sequence[Page]) -> None:
    """Raises DataError if most texts beyond ASCII were read in a wrong encoding or are written backwards."""
    foreign = [(page, word) for page in pages for word in page.words if not word.isascii()]
    backwards = [word for _, word in foreign if word[0] in _FINALS and len(word) > 1]
    if _are_many(backwards, pages) and len(backwards) > sum(
        word[-1] in _FINALS and len(word) > 1 for _, word in foreign
    ):
        raise DataError(
            f"words are written backwards, such as {backwards[0]!r}: they begin with a final letter. Bring the letters "
            "of right-to-left words in the order in which they are read"
        )
    letters = [(page, word) for page, word in foreign if any(map(str.isalpha, word)) or "\ufffd" in word]
    garbled = [(page, word) for page, word in letters if _is_garbled(word)]
    if _are_many(garbled, pages) and len(garbled) > _GARBLED * len(letters):
        examples = ", ".join(repr(word) for _, word in garbled[:_SHOWN])
        meant = _decoded_twice(garbled[0][1])
        raise DataError(
            f"{len(garbled)} of {len(letters)} words beyond ASCII are garbled, such as {examples} on page "
            f"{garbled[0][0].page_id}"
            + (f" for {meant!r}" if meant else "")
            + ": the file was converted in a wrong encoding; bring the original (--encoding names its encoding)"
        )


def _are_many(words: Sequence[object], pages: Sequence[Page]) -> bool:
    return len(words) >= _MANY or len(words) >= _MANY_SHARE * sum(len(page.words) for page in pages)


def _is_garbled(word: str) -> bool:
    return "\ufffd" in word or bool(_ACCENTED_RUN.search(word)) or _decoded_twice(word) is not None


def _decoded_twice(word: str) -> str | None:
    """What a word was before its UTF-8 was read as a single-byte encoding; None if it never was."""
    for encoding in ("cp1252", "latin-1"):
        with suppress(UnicodeError):
            return word.encode(encoding).decode("utf-8")
    return None

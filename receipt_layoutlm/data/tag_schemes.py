"""Tag schemes of source files: BIO, IOBES, BILOU, bare labels and class numbers become labels and entities.

| scheme | tags | entities |
|---|---|---|
| bio | B-X, I-X | an I-X that continues nothing begins an entity, so that IOB1 and IO are read too |
| iobes | and E-X, S-X; M-X for I-X, W-X for S-X | S-X is an entity of one word, E-X the end of one |
| bilou | and L-X, U-X | likewise |
| bare | X | adjacent words with one label are one entity |

Prefixes may be in lower case and end in "-", another dash, "_", ":", "." or a space, or be spelled out (BEGIN-X,
INSIDE-X) if all of the file are. O, o, "" and null are no label; so are words such as OUTSIDE, other or none among tags
with a prefix. "-" and -100 are unlabelled.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from json import JSONDecodeError
from pathlib import Path

from receipt_layoutlm.data.page import UNSUPERVISED, DataError
from receipt_layoutlm.data.source_text import parse_json, read_source

Tag = str | int | None
"""A tag as it stands in a file."""

Label = tuple[int, str]
"""The number of an entity on its page, and its label; (-1, "") for none, (-1, UNSUPERVISED) for an unlabelled word."""

_NONE = (-1, "")
_UNLABELLED = (-1, UNSUPERVISED)
_OUTSIDE = {"O", "o"}
_NO_ENTITY = frozenset(
    ("other", "others", "none", "null", "nan", "na", "n/a", "nothing", "no_label", "outside", "out", "background", "_")
)
_IGNORED = {UNSUPERVISED, "-100"}  # the second as torch ignores targets
_PREFIXED = re.compile(r"([BIESMLUWbiesmluw])([-_:. \u2010-\u2015\u2212])(.+)")
_SPELLED = {
    **dict.fromkeys(("BEGIN", "BEG"), "B"),
    **dict.fromkeys(("INSIDE", "IN", "INTERMEDIATE", "MIDDLE", "MID"), "I"),
    **dict.fromkeys(("END", "LAST"), "E"),
    **dict.fromkeys(("SINGLE", "SINGLETON", "UNIT", "WHOLE"), "S"),
}
_WORDS = "|".join(sorted(_SPELLED, key=len, reverse=True))
_SPELLED_PREFIX = re.compile(rf"({_WORDS})[-_:. ](.+)", re.IGNORECASE)
_CERTAIN = {"BEGIN", "BEG", "INSIDE"}  # UNIT_PRICE, LAST_NAME or END_DATE are labels
_SUFFIXED = re.compile(rf"(.+)[-_:.]([BIESLU]|(?:{_WORDS}))")
_CLASS = re.compile(r"-?\d+")
_PLACEHOLDER = re.compile(r"LABEL_\d+")  # of transformers, for a model without names
_SHOWN = 64  # characters of a tag


class TagScheme(StrEnum):
    """How tags mark entities."""

    BIO = "bio"
    IOBES = "iobes"
    BILOU = "bilou"
    BARE = "bare"


_PREFIXES = {TagScheme.BIO: "BI", TagScheme.IOBES: "BIESMW", TagScheme.BILOU: "BILU"}
_BEGINS, _ENDS = "BSUW", "ESLUW"


@dataclass(frozen=True, slots=True)
class TagOptions:
    """How to read the tags of a file; None: as the file's tags tell. `id2label` names class numbers."""

    scheme: TagScheme | None = None
    id2label: dict[int, str] | None = None


@dataclass(frozen=True, slots=True)
class TagReading:
    """The scheme of a file's tags, and the names of its class numbers."""

    scheme: TagScheme
    names: dict[int, str] | None = None
    separators: frozenset[str] = frozenset("-")
    rewritten: Mapping[str, str] = field(default_factory=dict)
    """Tags that are spelled otherwise -> their form in the scheme."""

    @property
    def text(self) -> str:
        """For the report of an import, "" for the documented scheme."""
        if self == TagReading(TagScheme.BIO):
            return ""
        outside = sorted(tag for tag, form in self.rewritten.items() if form in _OUTSIDE)
        return (
            f"tags read as {self.scheme.upper()}"
            + (" of class numbers" if self.names else "")
            + (f", {', '.join(map(repr, outside))} as O" if outside else "")
        )

    def labels(self, tags: Sequence[Tag]) -> list[Label]:
        """The label and entity of each tag. ValueError for the first tag that is none of the scheme."""
        labels: list[Label] = []
        entity, is_open = 0, ""
        for index, given in enumerate(tags):
            tag = self._named(index, given)
            if tag in _OUTSIDE or tag in _IGNORED:
                labels.append(_UNLABELLED if tag in _IGNORED else _NONE)
                is_open = ""
                continue
            prefix, label = ("I", tag) if self.scheme is TagScheme.BARE else self._split(index, tag)
            entity += prefix in _BEGINS or is_open != label
            labels.append((entity, label))
            is_open = "" if prefix in _ENDS else label
        return labels

    def _named(self, index: int, tag: Tag) -> str:
        text = _text(tag)
        if self.names is not None and text not in _IGNORED and _CLASS.fullmatch(text):
            if int(text) not in self.names:
                raise ValueError(f"tag {index}: class {text} has no name: add it to --id2label")
            text = self.names[int(text)].strip()
        return self.rewritten.get(text, text)

    def _split(self, index: int, tag: str) -> tuple[str, str]:
        match = _PREFIXED.fullmatch(tag)
        if not match or match[2] not in self.separators or match[1].upper() not in _PREFIXES[self.scheme]:
            label = match[3] if match else re.sub(r"^.?-+|[-\s]+$", "", tag)
            mark = match[1].upper() if match and match[1].upper() in _PREFIXES[self.scheme] else "B"
            remedy = f"write {mark}-{_cut(label)}" if label else "write O, B-LABEL or I-LABEL"
            remedy += "" if match or not label else ", or O if it is no entity"
            raise ValueError(
                f"tag {index} {_cut(tag)!r} is not {self.scheme.upper()}: {remedy} ({UNSUPERVISED} if unlabelled)"
            )
        return match[1].upper(), match[3].strip()


def _text(tag: Tag) -> str:
    return "O" if tag is None else str(tag).strip() or "O"


def _cut(tag: str) -> str:
    return tag if len(tag) <= _SHOWN else f"{tag[:_SHOWN]}…"


def read_tags(pages: Sequence[tuple[int, Sequence[Tag]]], asked: TagOptions, file: str) -> TagReading:
    """The scheme of the tags of a file's pages, each with its line. Raises DataError if they need an option."""
    given = {_text(tag) for _, page in pages for tag in page} - _IGNORED
    classes = {int(tag) for tag in given if _CLASS.fullmatch(tag)}
    names = asked.id2label
    if classes == {0} and len(given) > 1:
        classes = set()  # a zero for the letter O
    if classes and names is None and asked.scheme is not TagScheme.BARE:
        raise DataError(
            f"the tags are class numbers {min(classes)}..{max(classes)}: name them with --id2label FILE (or the JSON "
            'itself), a list of the classes, {"0": "O", "1": "B-LABEL"} or a model\'s config.json',
            file=file,
            line=next(line for line, page in pages if any(_CLASS.fullmatch(_text(tag)) for tag in page)),
        )
    if classes and names:
        given = {tag for tag in given if not _CLASS.fullmatch(tag)} | {names[each] for each in classes if each in names}
    spelled = _spelled(given)
    given = {spelled.get(tag, tag) for tag in given}
    outside = {tag: "O" for tag in given if is_no_entity(tag) or tag == "0"}
    tags = given - _OUTSIDE - outside.keys()
    prefixed = [match for tag in tags if (match := _PREFIXED.fullmatch(tag))]
    separators = _separators(prefixed)
    used = {match[1].upper() for match in prefixed if match[2] in separators}
    if asked.scheme is TagScheme.BARE:
        return TagReading(asked.scheme, names, rewritten={tag: form for tag, form in outside.items() if tag == "0"})
    rewritten = spelled | (outside if prefixed else {})
    if asked.scheme:
        return TagReading(asked.scheme, names, separators, rewritten)
    ends = [match for tag in tags if (match := _SUFFIXED.fullmatch(tag))]
    if {"B", "BEGIN", "BEG"} & {match[2] for match in ends} and len(ends) == len(tags):
        first = min(ends, key=lambda match: match[0])
        form = f"{_SPELLED.get(first[2], first[2])}-{_cut(first[1])}"
        raise DataError(f"the tags end in their mark, such as {_cut(first[0])!r}: write {form}", file=file)
    with_prefix = sum(match[2] in separators for match in prefixed)
    if tags and 2 * with_prefix < len(tags):  # a bare label such as E-MAIL may look prefixed
        example = min(tags, key=lambda tag: (len(tag) > _SHOWN, tag))
        raise DataError(
            f"the tags are bare labels such as {_cut(example)!r}, without B- and I-: --tags bare reads adjacent words "
            "with one label as one entity; where two of a label may be adjacent, write B- at the first word of each",
            file=file,
        )
    if used & {"L", "U"}:
        return TagReading(TagScheme.BILOU, names, separators, rewritten)
    scheme = TagScheme.IOBES if used & set("ESMW") else TagScheme.BIO
    return TagReading(scheme, names, separators, rewritten)


def is_no_entity(name: str) -> bool:
    """Whether a tag or label is a word for words without a label."""
    return name.casefold() in _NO_ENTITY


def _spelled(tags: Iterable[str]) -> dict[str, str]:
    """The tags whose prefix is spelled out, with the letter in its place; none unless all tags are of this kind."""
    entities = [tag for tag in tags if tag not in _OUTSIDE and not is_no_entity(tag)]
    matches = [match for tag in entities if (match := _SPELLED_PREFIX.fullmatch(tag))]
    if len(matches) < len(entities) or _CERTAIN.isdisjoint(match[1].upper() for match in matches):
        return {}
    return {match[0]: f"{_SPELLED[match[1].upper()]}-{match[2]}" for match in matches}


def _separators(prefixed: Iterable[re.Match[str]]) -> frozenset[str]:
    """ "-" if a tag has it, else what the tags have: I_TEM beside B-TEM is no tag, but a bare label."""
    used = {match[2] for match in prefixed}
    return frozenset({"-"} if "-" in used or not used else used)


def parse_id2label(text: str) -> dict[int, str]:
    """Names of class numbers from JSON or a file of it: a list, an object either way round, a model's config.

    Raises DataError.
    """
    is_file = text.lstrip()[:1] not in ("{", "[")
    place = text if is_file else "--id2label"
    try:
        content = read_source(Path(text)) if is_file else text
        value = parse_json(content)
    except JSONDecodeError as error:
        value = content.split()  # a name a line, as UniLM's labels.txt
        if not is_file or "O" not in value:
            raise DataError(f"is not JSON: {error}", file=place) from error
    names = class_names(value)
    if names is None:
        raise DataError('names no classes: write ["O", "B-LABEL"] or {"0": "O", "1": "B-LABEL"}', file=place)
    if all(_PLACEHOLDER.fullmatch(name) for name in names.values()):
        raise DataError("has only placeholders such as LABEL_0: write the names of the classes", file=place)
    return names


def class_names(value: object) -> dict[int, str] | None:
    """The names of class numbers in a JSON value; None if it names none."""
    if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
        return dict(enumerate(value))
    if not isinstance(value, dict) or not value:
        return None
    if all(_CLASS.fullmatch(key) and isinstance(name, str) for key, name in value.items()):
        return {int(key): name for key, name in value.items()}
    if all(type(number) is int for number in value.values()):
        return {number: name for name, number in value.items()}
    return class_names(value.get("id2label")) or class_label_names(value)


def class_label_names(value: object) -> dict[int, str] | None:
    """The names of the largest ClassLabel of Hugging Face features, wherever it is in a JSON value."""
    if isinstance(value, dict) and value.get("_type") == "ClassLabel":
        return class_names(value.get("names"))
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    found = [names for item in inner if isinstance(item, dict | list) and (names := class_label_names(item))]
    return max(found, key=len, default=None)

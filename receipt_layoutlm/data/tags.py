"""Entities in a sequence of IOB2 tags, and the tags of entities."""

from collections.abc import Sequence
from typing import NamedTuple

from receipt_layoutlm.data.labels import OUTSIDE
from receipt_layoutlm.data.page import UNSUPERVISED


class Entity(NamedTuple):
    """The words `begin` to `end` (exclusive) of a page."""

    label: str
    begin: int
    end: int


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of a page by strict IOB2, in order: B-X and the I-X right after it; any other I-X is ignored."""
    spans = []
    for begin, tag in enumerate(tags):
        if tag[0] == "B":
            inside, end = f"I-{tag[2:]}", begin + 1
            while end < len(tags) and tags[end] == inside:
                end += 1
            spans.append(Entity(tag[2:], begin, end))
    return spans


def label_of(tag: str) -> str:
    """The label of a tag: O, or what follows B- or I-."""
    return tag if tag == OUTSIDE else tag[2:]


def labelled(true: Sequence[str], tags: Sequence[str]) -> Sequence[str]:
    """The tags of a page with O for words whose true tag is unlabelled."""
    if UNSUPERVISED not in true:
        return tags
    return [OUTSIDE if truth == UNSUPERVISED else tag for truth, tag in zip(true, tags, strict=True)]


def iob2(labels: Sequence[tuple[int, str] | str]) -> tuple[str, ...]:
    """The tags of words that each have an entity's number and label, or else a tag without a label.

    An entity that others interrupt, or whose label changes, begins anew.
    """
    tags: list[str] = []
    previous: tuple[int, str] | str | None = None
    for current in labels:
        tags.append(current if isinstance(current, str) else f"{'I' if current == previous else 'B'}-{current[1]}")
        previous = current
    return tuple(tags)

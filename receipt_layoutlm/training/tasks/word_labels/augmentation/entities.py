"""Entity augmentation: replaces merchants, addresses, dates etc. by entities of other training pages.

The new entity has the label of the old one. Its words are distributed over the printed lines of the old one, and each
line is stretched as far as there is room. Unlabelled repetitions of the old text on the page are replaced as well.
"""

import random
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from receipt_layoutlm.data.page import Box, Page
from receipt_layoutlm.data.tags import Entity, entities
from receipt_layoutlm.training.tasks.word_labels.augmentation.amounts import is_amount
from receipt_layoutlm.training.tasks.word_labels.augmentation.lines import (
    hull,
    printed_pieces,
    room,
    set_text,
    usual_anchor,
)
from receipt_layoutlm.training.tasks.word_labels.inputs.sampling import pick

Words = tuple[str, ...]
Pool = Mapping[str, Mapping[int, Sequence[Words]]]
"""Distinct entities by label and by the number of printed lines they take."""

_KEPT = frozenset({"QUANTITY"})  # quantity times unit price is an amount
_EXCHANGED = 0.6  # fraction of the distinct entities of a page
_GENERATED = 0.25  # fraction of those replaced by generated ones, if the label has any
_DISTINCTIVE = 5  # minimum characters for an equal unlabelled text to count as a repetition


@dataclass(frozen=True, slots=True)
class Donors:
    """Replacement entities: of the training set, and of generated receipts."""

    own: Pool
    generated: Pool


def donors_of(own: Iterable[Page], generated: Iterable[Page]) -> Donors:
    """`own` must be the training set alone: training may see nothing of the validation set."""
    return Donors(_pool(own), _pool(generated))


def _pool(pages: Iterable[Page]) -> Pool:
    pool: dict[str, dict[int, set[Words]]] = {}
    for page in pages:
        for entity in entities(page.tags):
            words = page.words[entity.begin : entity.end]
            if _may_change(entity.label, words):
                lines = len(printed_pieces(page.boxes, entity.begin, entity.end))
                pool.setdefault(entity.label, {}).setdefault(lines, set()).add(words)
    return {
        label: {lines: sorted(texts) for lines, texts in sorted(by_lines.items())} for label, by_lines in pool.items()
    }


def _may_change(label: str, words: Words) -> bool:
    return label not in _KEPT and not any(is_amount(word, label) for word in words)


def other_entities(page: Page, donors: Donors, draw: random.Random) -> Page:
    """Replace some entities of the page, equal ones by equal ones. Amounts and quantities stay."""
    donor_of: dict[tuple[str, Words], Words | None] = {}
    for entity in entities(page.tags):
        text = page.words[entity.begin : entity.end]
        if (entity.label, text) not in donor_of:
            donor_of[entity.label, text] = _donor(page, entity, text, donors, draw)
    places = {place: new for (label, old), new in donor_of.items() if new for place in _places(page, label, old)}
    words, boxes, tags = list(page.words), list(page.boxes), list(page.tags)
    changed_from = len(words)  # last place first, so that the positions before it stay valid
    for place, new in sorted(places.items(), key=lambda item: (-item[0].end, item[0])):
        if place.end <= changed_from:
            changed_from = place.begin
            inside = slice(place.begin, place.end)
            boxes[inside] = _boxes_of(words, boxes, place, new)
            words[inside], tags[inside] = new, _tags(place.label, len(new))
    return replace(page, words=tuple(words), boxes=tuple(boxes), tags=tuple(tags))


def _donor(page: Page, entity: Entity, words: Words, donors: Donors, draw: random.Random) -> Words | None:
    """The replacement of an entity, preferably of as many printed lines; None to keep the entity."""
    exchange, generate = draw.random() < _EXCHANGED, draw.random() < _GENERATED
    if not exchange or not _may_change(entity.label, words):
        return None
    pool = donors.generated if generate and entity.label in donors.generated else donors.own
    if not (by_lines := pool.get(entity.label)):
        return None
    lines = len(printed_pieces(page.boxes, entity.begin, entity.end))
    return pick(by_lines.get(lines) or [text for texts in by_lines.values() for text in texts], draw)


def _places(page: Page, label: str, words: Words) -> Iterator[Entity]:
    """Occurrences of these words as an entity of the label, or unlabelled (label O)."""
    for begin, word in enumerate(page.words[: len(page.words) - len(words) + 1]):
        end = begin + len(words)
        if word != words[0] or page.words[begin:end] != words:
            continue
        tags = page.tags[begin:end]
        if set(tags) == {"O"} and sum(map(len, words)) >= _DISTINCTIVE:
            yield Entity("O", begin, end)
        elif tags == _tags(label, len(words)) and page.tags[end : end + 1] != (f"I-{label}",):
            yield Entity(label, begin, end)


def _tags(label: str, count: int) -> tuple[str, ...]:
    return ("O",) * count if label == "O" else (f"B-{label}", *(f"I-{label}",) * (count - 1))


def _boxes_of(words: Sequence[str], boxes: Sequence[Box], place: Entity, new: Words) -> list[Box]:
    """Boxes of the new words in the printed lines of the old ones."""
    pieces = printed_pieces(boxes, place.begin, place.end)
    old = [" ".join(words[piece.start : piece.stop]) for piece in pieces]
    new_boxes: list[Box] = []
    for piece, text, line in zip(pieces, old, shared_out(new, [len(text) for text in old]), strict=True):
        if line:
            box = hull(boxes[piece.start : piece.stop])
            if boxes.count(box) > 1:  # words of a line that share its box
                new_boxes += [box] * len(line)
                continue
            new_boxes += set_text(text, " ".join(line), box, room(boxes, piece), usual_anchor(box))
    return new_boxes


def shared_out(words: Words, capacities: Sequence[int]) -> list[Words]:
    """Distribute the words over lines, in order and proportional to the lines' characters; a line may stay empty."""
    upto = [0, *accumulate(len(word) + 1 for word in words)]
    scale = upto[-1] / sum(capacities)
    ends = [scale * end for end in accumulate(capacities)][:-1]
    line_of = [bisect_right(ends, (begin + end) / 2) for begin, end in pairwise(upto)]
    return [
        tuple(word for word, at in zip(words, line_of, strict=True) if at == line) for line in range(len(capacities))
    ]

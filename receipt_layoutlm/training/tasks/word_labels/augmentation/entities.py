"""Other merchants, addresses and dates on a page: its entities exchanged for those of other pages of the training part.

An entity takes the place of another of its label: its words are shared out over the printed lines of the old one,
and each line is stretched as far as there is room. Where the old text stands on the page once more without a label,
the new one stands there too.
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

_KEPT = frozenset({"QUANTITY"})  # times a price it is an amount
_EXCHANGED = 0.6  # of the distinct entities of a page
_GENERATED = 0.25  # of them for generated ones, where there are some of the label
_TOLD_APART = 5  # characters from which on an equal text without a label counts as the same thing


@dataclass(frozen=True, slots=True)
class Donors:
    """What may stand for an entity: others of the training part, and generated ones."""

    own: Pool
    generated: Pool


def donors_of(own: Iterable[Page], generated: Iterable[Page]) -> Donors:
    """`own` has to be the training part alone: nothing of the evaluation part may be seen in training."""
    return Donors(_pool(own), _pool(generated))


def _pool(pages: Iterable[Page]) -> Pool:
    found: dict[str, dict[int, set[Words]]] = {}
    for page in pages:
        for entity in entities(page.tags):
            words = page.words[entity.begin : entity.end]
            if _may_change(entity.label, words):
                lines = len(printed_pieces(page.boxes, entity.begin, entity.end))
                found.setdefault(entity.label, {}).setdefault(lines, set()).add(words)
    return {
        label: {lines: sorted(texts) for lines, texts in sorted(by_lines.items())} for label, by_lines in found.items()
    }


def _may_change(label: str, words: Words) -> bool:
    return label not in _KEPT and not any(is_amount(word, label) for word in words)


def other_entities(page: Page, donors: Donors, draw: random.Random) -> Page:
    """The page with some of its entities exchanged; equal ones for equal ones. Amounts and quantities stay."""
    new: dict[tuple[str, Words], Words | None] = {}
    for entity in entities(page.tags):
        words = page.words[entity.begin : entity.end]
        if (entity.label, words) not in new:
            new[entity.label, words] = _donor(page, entity, words, donors, draw)
    exchanged = [(label, old, words) for (label, old), words in new.items() if words]
    return _exchanged(page, {place: words for label, old, words in exchanged for place in _places(page, label, old)})


def _donor(page: Page, entity: Entity, words: Words, donors: Donors, draw: random.Random) -> Words | None:
    """What an entity is exchanged for, None if for nothing; of as many printed lines where there are such."""
    exchange, generate = draw.random() < _EXCHANGED, draw.random() < _GENERATED
    if not exchange or not _may_change(entity.label, words):
        return None
    pool = donors.generated if generate and entity.label in donors.generated else donors.own
    if not (by_lines := pool.get(entity.label)):
        return None
    lines = len(printed_pieces(page.boxes, entity.begin, entity.end))
    return pick(by_lines.get(lines) or [text for texts in by_lines.values() for text in texts], draw)


def _places(page: Page, label: str, words: Words) -> Iterator[Entity]:
    """Where these words stand as an entity of the label, or under no label at all (label O)."""
    for begin, word in enumerate(page.words[: len(page.words) - len(words) + 1]):
        end = begin + len(words)
        if word != words[0] or page.words[begin:end] != words:
            continue
        tags = page.tags[begin:end]
        if set(tags) == {"O"} and sum(map(len, words)) >= _TOLD_APART:
            yield Entity("O", begin, end)
        elif tags == _tags(label, len(words)) and page.tags[end : end + 1] != (f"I-{label}",):
            yield Entity(label, begin, end)


def _tags(label: str, count: int) -> tuple[str, ...]:
    return ("O",) * count if label == "O" else (f"B-{label}", *(f"I-{label}",) * (count - 1))


def _exchanged(page: Page, places: Mapping[Entity, Words]) -> Page:
    words, boxes, tags = list(page.words), list(page.boxes), list(page.tags)
    done = len(words)  # from the last to the first, so that the places before stay where they are
    for place, new in sorted(places.items(), key=lambda item: (-item[0].end, item[0])):
        if place.end <= done:
            done = place.begin
            inside = slice(place.begin, place.end)
            boxes[inside] = _boxes_of(words, boxes, place, new)
            words[inside], tags[inside] = new, _tags(place.label, len(new))
    return replace(page, words=tuple(words), boxes=tuple(boxes), tags=tuple(tags))


def _boxes_of(words: Sequence[str], boxes: Sequence[Box], place: Entity, new: Words) -> list[Box]:
    """Boxes of the new words in the printed lines of the old ones."""
    pieces = printed_pieces(boxes, place.begin, place.end)
    old = [" ".join(words[piece.start : piece.stop]) for piece in pieces]
    found: list[Box] = []
    for piece, text, line in zip(pieces, old, shared_out(new, [len(text) for text in old]), strict=True):
        if line:
            box = hull(boxes[piece.start : piece.stop])
            found += set_text(text, " ".join(line), box, room(boxes, piece), usual_anchor(box))
    return found


def shared_out(words: Words, capacities: Sequence[int]) -> list[Words]:
    """The words in order on lines, in proportion to the characters that the lines hold; a line may stay empty."""
    upto = [0, *accumulate(len(word) + 1 for word in words)]
    scale = upto[-1] / sum(capacities)
    ends = [scale * end for end in accumulate(capacities)][:-1]
    line_of = [bisect_right(ends, (begin + end) / 2) for begin, end in pairwise(upto)]
    return [
        tuple(word for word, at in zip(words, line_of, strict=True) if at == line) for line in range(len(capacities))
    ]

"""Certainty that an entity is exactly right: its words, its ends, and no rival elsewhere on the page."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from receipt_layoutlm.data.tags import entities

FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Certainty:
    """Probabilities that decide whether an entity is right as a whole.

    words: that its least certain word has the label. ends: that the words right before and after it do not. rival: the
    highest probability of the label elsewhere on the page, where it does not print the same text. rival_word: the place
    of that word in reading order, None if there is no other word.
    """

    words: float
    ends: float
    rival: float
    rival_word: int | None

    def value(self, single: bool) -> float:
        """The certainty; `single`: the page has one value of the label, so that a rival contradicts it."""
        return self.words * self.ends * (1 - self.rival if single else 1)


def certainties(
    words: Sequence[str], tags: Sequence[str], log_probs: FloatArray, names: Sequence[str]
) -> list[Certainty]:
    """The certainty of each entity of `tags`, in their order.

    words, tags: of a page in reading order. log_probs: (words, classes), calibrated. names: of the classes.
    """
    found, probabilities = entities(tags), np.exp(log_probs)
    of_labels = {}
    for label in {entity.label for entity in found}:
        classes = [number for number, name in enumerate(names) if name[2:] == label]
        of_labels[label] = np.minimum(probabilities[:, classes].sum(-1), 1.0)
    places: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        places.setdefault(word, []).append(place)
    result = []
    for entity in found:
        of_label = of_labels[entity.label]
        others, length, text = of_label.copy(), entity.end - entity.begin, words[entity.begin : entity.end]
        for place in places[text[0]]:
            if words[place : place + length] == text:
                others[place : place + length] = -1.0
        beside = [of_label[place] for place in (entity.begin - 1, entity.end) if 0 <= place < len(words)]
        rival = int(others.argmax())
        result.append(
            Certainty(
                words=float(of_label[entity.begin : entity.end].min()),
                ends=float(np.prod([1 - probability for probability in beside])),
                rival=max(0.0, float(others[rival])),
                rival_word=rival if others[rival] >= 0 else None,
            )
        )
    return result

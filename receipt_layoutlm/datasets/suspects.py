"""Finds words whose label the predictions of held-out pages contradict.

Labels are compared without B- and I-, and after the run's merges: if line totals are merged into amounts, an amount
does not contradict a line total.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from receipt_layoutlm.data.labels import OUTSIDE
from receipt_layoutlm.data.page import UNSUPERVISED, DataError, Page
from receipt_layoutlm.run.predictions import PredictedPage


class SuspectWord(BaseModel):
    """A word by its index in the page, and the model's probabilities of its prediction and of the label."""

    model_config = ConfigDict(frozen=True)

    index: int
    text: str
    confidence: float
    label_confidence: float


class Suspect(BaseModel):
    """Adjacent words with the same label and the same contradicting prediction; the confidence is their mean."""

    model_config = ConfigDict(frozen=True)

    page_id: str
    text: str
    label: str  # in the snapshot; O for none
    says: str  # the prediction: a label of the run, or O
    confidence: float
    words: tuple[SuspectWord, ...]

    @property
    def is_missing(self) -> bool:
        """Whether the words have no label and one may be missing."""
        return self.label == OUTSIDE


class _Verdict(NamedTuple):
    word: SuspectWord
    label: str
    says: str
    begins: bool  # an entity, by the tag or else the prediction


def find_suspects(
    pages: Mapping[str, Page], predicted: Iterable[PredictedPage], min_confidence: float
) -> list[Suspect]:
    """Words with contradicted or missing labels, highest confidence first.

    If several runs held out a page, they must agree on a word; its confidence is their mean. Raises DataError if the
    predictions are of other pages.
    """
    views_of: dict[str, list[PredictedPage]] = {}
    for view in predicted:
        views_of.setdefault(view.page_id, []).append(view)
    suspects: list[Suspect] = []
    for page_id, views in views_of.items():
        page = pages.get(page_id)
        for view in views:
            if page is None or not view.is_of(page):
                raise of_another_version(page_id)
        assert page is not None
        suspects += _spans(page_id, _verdicts(page, views, min_confidence))

    def rank(suspect: Suspect) -> tuple[float, float, str, int]:
        label = sum(word.label_confidence for word in suspect.words) / len(suspect.words)
        return -suspect.confidence, label, suspect.page_id, suspect.words[0].index

    return sorted(suspects, key=rank)


def of_another_version(page_id: str) -> DataError:
    return DataError(f"the stored predictions of page {page_id!r} belong to another version of it: train again")


def _verdicts(page: Page, views: Sequence[PredictedPage], min_confidence: float) -> Iterator[_Verdict | None]:
    """One for each word in reading order, None without a contradiction."""
    places = [{index: place for place, index in enumerate(view.index)} for view in views]
    for index in views[0].index:
        seen = [(view, place[index]) for view, place in zip(views, places, strict=True)]
        tag, predicted = page.tags[index], seen[0][0].predicted[seen[0][1]]
        label, says = _label(tag), _label(predicted)
        contradicted = all(_label(view.predicted[k]) == says != _label(view.true[k]) for view, k in seen)
        confidence = _mean(view.confidence[k] for view, k in seen)
        if tag == UNSUPERVISED or not contradicted or confidence < min_confidence:
            yield None
            continue
        word = SuspectWord(
            index=index,
            text=page.words[index],
            confidence=confidence,
            label_confidence=_mean(view.true_confidence[k] or 0.0 for view, k in seen),
        )
        yield _Verdict(word, label, says, (predicted if label == OUTSIDE else tag)[0] == "B")


def _label(tag: str) -> str:
    return tag if tag in (OUTSIDE, UNSUPERVISED) else tag[2:]


def _mean(values: Iterable[float]) -> float:
    rows = list(values)
    return round(sum(rows) / len(rows), 4)


def _spans(page_id: str, verdicts: Iterable[_Verdict | None]) -> Iterator[Suspect]:
    """Adjacent verdicts of one entity as one suspect."""
    span: list[_Verdict] = []
    for verdict in (*verdicts, None):
        if span and (verdict is None or verdict.begins or span[-1][1:3] != verdict[1:3]):
            words = tuple(entry.word for entry in span)
            yield Suspect(
                page_id=page_id,
                text=" ".join(word.text for word in words),
                label=span[0].label,
                says=span[0].says,
                confidence=_mean(word.confidence for word in words),
                words=words,
            )
            span = []
        if verdict is not None:
            span.append(verdict)

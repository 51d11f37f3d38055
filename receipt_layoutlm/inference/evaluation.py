"""Evaluation of a model on labelled pages, by their words or by OCR of their pictures."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.tags import entities, labelled
from receipt_layoutlm.inference.predictor import Predictor
from receipt_layoutlm.run.scores import Bin, LabelScore
from receipt_layoutlm.run.slices import LENGTHS, slice_name
from receipt_layoutlm.training.tasks.word_labels.scoring.entities import (
    SetScores,
    Tags,
    score_entities,
    score_sets,
)
from receipt_layoutlm.training.tasks.word_labels.scoring.fields import score_exact, values


class SliceScores(BaseModel):
    """Scores of some of the pages. f1: of entities; None by OCR, whose words have no true label."""

    model_config = ConfigDict(frozen=True)

    pages: int
    f1: float | None
    field_f1: float


class ModelScores(BaseModel):
    """Scores of a model on labelled pages, named as those of a training's evaluations.

    exact_f1 is SROIE's: one answer per page and label, right to the letter. ece is the expected calibration error of
    words, ece_calibrated that at the model's temperature. By OCR there are field and exact scores only.
    """

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1] = 1
    model: str
    words_from: Literal["pages", "ocr"]
    pages: int
    groups: int
    words: int
    scores: dict[str, float]
    per_label: dict[str, LabelScore] = {}
    fields: dict[str, LabelScore]
    exact: dict[str, LabelScore]
    confusion: dict[str, dict[str, int]] = {}
    reliability: tuple[Bin, ...] = ()
    slices: dict[str, dict[str, SliceScores]]


@dataclass(frozen=True, slots=True)
class PageFields:
    """Fields of a page. values: as score_fields compares them; texts: as printed, by label, in order."""

    values: set[tuple[str, str]]
    texts: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, words: Sequence[str], tags: Tags, labels: Sequence[str]) -> Self:
        texts: dict[str, list[str]] = {}
        for entity in entities(tags):
            texts.setdefault(entity.label, []).append(" ".join(words[entity.begin : entity.end]))
        return cls(values(words, tags, labels), texts)


@dataclass(frozen=True, slots=True)
class FieldPairs:
    """True and predicted fields of pages."""

    true: Sequence[PageFields]
    predicted: Sequence[PageFields]
    labels: Sequence[str]

    def values(self, places: Sequence[int] | None = None) -> SetScores:
        """Scores of the values, of all pages or those at some places."""
        chosen = range(len(self.true)) if places is None else places
        return score_sets(((self.true[place].values, self.predicted[place].values) for place in chosen), self.labels)

    def exact(self) -> SetScores:
        """Scores of the first text of each label, by SROIE's rule."""
        answers = [{label: texts[0] for label, texts in page.texts.items()} for page in self.predicted]
        return score_exact([page.texts for page in self.true], answers)


def value_scores(
    predictor: Predictor,
    pages: Sequence[Page],
    pairs: FieldPairs,
    trained_on: Set[str] | None,
    f1: Callable[[Sequence[int]], float] | None,
    words_from: Literal["pages", "ocr"],
    words: int,
) -> ModelScores:
    """Scores of fields and exact texts, in all and by slice; f1: of the entities of the pages at some places."""
    kinds = {"field": pairs.values(), "exact": pairs.exact()}
    return ModelScores(
        model=predictor.digest,
        words_from=words_from,
        pages=len(pages),
        groups=len({page.group for page in pages}),
        words=words,
        scores={
            f"{kind}_{name}": getattr(scores, name)
            for kind, scores in kinds.items()
            for name in ("precision", "recall", "f1")
        },
        fields=kinds["field"].per_label,
        exact=kinds["exact"].per_label,
        slices=slice_scores(pages, trained_on, pairs, f1),
    )


def evaluate_pages(
    predictor: Predictor, pages: Sequence[Page], trained_on: Set[str] | None, on_batch: Callable[[], None]
) -> ModelScores:
    """Score a model on the words of labelled pages. trained_on: groups of its training pages, None if unknown."""
    predictions = predictor.score(pages, on_batch)
    labels, encoded = predictor.label_map.labels, predictions.pages.pages
    true, tags = [page.tags for page in encoded], predictions.tags
    words = [page.words for page in encoded]
    pairs = FieldPairs(
        [PageFields.of(*page, labels) for page in zip(words, true, strict=True)],
        [
            PageFields.of(texts, labelled(truth, predicted), labels)
            for texts, truth, predicted in zip(words, true, tags, strict=True)
        ],
        labels,
    )

    def f1(places: Sequence[int]) -> float:
        return score_entities([true[place] for place in places], [tags[place] for place in places], labels).f1

    of_values = value_scores(predictor, pages, pairs, trained_on, f1, "pages", sum(map(len, true)))
    return of_values.model_copy(
        update={
            "scores": {**predictions.scores(predictor.temperature), **of_values.scores},
            "per_label": predictions.entities.per_label,
            "confusion": predictions.entities.confusion,
            "reliability": predictions.calibration(predictor.temperature).reliability,
        }
    )


def evaluate_scans(
    predictor: Predictor,
    pages: Sequence[Page],
    scans: Sequence[Page],
    trained_on: Set[str] | None,
    on_batch: Callable[[], None],
) -> ModelScores:
    """Score a model on pages that OCR has read, against the values of the same pages with labels, in the same order."""
    labels, label_map = predictor.label_map.labels, predictor.label_map
    predicted = [
        PageFields.of([scan.words[index] for index in prediction.order], prediction.tags, labels)
        for scan, prediction in zip(scans, predictor.predict(scans, on_batch), strict=True)
    ]
    pairs = FieldPairs(
        [PageFields.of(page.words, label_map.apply(page.tags), labels) for page in pages], predicted, labels
    )
    words = sum(len(scan.words) for scan in scans)
    return value_scores(predictor, pages, pairs, trained_on, None, "ocr", words)


def slice_scores(
    pages: Sequence[Page],
    trained_on: Set[str] | None,
    pairs: FieldPairs,
    f1: Callable[[Sequence[int]], float] | None,
) -> dict[str, dict[str, SliceScores]]:
    """Scores by the words of a page, and by merchants in the training set and new ones where these are known."""
    parts: dict[str, dict[str, list[int]]] = {"words": {}} if trained_on is None else {"words": {}, "merchants": {}}
    for place, page in enumerate(pages):
        parts["words"].setdefault(slice_name(len(page.words), LENGTHS), []).append(place)
        if trained_on is not None:
            parts["merchants"].setdefault("seen" if page.group in trained_on else "new", []).append(place)
    return {
        name: {
            part: SliceScores(
                pages=len(places),
                f1=None if f1 is None else f1(places),
                field_f1=pairs.values(places).f1,
            )
            for part, places in sorted(members.items())
        }
        for name, members in parts.items()
    }

"""Calibrates which fields may be accepted, on labelled pages that a model has not seen."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from receipt_layoutlm.data.dates import DateOrder
from receipt_layoutlm.data.page import UNSUPERVISED, Page
from receipt_layoutlm.data.tags import entities
from receipt_layoutlm.inference.acceptance import Acceptance, CalibrationError, CheckedField, single_labels
from receipt_layoutlm.inference.certainty import Certainty
from receipt_layoutlm.inference.evaluation import PageFields
from receipt_layoutlm.inference.predictor import Predictor
from receipt_layoutlm.inference.values import read_value
from receipt_layoutlm.training.tasks.word_labels.scoring.fields import normalised


@dataclass(frozen=True, slots=True)
class Unseen:
    """Labelled pages, and a model that has not seen them."""

    predictor: Predictor
    pages: Sequence[Page]


@dataclass(frozen=True, slots=True)
class _Found:
    """A predicted field beside the true ones of its page. is_readable: its text is the date or amount of its label."""

    label: str
    certainty: Certainty
    is_readable: bool
    is_right: bool
    group: str


def calibrate(
    model: Predictor, unseen: Iterable[Unseen], date_order: DateOrder | None, on_batch: Callable[[], None]
) -> Acceptance:
    """Predict pages and note each field's certainty, whether its value is right, and its merchant.

    The pages are those that the model itself has not seen; or, cross-fitted, parts of its training set, each with a
    model of the same recipe that was trained without it. A value that cannot be read as the date or amount of its label
    has certainty 0, since it is always asked about. Raises CalibrationError where the pages yield no field, or a model
    of a part has other labels.
    """
    rows: list[_Found] = []
    values: list[dict[str, int]] = []
    pages: list[Page] = []
    folds = 0
    for part in unseen:
        if part.predictor.label_map != model.label_map:
            raise CalibrationError(
                f"a model of the folds has the labels {', '.join(part.predictor.label_map.labels)}, and the one to "
                f"calibrate {', '.join(model.label_map.labels)}: train them with the same labels and merges"
            )
        found, of_pages = _judged(part, date_order, on_batch)
        rows += found
        values += of_pages
        pages += part.pages
        folds += part.predictor.digest != model.digest
    if not rows:
        raise CalibrationError(
            f"the model finds no field on any of the {len(pages)} pages, so there is nothing to accept"
        )
    single = single_labels(values)
    groups = {name: number for number, name in enumerate(dict.fromkeys(page.group for page in pages))}
    fields: dict[str, list[CheckedField]] = {}
    for row in rows:
        certainty = row.certainty.value(row.label in single) if row.is_readable else 0.0
        fields.setdefault(row.label, []).append(
            CheckedField(certainty=certainty, right=row.is_right, group=groups[row.group])
        )
    return Acceptance(
        model=model.digest,
        pages=len(pages),
        groups=len(groups),
        folds=folds,
        single=single,
        fields={label: tuple(sorted(of, key=lambda field: -field.certainty)) for label, of in sorted(fields.items())},
    )


def _judged(
    part: Unseen, date_order: DateOrder | None, on_batch: Callable[[], None]
) -> tuple[list[_Found], list[dict[str, int]]]:
    """The fields that a model finds on pages, and each page's number of distinct true values by label."""
    labels, label_map = part.predictor.label_map.labels, part.predictor.label_map
    rows, values = [], []
    for page, prediction in zip(part.pages, part.predictor.predict(part.pages, on_batch), strict=True):
        words = [page.words[index] for index in prediction.order]
        truth = label_map.apply([page.tags[index] for index in prediction.order])
        true = PageFields.of(words, truth, labels)
        values.append({label: len(set(texts)) for label, texts in true.texts.items()})
        for entity, certainty in zip(entities(prediction.tags), prediction.certainties, strict=True):
            if UNSUPERVISED in truth[entity.begin : entity.end]:
                continue  # nobody knows whether it is right
            text = " ".join(words[entity.begin : entity.end])
            rows.append(
                _Found(
                    label=entity.label,
                    certainty=certainty,
                    is_readable=not isinstance(read_value(entity.label, text, date_order), str),
                    is_right=(entity.label, normalised(text)) in true.values,
                    group=page.group,
                )
            )
    return rows, values

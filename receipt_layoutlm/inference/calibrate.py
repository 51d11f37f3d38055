"""Calibrates which fields may be accepted, on labelled pages that a model has not seen."""

from collections.abc import Callable, Sequence

from receipt_layoutlm.data.dates import DateOrder
from receipt_layoutlm.data.page import UNSUPERVISED, Page
from receipt_layoutlm.data.tags import entities
from receipt_layoutlm.inference.acceptance import Acceptance, CalibrationError, CheckedField, single_labels
from receipt_layoutlm.inference.evaluation import PageFields
from receipt_layoutlm.inference.predictor import Predictor
from receipt_layoutlm.inference.values import read_value
from receipt_layoutlm.training.tasks.word_labels.scoring.fields import normalised


def calibrate(
    predictor: Predictor, pages: Sequence[Page], date_order: DateOrder | None, on_batch: Callable[[], None]
) -> Acceptance:
    """Predict the pages and note each field's certainty, whether its value is right, and its merchant.

    A value that cannot be read as the date or amount of its label has certainty 0, since it is always asked about.
    Raises CalibrationError where the pages yield no field.
    """
    labels, label_map = predictor.label_map.labels, predictor.label_map
    predictions = predictor.predict(pages, on_batch)
    words = [[page.words[index] for index in each.order] for page, each in zip(pages, predictions, strict=True)]
    tags = [
        label_map.apply([page.tags[index] for index in each.order])
        for page, each in zip(pages, predictions, strict=True)
    ]
    true = [PageFields.of(*page, labels) for page in zip(words, tags, strict=True)]
    single = single_labels([{label: len(set(texts)) for label, texts in page.texts.items()} for page in true])
    groups: dict[str, int] = {}
    fields: dict[str, list[CheckedField]] = {}
    for page, prediction, texts, truth, expected in zip(pages, predictions, words, tags, true, strict=True):
        for entity, certainty in zip(entities(prediction.tags), prediction.certainties, strict=True):
            if UNSUPERVISED in truth[entity.begin : entity.end]:
                continue  # nobody knows whether it is right
            text = " ".join(texts[entity.begin : entity.end])
            is_readable = not isinstance(read_value(entity.label, text, date_order), str)
            fields.setdefault(entity.label, []).append(
                CheckedField(
                    certainty=certainty.value(entity.label in single) if is_readable else 0.0,
                    right=(entity.label, normalised(text)) in expected.values,
                    group=groups.setdefault(page.group, len(groups)),
                )
            )
    if not fields:
        raise CalibrationError(
            f"the model finds no field on any of the {len(pages)} pages, so there is nothing to accept"
        )
    return Acceptance(
        model=predictor.digest,
        pages=len(pages),
        groups=len({page.group for page in pages}),
        single=single,
        fields={label: tuple(sorted(of, key=lambda field: -field.certainty)) for label, of in sorted(fields.items())},
    )

"""Maps the labels of a format to ours: the format's table, overridden by the user's label map."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from json import JSONDecodeError
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from receipt_layoutlm.data.importers.source_page import SourcePage
from receipt_layoutlm.data.labels import CORE_LABELS, OUTSIDE, LabelError, unknown_name
from receipt_layoutlm.data.page import UNSUPERVISED, DataError, check_label, valid_label, validation_reason
from receipt_layoutlm.data.source_text import parse_json, read_source

_MAP = TypeAdapter(dict[str, str])


class LabelTable:
    """The format's label -> our label, "O" to drop it, "-" to leave its words unlabelled.

    Labels that are not in the table are passed to `unlisted`.
    """

    def __init__(self, targets: Mapping[str, str], unlisted: Callable[[str], str]) -> None:
        self.targets = dict(targets)
        self._unlisted = unlisted

    def __call__(self, label: str) -> str:
        """Our label. LabelError when there is none."""
        target = self.targets.get(label)
        return self._unlisted(label) if target is None else target


def read_label_map(path: Path) -> dict[str, str]:
    """The label map in a file. Raises DataError unless it is a JSON object of strings."""
    try:
        return _MAP.validate_python(parse_json(read_source(path)), strict=True)
    except ValidationError as error:
        reason = f'{validation_reason(error)}: write a JSON object like {{"their label": "GRAND_TOTAL", "other": "O"}}'
        raise DataError(reason, file=str(path)) from error
    except JSONDecodeError as error:
        raise DataError(f"is not JSON: {error}", file=str(path)) from error


def core_table(defaults: Mapping[str, str], label_map: Mapping[str, str]) -> LabelTable:
    """The format's table overridden by the label map. LabelError for a label in neither and for an unknown target."""
    known = {*CORE_LABELS, *defaults.values(), OUTSIDE, UNSUPERVISED}
    for label, target in label_map.items():
        if target not in known:
            raise LabelError(f"{label} is mapped to {unknown_name('label', target, known)}")
    targets = {**defaults, **label_map}

    def refuse(label: str) -> str:
        raise LabelError(
            f"{unknown_name('label', label, targets)}; map it to one of our labels or to "
            f'"{OUTSIDE}" in a label map (--label-map), or keep the labels of the data (--keep-labels)'
        )

    return LabelTable(targets, refuse)


def own_table(own: Mapping[str, str], label_map: Mapping[str, str]) -> LabelTable:
    """The labels of the data unchanged, except those in `own`: second spellings, and labels that mean O."""
    for target in label_map.values():
        if target not in (OUTSIDE, UNSUPERVISED):
            _check_name(target)
    return LabelTable({**own, **label_map}, _check_name)


def _check_name(label: str) -> str:
    try:
        return check_label(label)
    except ValueError as error:
        raise LabelError(str(error)) from error


def refused_labels(source: SourcePage, table: LabelTable) -> dict[str, DataError]:
    """The labels of a page that have no label of ours, each with the reason and its place."""
    refused: dict[str, DataError] = {}
    for label in dict.fromkeys(word.label for word in source.words if word.label not in ("", UNSUPERVISED)):
        try:
            table(label)
        except LabelError as error:
            refused[label] = DataError(str(error), file=source.file, line=source.line)
    return refused


def label_map_for(refused: Iterable[str]) -> str:
    """A label map that renames labels that are no valid names, as the end of a message; "" if all are valid."""
    names: dict[str, str] = {}
    for label in refused:
        if (name := valid_label(label) or "LABEL") != label:
            same = sum(re.sub(r"_\d+$", "", other) == name for other in names.values())
            names[label] = f"{name}_{same + 1}" if same else name
    return (
        f"\nsuch a label map (--label-map FILE.json) renames them: {json.dumps(names, ensure_ascii=False)}"
        if names
        else ""
    )


def check_all_used(label_map: Mapping[str, str], known: Iterable[str]) -> None:
    """Raises LabelError for a label of the label map that neither the format's table nor the data has."""
    names = set(known)
    for label in label_map:
        if label not in names:
            raise LabelError(f"the label map has an {unknown_name('label', label, names)}")

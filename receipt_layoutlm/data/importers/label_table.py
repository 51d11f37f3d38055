"""What the labels of somebody else's data are called here: a format's table, and the label map that overrides it."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from receipt_layoutlm.data.labels import CORE_LABELS, OUTSIDE, LabelError
from receipt_layoutlm.data.page import UNSUPERVISED, DataError, validation_reason

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_MAP = TypeAdapter(dict[str, str])


class LabelTable:
    """Their label -> our label, "O" to drop it, "-" to leave its words undecided.

    What is in no table goes through `unlisted`.
    """

    def __init__(self, targets: Mapping[str, str], unlisted: Callable[[str], str]) -> None:
        self.targets = dict(targets)
        self._unlisted = unlisted

    def __call__(self, theirs: str) -> str:
        """Our label. LabelError when there is none."""
        target = self.targets.get(theirs)
        return self._unlisted(theirs) if target is None else target


def read_label_map(path: Path) -> dict[str, str]:
    """A JSON object {"their label": "our label" or "O"}; DataError when the file holds anything else."""
    try:
        return _MAP.validate_python(json.loads(path.read_text(encoding="utf-8")), strict=True)
    except ValidationError as error:
        reason = f'{validation_reason(error)}: give a JSON object like {{"their label": "GRAND_TOTAL", "other": "O"}}'
        raise DataError(reason, file=str(path)) from error
    except ValueError as error:
        raise DataError(f"is not JSON: {error}", file=str(path)) from error


def core_table(defaults: Mapping[str, str], label_map: Mapping[str, str]) -> LabelTable:
    """The format's table with the label map on top; a label in neither is an error, and so is a target unknown here."""
    known = {*CORE_LABELS, *defaults.values(), OUTSIDE, UNSUPERVISED}
    for theirs, target in label_map.items():
        if target not in known:
            raise LabelError(f"{theirs} is mapped to {_unknown(target, known)}")
    targets = {**defaults, **label_map}

    def refuse(theirs: str) -> str:
        raise LabelError(
            f"{_unknown(theirs, targets)}; name it in the label map (--label-map) with one of our labels or "
            f'"{OUTSIDE}", or keep the labels that the data has (--keep-labels)'
        )

    return LabelTable(targets, refuse)


def own_table(own: Mapping[str, str], label_map: Mapping[str, str]) -> LabelTable:
    """The labels as the data has them; `own` holds the few that the format spells in two ways or means as O."""
    for target in label_map.values():
        if target not in (OUTSIDE, UNSUPERVISED):
            _check_name(target)
    return LabelTable({**own, **label_map}, _check_name)


def _check_name(label: str) -> str:
    if not _NAME.fullmatch(label):
        raise LabelError(
            f"{label!r} cannot be a label here: give it a name of letters, digits, '_', '.' and '-' in the label map"
        )
    return label


def check_all_used(label_map: Mapping[str, str], known: Iterable[str]) -> None:
    """LabelError for a label map that names what neither the format's table nor the data has."""
    names = set(known)
    for theirs in label_map:
        if theirs not in names:
            raise LabelError(f"the label map names {_unknown(theirs, names)}")


def _unknown(name: str, known: Iterable[str]) -> str:
    """The name and the nearest known one, or all of them when none is near."""
    spelling = {candidate.casefold(): candidate for candidate in sorted(known)}
    near = get_close_matches(name.casefold(), spelling, n=1)
    hint = f"did you mean {spelling[near[0]]}?" if near else f"known are {', '.join(spelling.values())}"
    return f"unknown label {name}; {hint}"

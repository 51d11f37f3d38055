"""Options as they are typed on the command line: the names of flags, and values as words."""

import json
from collections.abc import Mapping
from typing import Final

_FLAGS: Final = {  # where the flag is not the field's own name: one value of several is given at a time
    "allowed_labels": "--allowed-label",
    "tags": "--tag",
    "single_valued_labels": "--single-valued-label",
}
PAIRS: Final = frozenset({"tags", "label_weight"})
"""Mappings of plain values, one KEY=VALUE at a time."""

_BOUNDS: Final = frozenset({"class_weight_clip"})  # two words after one flag


def flag_of(name: str) -> str:
    """The flag of a field."""
    return _FLAGS.get(name, "--" + name.replace("_", "-"))


def typed(name: str, value: object) -> list[str]:
    """The words that set a field to a value; none for a switch that is off, and for no value."""
    flag = flag_of(name)
    if value is None or isinstance(value, bool):
        return [flag] if value else []
    if isinstance(value, Mapping):
        if name not in PAIRS:
            return [flag, _document(value)]
        return [word for key, each in value.items() for word in (flag, f"{key}={_number(each)}")]
    if isinstance(value, list | tuple):
        words = [_number(each) for each in value]
        return [flag, *words] if name in _BOUNDS else [flag, ",".join(words) or "none"]
    return [flag, _number(value)]


def _document(value: Mapping[object, object]) -> str:
    """JSON, or as Python has it where YAML has made what JSON lacks: bytes, dates, keys that are no text."""
    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        return str(value)


def _number(value: object) -> str:
    """As short as it reads back the same: 2, not 2.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

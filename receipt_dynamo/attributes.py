"""Stored forms of single values: times, JSON documents, and untyped values of the original system."""

import contextlib
import json
import math
from collections.abc import Callable, Mapping, Set
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeVar

from pydantic import JsonValue
from pynamodb.attributes import Attribute, MapAttribute, NumberAttribute
from pynamodb.constants import NULL, NUMBER, STRING
from pynamodb.models import Model

from receipt_dynamo.errors import InvalidInput

V = TypeVar("V")

SHOWN: Final = 40  # characters of a stored value in a message


def stamp(time: datetime) -> str:
    """The one spelling of a time in keys and attributes; it sorts as text."""
    return time.isoformat(timespec="microseconds")


def time_of(text: str) -> datetime:
    """The time in a text. Raises ValueError, which says how a time is written."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time such as 2026-11-28T12:00:00.000000+00:00") from None


DIGITS: Final = 38  # of a number in the table


class TimeAttribute(Attribute[datetime]):
    """A time as isoformat text."""

    attr_type = STRING

    def serialize(self, value: datetime) -> str:
        return stamp(value)

    def deserialize(self, value: str) -> datetime:
        return _named(self, time_of, value)


class NumericAttribute(NumberAttribute):
    """A finite number. One that another program stored as text is read too."""

    def deserialize(self, value: str) -> float:
        return _named(self, number_of, value)

    def get_value(self, value: dict[str, Any]) -> Any:
        return value[STRING] if STRING in value else super().get_value(value)


def number_of(text: str) -> float:
    """An int of at most 38 digits, as the table takes, or a finite float; raises ValueError."""
    try:
        whole = int(text)
    except ValueError:
        return _finite(text)
    if abs(whole) >= 10**DIGITS:
        raise ValueError(f"a number has {len(str(abs(whole)))} digits, more than {DIGITS}")
    return whole


def _finite(text: str) -> float:
    with contextlib.suppress(ValueError):
        if math.isfinite(number := float(text)):
            return number
    raise ValueError(f"{text[:SHOWN]!r} is not a finite number")


def _named(attribute: Attribute[V], parse: Callable[[str], V], text: str) -> V:
    """The value of an attribute. Raises ValueError, which names the attribute."""
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"{attribute.attr_name} {error}") from None


_ENCODER: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":"), sort_keys=True)
_DECODER: Final = json.JSONDecoder(parse_int=number_of, parse_float=_finite, parse_constant=_finite)


def _json(text: str) -> JsonValue:
    try:
        value: JsonValue = _DECODER.decode(text)
    except json.JSONDecodeError:
        raise ValueError(f"{text[:SHOWN]!r} is not JSON") from None
    except RecursionError:
        raise ValueError(f"{text[:SHOWN]!r} is nested too deeply") from None
    return value


class DocumentAttribute(Attribute[JsonValue]):
    """An opaque document as JSON text, floats exact, no NaN. The original system's maps are read too."""

    attr_type = STRING

    def serialize(self, value: JsonValue) -> str:
        try:
            return _ENCODER.encode(value)
        except ValueError as error:
            raise InvalidInput(f"{self.attr_name} holds a number that JSON lacks: {error}") from None

    def deserialize(self, value: JsonValue) -> JsonValue:
        return _named(self, _json, value) if isinstance(value, str) else value

    def get_value(self, value: dict[str, Any]) -> Any:
        return value[STRING] if STRING in value else _untyped(value)


class ValueAttribute(Attribute[JsonValue]):
    """`value` of an original metric row: a number, possibly stored as text, or a map. Only read."""

    attr_type = NUMBER

    def deserialize(self, value: JsonValue) -> JsonValue:
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                return number_of(value)
        return value

    def get_value(self, value: dict[str, Any]) -> Any:
        return _untyped(value)


def _untyped(value: Any) -> JsonValue:
    """botocore's {"N": "1"} as a plain value."""
    from boto3.dynamodb.types import TypeDeserializer  # slow to load, and only the original system's rows need it

    return _plain(TypeDeserializer().deserialize(value))


def _plain(value: Any) -> JsonValue:
    """Decimals to int or float, sets to lists."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | set):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, str | bool):
        return value
    return int(value) if value == int(value) and "." not in str(value) else float(value)


Container = type[Model] | type[MapAttribute[str, Any]]
Stored = dict[str, Any]  # one value as botocore speaks it: {"S": "…"}


def stored_values(model: Container, raw: Mapping[str, Stored]) -> dict[str, Any]:
    """What a row or a map holds of the model's own attributes, by their names there, without those it inherits.

    Reads what is stored and nothing else: PynamoDB's from_raw_data takes four times as long, since it sets each
    attribute of the model on an object. Raises ValueError, TypeError, or KeyError for an attribute that must be there.
    """
    readers, required = _readers(model)
    values = {}
    for stored_name, stored in raw.items():
        if stored and NULL not in stored and (reader := readers.get(stored_name)):
            values[reader[0]] = reader[1](stored)
    if missing := required - values.keys():
        raise KeyError(min(missing))
    return values


@lru_cache(None)
def _readers(model: Container) -> tuple[dict[str, tuple[str, Callable[[Stored], Any]]], Set[str]]:
    """By the name in the table, the name in the model and what reads a value; the names that must be there."""
    own = {name: attribute for name, attribute in model.get_attributes().items() if name in vars(model)}
    readers = {attribute.attr_name: (name, _reader(attribute)) for name, attribute in own.items()}
    return readers, {name for name, attribute in own.items() if not attribute.null}


def _reader(attribute: Attribute[Any]) -> Callable[[Stored], Any]:
    if isinstance(attribute, MapAttribute):
        return lambda stored: stored_values(type(attribute), attribute.get_value(stored))
    return lambda stored: attribute.deserialize(attribute.get_value(stored))

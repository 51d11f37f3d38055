"""Options made from pydantic models: each field is stated once, with its default, bounds and help."""

import json
import types
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

C = TypeVar("C", bound=Callable[..., Any])

# where the flag is not the field's own name: one value of several is given at a time
_FLAGS = {"allowed_labels": "--allowed-label", "tags": "--tag", "single_valued_labels": "--single-valued-label"}
_PAIRS = frozenset({"tags", "label_weight"})  # mappings of plain values, one KEY=VALUE at a time
_NO_FLAG = frozenset({"config_version", "continues"})
_ALIASES = {"fp16": ("precision", "fp16")}  # a flag that stands for one value of a field


class JsonOption(click.ParamType[Any]):
    """An object written as JSON on the command line."""

    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return json.loads(value)
        except ValueError as error:
            self.fail(f"{value!r} is not JSON: {error}", param, ctx)


class KeyValue(click.ParamType[Any]):
    """KEY=VALUE."""

    name = "KEY=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        key, equals, text = value.partition("=")
        if not key or not equals:
            self.fail(f"{value!r} is not KEY=VALUE", param, ctx)
        return key, text


def model_options(*models: type[BaseModel]) -> Callable[[C], C]:
    """Add one option per field. An option that was not given arrives as None (or an empty tuple)."""

    def add(command: C) -> C:
        for model in reversed(models):
            for name, field in reversed(model.model_fields.items()):
                for alias, (of_field, value) in _ALIASES.items():
                    if of_field == name:
                        text = f"The same as {flag_of(name)} {value}."
                        command = click.option(f"--{alias}", is_flag=True, help=text)(command)
                if name not in _NO_FLAG:
                    command = _option(name, field)(command)
        return command

    return add


def given_values(models: tuple[type[BaseModel], ...], values: Mapping[str, Any]) -> dict[str, object]:
    """The options of these models that were given, by field name."""
    names = {name for model in models for name in model.model_fields}
    given = {name: value for name, value in values.items() if name in names and value not in (None, ())}
    for alias, (name, value) in _ALIASES.items():
        if values.get(alias) and given.setdefault(name, value) != value:
            raise click.UsageError(f"--{alias} is {flag_of(name)} {value}: give one of the two")
    return {name: dict(values[name]) if name in _PAIRS else value for name, value in given.items()}


def flag_of(name: str) -> str:
    """The flag of a field, for error texts."""
    return _FLAGS.get(name, "--" + name.replace("_", "-"))


def _option(name: str, field: FieldInfo) -> Callable[[C], C]:
    return click.option(flag_of(name), name, help=_help(field), **_kind(name, field.annotation))


def _help(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    shown = default.value if isinstance(default, Enum) else default
    text = field.description or ""
    return text if shown in (None, False, (), {}, "") else f"{text}  [default: {shown}]"


def _kind(name: str, annotation: Any) -> dict[str, Any]:
    """click's keywords for a type: bounds and unions are left to the model, which words the error."""
    if name in _PAIRS:
        return {"type": KeyValue(), "multiple": True}
    leaves = list(_leaves(annotation))
    if leaves == [bool]:
        return {"is_flag": True, "default": None}
    if get_origin(leaves[0]) is tuple:
        parts = get_args(leaves[0])
        if parts[-1] is not Ellipsis:
            return {"type": float, "nargs": len(parts)}
        return {
            "multiple": True,
            "metavar": ",".join(get_args(parts[0])) if get_origin(parts[0]) is Literal else "LABEL",
        }
    if get_origin(leaves[0]) is dict:
        return {"type": JsonOption()}
    if isinstance(leaves[0], type) and issubclass(leaves[0], Enum):
        return {"type": click.Choice([member.value for member in leaves[0]])}
    words = [word for leaf in leaves if get_origin(leaf) is Literal for word in get_args(leaf)]
    if words and len(leaves) == 1:
        return {"type": click.Choice(words)}
    if words:
        return {"type": str, "metavar": "|".join([*words, "N"])}
    return {"type": leaves[0]}


def _leaves(annotation: Any) -> Iterator[Any]:
    """The alternatives of a type without None and without annotations."""
    if get_origin(annotation) is Annotated:
        yield from _leaves(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for inner in get_args(annotation):
            if inner is not type(None):
                yield from _leaves(inner)
    else:
        yield annotation

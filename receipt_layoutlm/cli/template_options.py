"""Options generated from the parameters of templates, which define their defaults, bounds and help texts."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import click

from receipt_layoutlm.fleet.template import YES_OR_NO, Parameter

C = TypeVar("C", bound=Callable[..., Any])

_NUMBERED = re.compile(r"(InstanceType)([1-9])")  # several parameters of this kind share one repeatable option


class ParameterValue(click.ParamType[str]):
    """Text that the template accepts for a parameter."""

    def __init__(self, parameter: Parameter) -> None:
        self.name = "|".join(parameter.allowed) or ("NUMBER" if parameter.is_number else "TEXT")
        self._parameter = parameter

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        refusal = self._parameter.refusal(str(value))
        if refusal is not None:
            self.fail(f"{value!r}: {refusal}", param, ctx)
        return str(value)


def parameter_options(parameters: Iterable[Parameter]) -> Callable[[C], C]:
    """Add one option per parameter. An option that was not given has the value None (or an empty tuple)."""

    kinds: dict[str, list[Parameter]] = {}
    for parameter in parameters:
        kinds.setdefault(_kind_and_number(parameter.name)[0], []).append(parameter)

    def add(command: C) -> C:
        for kind, members in reversed(kinds.items()):
            flag, first = parameter_flag(kind), members[0]
            repeated = f" Repeatable, up to {len(members)} times." if len(members) > 1 else ""
            defaults = " ".join(each.default for each in members if each.default not in (None, "", "false"))
            text = first.description + repeated + (f"  [default: {defaults}]" if defaults else "")
            if first.is_flag:
                option = click.option(f"{flag}/--no-{flag[2:]}", _variable(kind), default=None, help=text)
            else:
                value_type = ParameterValue(first)
                option = click.option(flag, _variable(kind), type=value_type, multiple=len(members) > 1, help=text)
            command = option(command)
        return command

    return add


def parameter_values(parameters: Iterable[Parameter], values: Mapping[str, Any]) -> dict[str, str]:
    """Parameters of the given options. A repeated option sets the remaining parameters of its kind to empty."""
    given: dict[str, str] = {}
    parameters = list(parameters)
    for parameter in parameters:
        kind, number = _kind_and_number(parameter.name)
        value = values.get(_variable(kind))
        maximum = sum(_kind_and_number(each.name)[0] == kind for each in parameters)
        if number is not None and value and len(value) > maximum:
            raise click.UsageError(f"{parameter_flag(kind)} is given {len(value)} times: at most {maximum}")
        if number is not None and value:
            given[parameter.name] = value[number - 1] if number <= len(value) else ""
        elif number is None and value is not None:
            given[parameter.name] = YES_OR_NO[0 if value else 1] if parameter.is_flag else value
    return given


def parameter_flag(name: str) -> str:
    """--max-cost-per-day for MaxCostPerDay."""
    return "--" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


def _kind_and_number(name: str) -> tuple[str, int | None]:
    match = _NUMBERED.fullmatch(name)
    return (match[1], int(match[2])) if match else (name, None)


def _variable(kind: str) -> str:
    return parameter_flag(kind)[2:].replace("-", "_")

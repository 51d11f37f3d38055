"""Options made from the parameters of templates: each is stated once, there, with its default, bounds and help."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import click

from receipt_layoutlm.fleet_parameters import YES_OR_NO, Parameter

C = TypeVar("C", bound=Callable[..., Any])

_NUMBERED = re.compile(r"(InstanceType)([1-9])")  # several of a kind are one option, given several times


class ParameterValue(click.ParamType[str]):
    """Text that the template takes for a parameter."""

    def __init__(self, parameter: Parameter) -> None:
        self.name = "|".join(parameter.allowed) or ("NUMBER" if parameter.is_number else "TEXT")
        self._parameter = parameter

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        refusal = self._parameter.refusal(str(value))
        if refusal is not None:
            self.fail(f"{value!r}: {refusal}", param, ctx)
        return str(value)


def parameter_options(parameters: Iterable[Parameter]) -> Callable[[C], C]:
    """Add one option per parameter. One that was not given arrives as None (or an empty tuple)."""

    def add(command: C) -> C:
        for parameter in reversed([each for each in parameters if _is_first(each.name)]):
            command = _option(parameter)(command)
        return command

    return add


def given_values(parameters: Iterable[Parameter], values: Mapping[str, Any]) -> dict[str, str]:
    """Values of the options that were given, by parameter. Fewer of a kind than there are leave the others empty."""
    given: dict[str, str] = {}
    for parameter in parameters:
        kind, number = _numbered(parameter.name)
        value = values.get(_variable(kind))
        if number is not None and value:
            given[parameter.name] = value[number - 1] if number <= len(value) else ""
        elif number is None and value is not None:
            given[parameter.name] = YES_OR_NO[0 if value else 1] if parameter.is_flag else value
    return given


def flag_of(name: str) -> str:
    """--max-cost-per-day for MaxCostPerDay."""
    return "--" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


def _option(parameter: Parameter) -> Callable[[C], C]:
    kind, number = _numbered(parameter.name)
    flag, variable, text = flag_of(kind), _variable(kind), _help(parameter, number is not None)
    if parameter.is_flag:
        return click.option(f"{flag}/--no-{flag[2:]}", variable, default=None, help=text)
    return click.option(flag, variable, type=ParameterValue(parameter), multiple=number is not None, help=text)


def _help(parameter: Parameter, is_repeated: bool) -> str:
    repeated = " Repeat for more, the template's own go." if is_repeated else ""
    default = "" if parameter.default in (None, "", "false") else f"  [default: {parameter.default}]"
    return parameter.description + repeated + default


def _is_first(name: str) -> bool:
    return _numbered(name)[1] in (None, 1)


def _numbered(name: str) -> tuple[str, int | None]:
    match = _NUMBERED.fullmatch(name)
    return (match[1], int(match[2])) if match else (name, None)


def _variable(kind: str) -> str:
    return flag_of(kind)[2:].replace("-", "_")

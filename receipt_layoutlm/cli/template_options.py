"""Options made from the parameters of templates: each is stated once, there, with its default, bounds and help."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click

from receipt_layoutlm.fleet.template import YES_OR_NO, Parameter

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

    kinds: dict[str, list[Parameter]] = {}
    for parameter in parameters:
        kinds.setdefault(_numbered(parameter.name)[0], []).append(parameter)

    def add(command: C) -> C:
        for kind, several in reversed(kinds.items()):
            command = _option(kind, several)(command)
        return command

    return add


def given_values(parameters: Iterable[Parameter], values: Mapping[str, Any]) -> dict[str, str]:
    """Values of the options that were given, by parameter. Fewer of a kind than there are leave the others empty."""
    given: dict[str, str] = {}
    parameters = list(parameters)
    for parameter in parameters:
        kind, number = _numbered(parameter.name)
        value = values.get(_variable(kind))
        most = sum(_numbered(each.name)[0] == kind for each in parameters)
        if number is not None and value and len(value) > most:
            raise click.UsageError(f"{flag_of(kind)} is given {len(value)} times: at most {most}")
        if number is not None and value:
            given[parameter.name] = value[number - 1] if number <= len(value) else ""
        elif number is None and value is not None:
            given[parameter.name] = YES_OR_NO[0 if value else 1] if parameter.is_flag else value
    return given


def flag_of(name: str) -> str:
    """--max-cost-per-day for MaxCostPerDay."""
    return "--" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


def _option(kind: str, several: Sequence[Parameter]) -> Callable[[C], C]:
    flag, first, text = flag_of(kind), several[0], _help(several)
    if first.is_flag:
        return click.option(f"{flag}/--no-{flag[2:]}", _variable(kind), default=None, help=text)
    return click.option(flag, _variable(kind), type=ParameterValue(first), multiple=len(several) > 1, help=text)


def _help(several: Sequence[Parameter]) -> str:
    repeated = f" Give it up to {len(several)} times." if len(several) > 1 else ""
    defaults = " ".join(each.default for each in several if each.default not in (None, "", "false"))
    return several[0].description + repeated + (f"  [default: {defaults}]" if defaults else "")


def _numbered(name: str) -> tuple[str, int | None]:
    match = _NUMBERED.fullmatch(name)
    return (match[1], int(match[2])) if match else (name, None)


def _variable(kind: str) -> str:
    return flag_of(kind)[2:].replace("-", "_")

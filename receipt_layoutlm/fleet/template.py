"""Parameters of a template: their defaults, bounds and help, stated there alone, and the values a person gives."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import yaml

from receipt_layoutlm.infra import template_path

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import ParameterTypeDef


YES_OR_NO: Final = ("true", "false")
INSTANCE_TYPES: Final = tuple(f"InstanceType{number}" for number in range(1, 5))  # parameters of workers.yaml
FRACTIONS: Final = ("MaxCostPerDay",)  # CloudFormation's numbers may all have some; what a machine counts may not
_SECTION: Final = re.compile(r"^Parameters:\n(?:(?:[ #].*)?\n)+", re.MULTILINE)


@dataclass(frozen=True)
class Parameter:
    """One parameter as its template states it; `default` is None where a value must be given."""

    name: str
    description: str
    default: str | None
    allowed: tuple[str, ...]
    pattern: str | None
    constraint: str | None
    longest: int | None
    least: float | None
    most: float | None
    is_number: bool

    @property
    def is_flag(self) -> bool:
        return self.allowed == YES_OR_NO

    def refusal(self, value: str) -> str | None:
        """What is wrong with a value, in words; None when the template takes it."""
        if self.allowed:
            return None if value in self.allowed else f"must be one of {', '.join(self.allowed)}"
        if self.is_number:
            return self._number_refusal(value)
        if self.pattern is not None and re.fullmatch(self.pattern, value) is None:
            return self.constraint or f"must match {self.pattern}"
        if self.longest is not None and len(value) > self.longest:
            return f"must be at most {self.longest} characters"
        return None

    def _number_refusal(self, value: str) -> str | None:
        if re.fullmatch(r"\d+(\.\d+)?", value) is None:
            return "must be a number"
        if "." in value and self.name not in FRACTIONS:
            return "must be a whole number"
        if self.least is not None and float(value) < self.least:
            return f"must be at least {self.least:g}"
        if self.most is not None and float(value) > self.most:
            return f"must be at most {self.most:g}"
        return None


@dataclass(frozen=True)
class Template:
    """A template of infra/ as CloudFormation takes it, and its parameters by name."""

    text: str
    parameters: Mapping[str, Parameter]

    def with_defaults(self, values: Mapping[str, str]) -> dict[str, str]:
        """Each of these values, and the default of every other parameter that has one."""
        defaults = {name: each.default for name, each in self.parameters.items() if each.default is not None}
        return {**defaults, **values}

    def values(self, given: Mapping[str, str], before: Iterable[str]) -> "list[ParameterTypeDef]":
        """What was given; the values of `before`, those that the stack has, stay; the rest are defaults."""
        known = set(before)
        values: list[ParameterTypeDef] = []
        for name in self.parameters:
            if name in given:
                values.append({"ParameterKey": name, "ParameterValue": given[name]})
            elif name in known:
                values.append({"ParameterKey": name, "UsePreviousValue": True})
        return values


def read_template(name: str) -> Template:
    """A template by its file name. Only its parameters are parsed, which takes a tenth of the time."""
    text = template_path(name).read_text(encoding="utf-8")
    section = _SECTION.search(text)
    assert section is not None, f"{name} has no parameters"
    stated = yaml.safe_load(section[0])["Parameters"]
    return Template(text, {key: _parameter(key, each) for key, each in stated.items()})


def _parameter(name: str, stated: Mapping[str, object]) -> Parameter:
    allowed = stated.get("AllowedValues") or []
    assert isinstance(allowed, list)
    return Parameter(
        name=name,
        description=str(stated.get("Description", "")),
        default=_text(stated.get("Default")),
        allowed=tuple(map(str, allowed)),
        pattern=_text(stated.get("AllowedPattern")),
        constraint=_text(stated.get("ConstraintDescription")),
        longest=int(str(stated["MaxLength"])) if "MaxLength" in stated else None,
        least=float(str(stated["MinValue"])) if "MinValue" in stated else None,
        most=float(str(stated["MaxValue"])) if "MaxValue" in stated else None,
        is_number=stated["Type"] == "Number",
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)

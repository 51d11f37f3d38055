"""Templates of infra/ and their parameters, which define defaults, bounds and help texts."""

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
FRACTIONS: Final = ("MaxCostPerDay",)  # the only parameter of type Number that is not a count
_SECTION: Final = re.compile(r"^Parameters:\n(?:(?:[ #].*)?\n)+", re.MULTILINE)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a template; `default` is None where a value is required."""

    name: str
    description: str
    default: str | None
    allowed: tuple[str, ...]
    pattern: str | None
    constraint: str | None
    max_length: int | None
    minimum: float | None
    maximum: float | None
    is_number: bool

    @property
    def is_flag(self) -> bool:
        return self.allowed == YES_OR_NO

    def refusal(self, value: str) -> str | None:
        """The reason why the template would reject a value; None when it accepts it."""
        if self.allowed:
            return None if value in self.allowed else f"must be one of {', '.join(self.allowed)}"
        if self.is_number:
            return self._number_refusal(value)
        if self.pattern is not None and re.fullmatch(self.pattern, value) is None:
            return self.constraint or f"must match {self.pattern}"
        if self.max_length is not None and len(value) > self.max_length:
            return f"must be at most {self.max_length} characters"
        return None

    def _number_refusal(self, value: str) -> str | None:
        if re.fullmatch(r"\d+(\.\d+)?", value) is None:
            return "must be a number"
        if "." in value and self.name not in FRACTIONS:
            return "must be a whole number"
        if self.minimum is not None and float(value) < self.minimum:
            return f"must be at least {self.minimum:g}"
        if self.maximum is not None and float(value) > self.maximum:
            return f"must be at most {self.maximum:g}"
        return None


@dataclass(frozen=True)
class Template:
    """The text of a template for CloudFormation, and its parameters by name."""

    text: str
    parameters: Mapping[str, Parameter]

    def with_defaults(self, values: Mapping[str, str]) -> dict[str, str]:
        """These values, and the defaults of all other parameters."""
        defaults = {name: each.default for name, each in self.parameters.items() if each.default is not None}
        return {**defaults, **values}

    def values(self, given: Mapping[str, str], before: Iterable[str]) -> "list[ParameterTypeDef]":
        """Parameters of a request: given values, then previous values of the parameters in `before`, then defaults."""
        known = set(before)
        values: list[ParameterTypeDef] = []
        for name in self.parameters:
            if name in given:
                values.append({"ParameterKey": name, "ParameterValue": given[name]})
            elif name in known:
                values.append({"ParameterKey": name, "UsePreviousValue": True})
        return values


def read_template(name: str) -> Template:
    """Read a template by its file name. Only its parameters are parsed, which takes a tenth of the time."""
    text = template_path(name).read_text(encoding="utf-8")
    section = _SECTION.search(text)
    assert section is not None, f"{name} has no parameters"
    definitions: Mapping[str, Mapping[str, object]] = yaml.safe_load(section[0])["Parameters"]
    parameters = {}
    for name, definition in definitions.items():
        allowed = definition.get("AllowedValues") or []
        assert isinstance(allowed, list)
        parameters[name] = Parameter(
            name=name,
            description=str(definition.get("Description", "")),
            default=_text(definition.get("Default")),
            allowed=tuple(map(str, allowed)),
            pattern=_text(definition.get("AllowedPattern")),
            constraint=_text(definition.get("ConstraintDescription")),
            max_length=int(str(definition["MaxLength"])) if "MaxLength" in definition else None,
            minimum=float(str(definition["MinValue"])) if "MinValue" in definition else None,
            maximum=float(str(definition["MaxValue"])) if "MaxValue" in definition else None,
            is_number=definition["Type"] == "Number",
        )
    return Template(text, parameters)


def _text(value: object) -> str | None:
    return None if value is None else str(value)

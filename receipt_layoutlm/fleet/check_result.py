"""The result of one check by `doctor` or `fleet deploy`."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "missing"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The checked thing, the finding and its fix. `missing` is an error: nothing works without it."""

    name: str
    state: State
    found: str
    advice: str = ""

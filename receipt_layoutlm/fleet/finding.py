"""One thing that `doctor` or `fleet deploy` looked at."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "missing"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, what was found, and what to do. `missing` means that it cannot work without."""

    name: str
    state: State
    found: str
    advice: str = ""

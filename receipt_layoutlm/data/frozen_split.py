"""A split that stands in a file: which page, or group, belongs to which part. A job names it by its content."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from receipt_layoutlm.config import ConfigError
from receipt_layoutlm.data.page import DataError, validation_reason

SHOWN = 10  # keys that an error lists at most, of each kind
_PINNED = re.compile(r"frozen:([^@]*)@([0-9a-f]{64})")


class FrozenSplit(BaseModel):
    """A file that says which page (or group) belongs to which part. Without `train`, all that is named nowhere trains.

    Pages that no part names are left out when `train` is given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    by: Literal["page", "group"] = "page"
    train: tuple[str, ...] | None = None
    evaluation: tuple[str, ...] = Field(alias="validation")
    test: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names_each_once(self) -> "FrozenSplit":
        counts = Counter((*(self.train or ()), *self.evaluation, *self.test))
        if twice := sorted(key for key, count in counts.items() if count > 1):
            raise ValueError(f"{listed(twice)} stands in it more than once: name each {self.by} in one part")
        if not self.evaluation:
            raise ValueError("validation names nothing: there has to be something to select the best weights by")
        return self

    def canonical(self) -> bytes:
        """The same bytes for the same split, whatever the order of the file."""
        parts = {
            "by": self.by,
            "train": None if self.train is None else sorted(self.train),
            "validation": sorted(self.evaluation),
            "test": sorted(self.test),
        }
        return json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()

    @property
    def sha256(self) -> str:
        """Names the content."""
        return hashlib.sha256(self.canonical()).hexdigest()


def read_frozen(path: Path) -> FrozenSplit:
    """Raises DataError with what is wrong and what such a file looks like."""
    try:
        return parse_frozen(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot be read: {error}", file=str(path)) from error
    except ValueError as error:
        raise DataError(str(error), file=str(path)) from error


def parse_frozen(content: bytes) -> FrozenSplit:
    """ValueError when it is no frozen split."""
    try:
        return FrozenSplit.model_validate_json(content)
    except ValidationError as error:
        example = '{"by": "page", "train": [...], "validation": [...], "test": [...]}, by page or by group'
        raise ValueError(f"{validation_reason(error)}; a frozen split is {example}") from error


def frozen_place(split: str) -> str | None:
    """What stands after `frozen:`, None for every other split."""
    return split.removeprefix("frozen:") if split.startswith("frozen:") else None


def pinned_frozen(name: str, frozen: FrozenSplit) -> str:
    """frozen:NAME@SHA256, as a job's config names a split whose content lies in the bucket."""
    return f"frozen:{name.replace('@', '-')}@{frozen.sha256}"


def is_pinned(split: str) -> bool:
    """Whether it names a frozen split by its content, and no file of that name is there."""
    place = frozen_place(split)
    return place is not None and _PINNED.fullmatch(split) is not None and not Path(place).exists()


def frozen_sha256(split: str) -> str | None:
    """The hash in a pinned frozen split, None for a split that needs no file. Raises ConfigError."""
    if frozen_place(split) is None:
        return None
    match = _PINNED.fullmatch(split)
    if match is None or not match[1].isprintable():
        raise ConfigError("split: a submitted job names its frozen split as frozen:NAME@SHA256, 64 hex digits")
    return match[2]


def listed(keys: Sequence[str]) -> str:
    """The first of some keys, and how many more there are."""
    return ", ".join(keys[:SHOWN]) + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")

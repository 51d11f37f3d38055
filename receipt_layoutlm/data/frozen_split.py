"""Frozen splits: files that assign pages or groups to training, validation and test set, named by their content."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from receipt_layoutlm.config import ConfigError
from receipt_layoutlm.data.page import DataError, validation_reason

SHOWN = 10  # keys listed in an error
_PINNED = re.compile(r"frozen:([^@]*)@([0-9a-f]{64})")


class FrozenSplit(BaseModel):
    """The keys of each set: page ids or groups. Pages not named are left out if `train` is given, else they train."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    by: Literal["page", "group"] = "page"
    train: tuple[str, ...] | None = None
    validation: tuple[str, ...] = Field(validation_alias=AliasChoices("validation", "evaluation"))
    test: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names_each_once(self) -> "FrozenSplit":
        counts = Counter((*(self.train or ()), *self.validation, *self.test))
        if twice := sorted(key for key, count in counts.items() if count > 1):
            raise ValueError(f"{shortened(twice)} is named more than once: name each {self.by} in one set")
        if not self.validation:
            raise ValueError("validation names nothing: name pages by which to select the best weights")
        return self

    def canonical(self) -> bytes:
        """The split as bytes that do not depend on the order of the keys in the file."""
        document = {
            "by": self.by,
            "train": None if self.train is None else sorted(self.train),
            "validation": sorted(self.validation),
            "test": sorted(self.test),
        }
        return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()

    @property
    def sha256(self) -> str:
        """SHA-256 of the canonical form, in lower-case hex."""
        return hashlib.sha256(self.canonical()).hexdigest()


def read_frozen(path: Path) -> FrozenSplit:
    """The split in a file. Raises DataError with the reason and an example."""
    try:
        return parse_frozen(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot be read: {error}", file=str(path)) from error
    except ValueError as error:
        raise DataError(str(error), file=str(path)) from error


def parse_frozen(content: bytes) -> FrozenSplit:
    """The split in a JSON document. Raises ValueError."""
    try:
        return FrozenSplit.model_validate_json(content)
    except ValidationError as error:
        example = '{"by": "page", "train": [...], "validation": [...], "test": [...]}, by page or by group'
        raise ValueError(f"{validation_reason(error)}; write a frozen split as {example}") from error


def frozen_place(split: str) -> str | None:
    """The text after `frozen:`, None for every other split."""
    return split.removeprefix("frozen:") if split.startswith("frozen:") else None


def pinned_frozen(name: str, frozen: FrozenSplit) -> str:
    """frozen:NAME@SHA256, the form in a job's config; the content is in the bucket."""
    return f"frozen:{name.replace('@', '-')}@{frozen.sha256}"


def is_pinned(split: str) -> bool:
    """Whether the split is frozen:NAME@SHA256 and not the name of an existing file."""
    place = frozen_place(split)
    return place is not None and _PINNED.fullmatch(split) is not None and not Path(place).exists()


def frozen_sha256(split: str) -> str | None:
    """The hash in frozen:NAME@SHA256, None for every other kind of split. Raises ConfigError."""
    if frozen_place(split) is None:
        return None
    match = _PINNED.fullmatch(split)
    if match is None or not match[1].isprintable():
        raise ConfigError("split: a submitted job must name its frozen split as frozen:NAME@SHA256, with 64 hex digits")
    return match[2]


def shortened(keys: Sequence[str]) -> str:
    """The first keys, and the number of the others."""
    return ", ".join(keys[:SHOWN]) + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")

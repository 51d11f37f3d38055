"""The comparability stamp of a run: the properties that must be equal before two scores are compared."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, model_validator

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.data.frozen_split import frozen_sha256
from receipt_layoutlm.data.splits import folds_of

STAMP = "comparability"
"""Key of the stamp in run.json and in a job's results."""

_HEADLINE = re.compile(r"^(negative_)?eval_[^,]*, ")


class Stamp(BaseModel):
    """Two runs with equal stamps were scored on the same words, with the same truth, by the same rule.

    sha256 covers all other fields, which are readable texts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str  # fingerprint
    eval_dataset: str  # fingerprint; empty when the validation set was split off
    split: str
    labels: str
    windows: str
    scorer: str
    evaluation: str  # name and size of the set, and a hash of its pages with their scored truth
    sha256: str

    @model_validator(mode="before")
    @classmethod
    def _without_headline(cls, document: object) -> object:
        """Stamps of earlier versions begin the scorer with the metric for the best; every run records all scores."""
        if not isinstance(document, Mapping) or not isinstance(scorer := document.get("scorer"), str):
            return document
        rule = _HEADLINE.sub("", scorer)
        return document if rule == scorer else _with_digest({**document, "scorer": rule})


FIELDS = tuple(name for name in Stamp.model_fields if name != "sha256")
TITLES = {
    "dataset": "dataset",
    "eval_dataset": "validation dataset",
    "split": "split",
    "labels": "label map",
    "windows": "window rule",
    "scorer": "scorer",
    "evaluation": "validation set",
}


def make_stamp(fields: Mapping[str, str]) -> Stamp:
    """The stamp of these fields, with its hash."""
    return Stamp.model_validate(_with_digest(fields))


def _with_digest(fields: Mapping[str, object]) -> dict[str, object]:
    document = json.dumps([[name, fields.get(name)] for name in FIELDS]).encode()
    return {**fields, "sha256": hashlib.sha256(document).hexdigest()}


def split_text(config: TrainConfig) -> str:
    """The options that select the evaluated pages; the seed only where the selection depends on it."""
    if config.eval_dataset is not None:
        return "none"
    if (sha256 := frozen_sha256(config.split)) is not None:
        return f"frozen {sha256}"
    if folds_of(config.split):
        return f"{config.split} test {config.test_ratio:g} seed {config.split_seed}"
    return f"{config.split} {config.train_ratio:g}/{config.val_ratio:g}/{config.test_ratio:g} seed {config.split_seed}"


def evaluation_text(part: str, truth: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Name, size and hash of a set; `truth` is its page ids, each with the tags that predictions are compared with.

    The tags are those after merges and whitelist, in reading order: a change of any of these rules changes the hash.
    """
    lines = sorted(json.dumps([page_id, list(tags)]) for page_id, tags in truth)
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return f"{part}, {len(lines)} pages, {digest[:16]}"


def stamp_of(results: Mapping[str, JsonValue] | None) -> Stamp | None:
    """The stamp in a job's results; None where there is none, as in jobs of earlier versions."""
    try:
        return Stamp.model_validate((results or {}).get(STAMP))
    except ValidationError:
        return None


def differences(one: Stamp, other: Stamp) -> list[str]:
    """Differing fields of two stamps, in words; empty when their runs are comparable."""
    return [
        f"{TITLES[name]}: {_short(first)} against {_short(second)}"
        for name in FIELDS
        if (first := getattr(one, name)) != (second := getattr(other, name))
    ]


def _short(text: str) -> str:
    """The first digits of a fingerprint, `none` for an empty text, or the text itself."""
    is_hash = len(text) == 64 and " " not in text
    return text[:12] if is_hash else text or "none"

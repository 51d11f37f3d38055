"""Checks of a submission's options beyond the types and bounds of each: in one line, with options as they are typed."""

import importlib.util
import json
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from receipt_layoutlm.config import RATIO_TOLERANCE, RATIOS, ConfigError, TrainConfig, with_whole_ratios
from receipt_layoutlm.flags import flag_of, typed
from receipt_layoutlm.minilm import INSTALL, PACKAGE
from receipt_layoutlm.references import is_hub_name, is_in_bucket
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import AccessDenied
from receipt_layoutlm.suggestions import nearest_name
from receipt_layoutlm.worker.prepare import find_weights

M = TypeVar("M", bound=BaseModel)

HIGH_RATE: Final = 1e-2
"""A learning rate above this trains no encoder of this kind."""

LARGEST: Final = 2**53
"""Of any option: the largest number to which every program can add one."""

LAYERS: Final[Mapping[str, int]] = {
    "minilm": 6,
    "microsoft/layoutlm-base-uncased": 12,
    "microsoft/layoutlm-large-uncased": 24,
}
"""Encoder layers of weights, without a download."""


UNSHOWN: Final = frozenset({"notify"})
"""Options whose refused value is not repeated: a URL that anyone may post to."""


def checked_options(model: type[M], values: Mapping[str, object], given: Collection[str]) -> M:
    """The model of these values. Raises ConfigError about the first bad one, if possible of those that were given."""
    for name, value in values.items():
        if isinstance(value, int | float) and LARGEST < abs(value) < float("inf"):
            raise ConfigError(f"{flag_of(name)} {value!r:.20}: should be a number of at most {LARGEST:,}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = error.errors()
        fields = [str(each["loc"][0]) for each in problems if each["loc"]]
        field = next((name for name in fields if name in given), fields[0] if fields else None)
        if field is None:
            raise ConfigError(_message(problems[0])) from None
        of_field = [each for each in problems if each["loc"] and each["loc"][0] == field]
        raise ConfigError(_refusal(field, values.get(field), of_field)) from None


def _refusal(field: str, value: object, problems: list[ErrorDetails]) -> str:
    """The option with its value, what it should be, and the nearest valid value where there is one."""
    text = " or ".join(dict.fromkeys(_message(each).removeprefix("Input should be ") for each in problems))
    is_bound = all(_message(each).startswith("Input should be ") for each in problems)
    words = [flag_of(field)] if field in UNSHOWN else typed(field, value)
    text = f"{shlex.join(words)}: {'should be ' if is_bound else ''}{text}"
    near = [each["ctx"][bound] for each in problems for bound in ("ge", "le") if bound in each.get("ctx", {})]
    for each in problems:
        if each["type"] == "literal_error":
            words = [word.strip(" '") for word in str(each["ctx"]["expected"]).replace(" or ", ",").split(",")]
            near += [word for word in [nearest_name(str(each["input"]), words)] if word]
    return text + (f"; the nearest is {flag_of(field)} {near[0]}" if near else "")


def _message(problem: ErrorDetails) -> str:
    if problem["type"] == "string_pattern_mismatch":  # queues and labels: no one reads a regular expression
        first = ", the first a letter" if problem["ctx"]["pattern"].startswith("^[A-Za-z][") else ""
        return f"use 1 to 64 letters, digits, '.', '_' and '-'{first}"
    text = problem["msg"].removeprefix("Value error, ")
    return re.sub(
        "a valid (integer|number), unable to parse .*",
        "a whole number" if "_int" in f"_{problem['type']}" else "a number",
        text,
    )


def check_ratios(values: Mapping[str, object], given: Collection[str]) -> None:
    """Raises ConfigError unless the given ratios leave pages in every set, and none in a set that was not asked for."""
    named = {name: value for name in RATIOS if name in given and isinstance(value := values.get(name), int | float)}
    if not named:
        return
    for name, value in named.items():
        if not (0 < value < 1 or (name == "test_ratio" and value == 0)):
            raise ConfigError(f"{flag_of(name)} {value:g}: should be between 0 and 1, e.g. {flag_of(name)} 0.2")
    total, shown = sum(named.values()), " and ".join(f"{flag_of(name)} {value:g}" for name, value in named.items())
    if set(named) == {"train_ratio", "val_ratio"} and total < 1 - RATIO_TOLERANCE:
        rest = f"{1 - total:g}"
        raise ConfigError(f"{shown} leave {rest} of the pages: add --test-ratio {rest}, or leave one of the two out")
    if {"train_ratio", "val_ratio"} <= set(named) and abs(total - 1) > RATIO_TOLERANCE:
        raise ConfigError(f"{shown} add up to {total:g}, not 1: leave one of them out")
    whole = with_whole_ratios(values)
    for name, purpose in (("train_ratio", "train on"), ("val_ratio", "validate on")):
        if isinstance(share := whole.get(name), int | float) and share <= RATIO_TOLERANCE:
            with_default = "" if {"val_ratio", "train_ratio"} & set(named) else f" with {flag_of('val_ratio')} 0.2"
            raise ConfigError(f"{shown}{with_default} leave no page to {purpose}: lower one of them")


def check_pretrained(config: TrainConfig, is_here: bool, open_bucket: Callable[[str], Bucket] | None) -> None:
    """Raises ConfigError if the weights are known not to exist, or to have fewer layers than the options name.

    `is_here`: the job runs on this machine, which then needs the weights. Without `open_bucket` those in a bucket are
    not looked up.
    """
    pretrained = config.pretrained
    if pretrained == "minilm":
        if is_here and importlib.util.find_spec(PACKAGE) is None:
            raise ConfigError(f"--pretrained minilm: the weights are not installed: {INSTALL}")
    elif Path(pretrained).is_dir():
        if not is_here:
            raise ConfigError(
                f"--pretrained {pretrained} is a folder of this machine, which a worker elsewhere does not read: copy "
                "it to s3://BUCKET/weights/NAME, or add --run-here"
            )
        if not (Path(pretrained) / "config.json").is_file():
            raise ConfigError(f"--pretrained {pretrained}: the folder has no config.json, so it holds no weights")
    elif "/" not in pretrained and nearest_name(pretrained, ["minilm"], cutoff=0.7):
        raise ConfigError(f"--pretrained {pretrained}: there are no such weights; did you mean --pretrained minilm?")
    elif is_in_bucket(pretrained):
        if open_bucket is not None:
            with suppress(AccessDenied):  # a worker may have the right
                find_weights(pretrained, open_bucket)
    elif not is_hub_name(pretrained):
        raise ConfigError(
            f"--pretrained {pretrained}: there is no such folder, and it is not a name on the model hub: use "
            "OWNER/NAME, minilm, or s3://BUCKET/PREFIX"
        )
    layers = _layers(pretrained)
    for name in ("layers", "freeze_layers"):
        value = getattr(config, name)
        if layers is not None and value is not None and value > layers:
            words = " ".join(typed(name, layers))
            raise ConfigError(f"{flag_of(name)} {value}: {pretrained} has {layers} layers; the nearest is {words}")
    if config.layers is not None and config.freeze_layers > config.layers:
        limit = config.layers
        raise ConfigError(
            f"--freeze-layers {config.freeze_layers}: --layers {limit} leaves no more than {limit}; "
            f"the nearest is --freeze-layers {limit}"
        )


def _layers(pretrained: str) -> int | None:
    """Encoder layers of the weights; None where only a download would tell."""
    path = Path(pretrained) / "config.json"
    if pretrained in LAYERS or not path.is_file():
        return LAYERS.get(pretrained)
    try:
        layers = json.loads(path.read_bytes()).get("num_hidden_layers")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return layers if isinstance(layers, int) else None


def doubtful(config: TrainConfig, training_pages: int | None) -> Iterator[str]:
    """Warnings about values that are valid and rarely meant."""
    for name in ("lr", "new_parameter_lr"):
        value = getattr(config, name)
        if value is not None and value > HIGH_RATE:
            yield f"{flag_of(name)} {value:g} is above {HIGH_RATE:g}, where training diverges: 5e-5 to 5e-4 is usual"
    step = config.batch_size * config.gradient_accumulation_steps
    if training_pages is not None and step > training_pages:
        what = " times --gradient-accumulation-steps" if config.gradient_accumulation_steps > 1 else ""
        yield (
            f"--batch-size{what} is {step}, more than the {training_pages} training pages, so that an epoch is one "
            f"step: the most that makes sense is --batch-size {training_pages}"
        )

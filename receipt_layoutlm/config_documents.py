"""Configs as documents: stored job configs, config.json, --config files, and the error for an unknown key."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError
from pydantic_core import from_json

from receipt_layoutlm.config import (
    CONFIG_VERSION,
    DEFAULT_TASK,
    TASKS,
    ConfigError,
    TrainConfig,
    config_class,
    with_whole_ratios,
)
from receipt_layoutlm.paths import DEFAULT_WORK_DIR
from receipt_layoutlm.suggestions import nearest_name

M = TypeVar("M", bound=BaseModel)

OTHER_NAMES: Final = {
    "learning_rate": "lr",
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "train_batch_size": "batch_size",
    "per_device_eval_batch_size": "eval_batch_size",
    "accumulate_grad_batches": "gradient_accumulation_steps",
    "model_name": "pretrained",
    "model_name_or_path": "pretrained",
    "dataset_name": "dataset",
    "dataset_path": "dataset",
    "output_dir": "work_dir",
    "lr_scheduler_type": "lr_schedule",
    "scheduler_type": "lr_schedule",
    "label_smoothing_factor": "label_smoothing",
    "use_class_weights": "class_weights",
    "metric_for_best_model": "metric_for_best",
    "eval_steps": "eval_every",
    "eval_strategy": "eval_every",
    "evaluation_strategy": "eval_every",
    "save_steps": "checkpoint_every",
    "save_total_limit": "keep_checkpoints",
    "max_seq_length": "max_length",
    "hidden_dropout_prob": "dropout",
    "gradient_clip_val": "max_grad_norm",
    "patience": "early_stopping_patience",
    "no_cuda": "device",
    "nproc_per_node": "processes",
    "random_state": "seed",
    "max_steps": "epochs",
    "warmup_steps": "warmup_ratio",
    "batch": "batch_size",
    "model": "pretrained",
    "weights": "pretrained",
    "tokenizer_name": "pretrained",
    "train_file": "dataset",
    "validation_split": "val_ratio",
    "test_size": "test_ratio",
    "bf16": "precision",
    "num_gpus": "processes",
    "gpus": "processes",
    "run_name": "job_name",
    "experiment_name": "experiment",
    "labels": "allowed_labels",
}
"""Names of options in other tools -> ours."""

RENAMED = {"eval_fraction": "val_ratio"}
"""Keys of earlier versions -> ours."""

BESIDE = frozenset({"given", "warnings", "recipe"})
"""Keys of a stored document that are no options."""


def to_document(
    config: TrainConfig, given: Mapping[str, str], warnings: Sequence[str] = (), recipe: str | None = None
) -> dict[str, JsonValue]:
    """What is stored as job_config: every resolved value, and beside them what else a person wants to know later.

    `given` says where each value that is not a default came from, `recipe` which one it was, `warnings` what the
    check of the data found at submit.
    """
    told: dict[str, JsonValue] = {**config.model_dump(mode="json"), "given": dict(given)}
    if recipe is not None:
        told["recipe"] = recipe
    if warnings:
        told["warnings"] = list(warnings)
    return told


def with_pin(document: Mapping[str, JsonValue], dataset: str, warnings: Sequence[str]) -> dict[str, JsonValue]:
    """A stored document with the pages that a worker has chosen, and what the check of them found."""
    return {**document, "dataset": dataset, **({"warnings": list(warnings)} if warnings else {})}


def from_document(document: Mapping[str, JsonValue]) -> TrainConfig:
    """Config of a stored document; raises ConfigError. A newer version is for a newer worker."""
    if not is_known_version(document):
        raise ConfigError(
            f"config_version {document.get('config_version')} is not {CONFIG_VERSION}: upgrade this worker"
        )
    values = {key: value for key, value in document.items() if key not in BESIDE and value is not None}
    given = document.get("given")
    if values.get("work_dir") == str(DEFAULT_WORK_DIR) and not (isinstance(given, dict) and "work_dir" in given):
        del values["work_dir"]  # earlier versions stored the default
    return parse_config(with_split_seed(with_whole_ratios(values)))


def with_split_seed(values: Mapping[str, object]) -> dict[str, object]:
    """Values of a stored config; in those of earlier versions one seed is also that of the split."""
    return {"split_seed": values.get("seed", TrainConfig.model_fields["split_seed"].default), **values}


def is_known_version(document: Mapping[str, JsonValue]) -> bool:
    """Whether this code understands a stored document."""
    return document.get("config_version") == CONFIG_VERSION


def missing_support(document: Mapping[str, JsonValue]) -> str | None:
    """What a stored document asks for and this installation does not have: a newer version, or a task."""
    if not is_known_version(document):
        return f"config_version {document.get('config_version')}"
    try:
        config_class(document.get("task", DEFAULT_TASK))
    except ConfigError:
        return f"task {document.get('task')!r}"
    return None


def read_config(text: str | bytes) -> TrainConfig:
    """Config of config.json in a run directory; raises pydantic's ValidationError, or ConfigError for its task."""
    try:
        values = from_json(text)
    except ValueError as error:
        raise ConfigError(f"config.json cannot be read: {error}") from None
    task = values.get("task", DEFAULT_TASK) if isinstance(values, dict) else DEFAULT_TASK
    return config_class(task).model_validate(with_split_seed(values) if isinstance(values, dict) else values)


def parse_config(values: Mapping[str, object]) -> TrainConfig:
    """Check values by name; raises ConfigError naming the first bad key and the nearest valid one."""
    return parse_model(config_class(values.get("task", DEFAULT_TASK)), values)


def parse_model(model: type[M], values: Mapping[str, object]) -> M:
    """A model from plain values; ConfigError says which key is wrong, and how."""
    for key in values:
        if key not in model.model_fields:
            raise unknown_key(key, model.model_fields)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        text = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}: {text} (got {first['input']!r})" if where else text) from None


def unknown_key(key: str, known: Iterable[str]) -> ConfigError:
    """The error for a key that does not exist, with the one that is meant."""
    names = list(known)
    if key in RENAMED:
        return ConfigError(f"unknown key {key!r}: it is called {RENAMED[key]!r} now")
    if (ours := OTHER_NAMES.get(key)) in names:
        return ConfigError(f"unknown key {key!r}: it is called {ours!r} here")
    for task in TASKS:
        if key in config_class(task).model_fields:
            return ConfigError(f"{key!r} is an option of task {task}")
    near = nearest_name(key, names, cutoff=0.5)
    hint = f"did you mean {near!r}?" if near else f"known keys are {', '.join(names)}"
    return ConfigError(f"unknown key {key!r}: {hint}")

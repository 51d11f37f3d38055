"""Options of a training run: defaults, bounds and help texts, stated once. Importable without torch.

TrainConfig holds the run options that all tasks share; each task extends it with its own options (configs/). The
flags of `layoutlm-cli train`, the keys of a --config file, the document stored as `job_config` and the trainer's
config.json all come from these models, and are flat: run options and task options side by side.
"""

import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from receipt_layoutlm.configs.recipes import COMMON_RECIPES, Recipe
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.metric_names import LOSS, check_metric, parse_guard

M = TypeVar("M", bound=BaseModel)

CONFIG_VERSION: Final = 1
DEFAULT_TASK: Final = "layoutlm"

TASKS: dict[str, str] = {
    "layoutlm": "receipt_layoutlm.configs.word_labels:WordLabelsConfig",
}
"""Task -> module:class of its config. An installed package adds tasks by entry points of the group ENTRY_POINTS."""

ENTRY_POINTS: Final = "receipt_layoutlm.tasks"

GROUPS: Final = ("data", "labels", "model", "loss", "optimisation", "model selection", "schedule", "place")
"""Groups of options in `train --help`, in their order."""

BASIC: Final = frozenset(
    {
        "dataset",
        "split",
        "val_ratio",
        "sample_size",
        "augment",
        "allowed_labels",
        "merge_amounts",
        "o_entity_ratio",
        "class_weights",
        "pretrained",
        "epochs",
        "batch_size",
        "lr",
        "metric_for_best",
        "early_stopping_patience",
    }
)
"""Options that a first training needs: `train --help` shows these, `--help-all` all."""

LabelName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]


def split_names(given: object) -> object:
    """Names, also several in one text with commas between them; `none` alone stands for no name."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list | tuple):
        return given
    names = tuple(name.strip() for text in texts for name in str(text).split(","))
    return () if names == ("none",) else names


LabelNames = Annotated[tuple[LabelName, ...], BeforeValidator(split_names)]

_KFOLD = re.compile(r"kfold:([1-9][0-9]{0,2})/([1-9][0-9]{0,2})")


def grouped(group: str) -> Callable[..., Any]:
    """Field() of an option that `--help` shows in this group."""
    assert group in GROUPS
    return partial(Field, json_schema_extra={"group": group})


_data, _model, _optimisation, _selection, _schedule, _place = (
    grouped(name) for name in ("data", "model", "optimisation", "model selection", "schedule", "place")
)


def _check_split(text: str) -> str:
    folds = _KFOLD.fullmatch(text)
    if folds and not (int(folds[1]) >= 2 and int(folds[2]) <= int(folds[1])):
        raise ValueError(f"{text} is no fold: write kfold:K/I with K at least 2 and I from 1 to K")
    if not folds and text not in ("group", "random") and not re.fullmatch("frozen:.+", text):
        raise ValueError("write group, random, frozen:FILE, or kfold:K/I, e.g. kfold:5/1")
    return text


class TrainConfig(BaseModel):
    """Resolved run options of a training; a task's config extends it. Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    trainer: ClassVar[str]  # module of the task's trainer; its prepare() returns a Task
    metrics: ClassVar[tuple[str, ...]] = ()  # of the task, beside the loss and the metrics of one label
    recipes: ClassVar[Mapping[str, Recipe]] = COMMON_RECIPES

    config_version: Literal[1] = CONFIG_VERSION
    task: str = Field(DEFAULT_TASK, description="Task to learn.")

    dataset: str | None = _data(None, description="Snapshot to train on: NAME or NAME@FINGERPRINT.")
    snapshot_on_worker: bool = _data(
        False,
        description="For large tables: the worker takes the snapshot of the table's VALID labels, not this command. "
        "The first attempt checks and pins the pages; later ones train on the same.",
    )
    over_lines: LabelNames = _data(
        (),
        description="Entities of this label continue over line breaks in the snapshot of the table, like those of "
        "ADDRESS_LINE and MERCHANT_NAME; repeat for more.",
    )
    eval_dataset: str | None = _data(
        None, description="Snapshot to use as validation set instead of a split: NAME or NAME@FINGERPRINT."
    )
    split: Annotated[str, AfterValidator(_check_split)] = _data(
        "group",
        max_length=512,
        description="How pages are split: group (no merchant in two sets), random (page by page), kfold:K/I (by group, "
        "fold I of K is the validation set) or frozen:FILE (JSON that lists page ids or groups per set).",
    )
    train_ratio: float = _data(
        0.8,
        gt=0,
        lt=1,
        description="Fraction of pages used for training; what is left out of the three follows from the others.",
    )
    val_ratio: float = _data(0.2, gt=0, lt=1, description="Fraction of pages used for validation (model selection).")
    test_ratio: float = _data(
        0.0, ge=0, lt=1, description="Fraction of pages held out as test set, scored once with the best weights."
    )
    split_seed: int = _data(
        42, ge=0, lt=2**32, description="Seed of the split, so that runs with different seeds have one validation set."
    )
    sample_size: int | None = _data(
        None, ge=2, description="Train on a seeded sample of N training pages; the validation set stays whole."
    )

    pretrained: str = _model(
        "microsoft/layoutlm-base-uncased",
        description="Weights to fine-tune: a hub name, a folder, s3://BUCKET/PREFIX (e.g. the best/ of a job), or "
        "'minilm' (no network needed).",
    )
    layers: int | None = _model(None, ge=1, description="Keep only the first N encoder layers.")
    dropout: float = _model(0.1, ge=0, lt=1, description="Dropout of hidden states; attention has none.")
    freeze_embeddings: bool = _model(False, description="Freeze the pretrained embeddings; fresh ones are trained.")
    freeze_layers: int = _model(0, ge=0, description="Freeze the lowest N encoder layers.")

    epochs: int = _optimisation(10, ge=1, description="Passes over the training set.")
    batch_size: int = _optimisation(8, ge=1, description="Windows in one micro-batch.")
    tokens_per_batch: int | None = _optimisation(
        None,
        ge=16,
        description="Cut micro-batches at N sub-tokens instead of at batch size, which bounds memory. The optimizer "
        "step stays the same.",
    )
    gradient_accumulation_steps: int = _optimisation(1, ge=1, description="Micro-batches in one optimizer step.")
    eval_batch_size: int | None = _optimisation(
        None, ge=1, description="Windows in one evaluation batch (default: batch size)."
    )
    lr: float = _optimisation(5e-5, gt=0, description="Peak learning rate.")
    lr_schedule: Literal["linear", "cosine"] = _optimisation("linear", description="Decay of the rate after its peak.")
    layer_lr_decay: float = _optimisation(
        1.0, gt=0, le=1, description="Layer-wise learning-rate decay: factor per layer from top to bottom; 1: none."
    )
    new_parameter_lr: float | None = _optimisation(
        None,
        gt=0,
        description="Peak learning rate of parameters without pretrained weights: the classifier, and the 2-D "
        "positions of a warm-started BERT (default: lr).",
    )
    warmup_ratio: float = _optimisation(0.1, ge=0, le=1, description="Share of the steps used for warm-up.")
    weight_decay: float = _optimisation(0.01, ge=0, description="Weight decay (never of biases and norms).")
    max_grad_norm: float = _optimisation(1.0, ge=0, description="Gradient clipping norm; 0 disables clipping.")
    seed: int = _optimisation(42, ge=0, lt=2**32, description="Seed of initial weights, order, dropout and sampling.")

    metric_for_best: str = _selection(LOSS, description="Metric for model selection and early stopping.")
    guard: str | None = _selection(
        None,
        description="Condition that new best weights have to meet: 'f1>=0.98*best', with any metric but a loss, so "
        "that one label does not improve at the cost of all others.",
    )
    early_stopping_patience: int | None = _selection(
        None, ge=1, description="Stop after N evaluations in a row without a new best."
    )
    eval_every: Literal["epoch"] | Annotated[int, Field(ge=1)] = _schedule(
        "epoch", description="Evaluate after each epoch or every N optimizer steps."
    )

    continues: str | None = Field(
        None, pattern=r"^[0-9a-f-]{36}@[0-9]+$", description="JOB_ID@STEP that this job continues (train --resume)."
    )

    checkpoint_every: float = _schedule(
        600, gt=0, description="Seconds between checkpoints, in addition to the one at each evaluation."
    )
    keep_checkpoints: Literal["all"] | Annotated[int, Field(ge=1)] = _schedule(
        2, description="Checkpoints kept in the bucket beside the best and the one before the last; all for every one."
    )
    hang_timeout: float = _schedule(
        900, ge=10, description="Seconds without a sign of progress after which the trainer is ended."
    )
    max_runtime: float | None = _schedule(
        None, gt=0, description="Seconds of running, all attempts together, after which the job is given up."
    )
    logging_steps: int = _schedule(10, ge=1, description="Optimizer steps between two progress events.")
    device: Literal["auto", "cpu", "cuda", "mps"] = _place("auto", description="Device to train on.")
    precision: Literal["auto", "fp32", "fp16", "bf16"] = _place(
        "auto",
        description="Mixed precision; auto: bf16, else fp16 where the GPU has it in hardware, fp32 on a CPU.",
    )
    processes: int = _place(
        1,
        ge=1,
        le=64,
        description="Data-parallel processes, one per GPU; the effective batch size does not change.",
    )
    threads: int | None = _place(None, ge=1, description="CPU threads (default: the CPUs it may use).")
    work_dir: str | None = _place(
        None,
        description="Folder of the run directories, with --local and --run-here (default: in the state folder).",
    )

    @field_validator("metric_for_best")
    @classmethod
    def _check_metric(cls, name: str) -> str:
        return check_metric(name, cls.metrics)

    @field_validator("guard")
    @classmethod
    def _check_guard(cls, text: str | None) -> str | None:
        if text is not None:
            check_metric(parse_guard(text).metric, cls.metrics)
        return text

    @model_validator(mode="before")
    @classmethod
    def _complete_ratios(cls, values: object) -> object:
        return with_whole_ratios(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _check_ratios(self) -> Self:
        if abs(sum(getattr(self, name) for name in RATIOS) - 1) > RATIO_TOLERANCE:
            shares = " + ".join(f"{getattr(self, name):g}" for name in RATIOS)
            raise ValueError(f"the ratios of the split, {shares}, do not add up to 1: leave one of them out")
        return self

    @property
    def effective_eval_batch_size(self) -> int:
        """Windows in one evaluation batch."""
        return self.eval_batch_size or self.batch_size

    def pretraining_epochs(self, training: int) -> int:
        """Epochs in front of the others, for a training set of this size."""
        return 0

    def halved(self, times: int) -> Self:
        """The same optimizer steps with micro-batches halved `times` times, as far as they divide."""
        size = self.batch_size
        for _ in range(times):
            size = max(part for part in range(1, max(1, size // 2) + 1) if size % part == 0)
        if size == self.batch_size:
            return self
        steps = self.gradient_accumulation_steps * (self.batch_size // size)
        smaller = {"batch_size": size, "gradient_accumulation_steps": steps}
        return self.model_copy(update={**smaller, "eval_batch_size": min(size, self.effective_eval_batch_size)})

    def without_unlearned(self, options: Collection[str], learned: Collection[str]) -> Self:
        """The config without the labels that these options name and the run does not learn."""
        return self

    def encoded_name(self, fingerprint: str) -> str | None:
        """Name under which attempts and machines share the encoding of a snapshot; None: the task shares none."""
        return None


def config_class(task: object) -> type[TrainConfig]:
    """Config of a task, built in or of an installed package; raises ConfigError."""
    place = TASKS.get(task) if isinstance(task, str) else None
    if place is not None:
        module, _, name = place.partition(":")
        found = getattr(import_module(module), name)
    else:
        installed = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
        if task not in installed:
            known = ", ".join([*TASKS, *sorted(installed)])
            raise ConfigError(f"unknown task {task!r}: known are {known}; a newer version may have it")
        found = installed[str(task)].load()
    assert isinstance(found, type) and issubclass(found, TrainConfig)
    return found


RATIOS = ("train_ratio", "val_ratio", "test_ratio")
RATIO_TOLERANCE = 1e-6


def with_whole_ratios(values: Mapping[str, object]) -> dict[str, object]:
    """Values of a config in which the shares that were not given follow from those that were.

    Documents of earlier versions have `eval_fraction` instead. What is no number is left to the model to refuse.
    """
    whole = dict(values)
    if "eval_fraction" in whole:
        whole.setdefault("val_ratio", whole.pop("eval_fraction"))
    given = {name: value for name in RATIOS if isinstance(value := whole.get(name), int | float)}
    if folds := _folds(whole.get("split")):
        fold = (1 - given.get("test_ratio", 0.0)) / folds
        return {**whole, "train_ratio": fold * (folds - 1), "val_ratio": fold}
    if len(given) == len(RATIOS) or not given:
        return whole
    if "test_ratio" not in given:
        given["test_ratio"] = 0.0 if len(given) == 1 else _rest(given)
    if "val_ratio" not in given:
        given["val_ratio"] = _rest(given) if "train_ratio" in given else TrainConfig.model_fields["val_ratio"].default
    given.setdefault("train_ratio", _rest(given))
    return {**whole, **given}


def _rest(given: Mapping[str, float]) -> float:
    return round(1 - sum(given.values()), 9)


def _folds(split: object) -> int | None:
    match = _KFOLD.fullmatch(split) if isinstance(split, str) else None
    return int(match[1]) if match else None


class ConfigError(UserError, ValueError):
    """A configuration that cannot be used; the text names the key and what would be valid."""

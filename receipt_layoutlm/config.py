"""What a training run is told: every option once, with its default, its bounds and its help text.

Importable without torch. The options of `layoutlm-cli train`, the keys of a `--config` file, the document
stored as `job_config` and the trainer's `config.json` are all this one model.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Final, Literal, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from receipt_layoutlm.errors import UserError
from receipt_layoutlm.metric_names import checked_guard, metric_name

M = TypeVar("M", bound=BaseModel)

CONFIG_VERSION: Final = 1
DEFAULT_WORK_DIR = "/tmp/receipt_layoutlm"

Augmentation = Literal["entities", "drop", "ocr", "boxes"]


def _names(given: object) -> object:
    """Names that may stand together with commas between them, each once, in the order in which they are done."""
    if not isinstance(given, list | tuple):
        return given
    names = [name for text in given for name in str(text).split(",")]
    known = get_args(Augmentation)
    return sorted(set(names), key=lambda name: known.index(name) if name in known else len(known))


def _is_pretrain_on(text: str) -> str:
    if not re.fullmatch(r"sample:[1-9][0-9]{0,5}", text):
        raise ValueError(f"{text} is no source of pages: write sample:N, say sample:1000, for N generated receipts")
    return text


LabelName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]

_KFOLD = re.compile(r"kfold:([1-9][0-9]{0,2})/([1-9][0-9]{0,2})")


def _is_split(text: str) -> str:
    folds = _KFOLD.fullmatch(text)
    if folds and not (int(folds[1]) >= 2 and int(folds[2]) <= int(folds[1])):
        raise ValueError(f"{text} is no fold: write kfold:K/I with K at least 2 and I from 1 to K")
    if not folds and text not in ("group", "random") and not re.fullmatch("frozen:.+", text):
        raise ValueError("write group, random, frozen:FILE, or kfold:K/I, say kfold:5/1")
    return text


class TrainConfig(BaseModel):
    """Resolved options of one training run. Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config_version: Literal[1] = CONFIG_VERSION
    task: Literal["layoutlm"] = Field("layoutlm", description="What is learned.")

    # data
    dataset: str | None = Field(None, description="Snapshot to train on: NAME or NAME@FINGERPRINT.")
    snapshot_on_worker: bool = Field(
        False,
        description="For large tables: the worker snapshots the table's VALID labels, not this command. Its first "
        "attempt checks and pins the pages, and every later one trains on the same.",
    )
    over_lines: tuple[LabelName, ...] = Field(
        (),
        description="An entity of this label goes on over a line break in the snapshot that is taken of the table, as "
        "those of ADDRESS_LINE and MERCHANT_NAME do; repeat for more.",
    )
    eval_dataset: str | None = Field(
        None, description="Snapshot to evaluate on instead of a split: NAME or NAME@FINGERPRINT."
    )
    split: Annotated[str, AfterValidator(_is_split)] = Field(
        "group",
        max_length=512,
        description="How pages are divided: group (no merchant on two sides), random (page by page), kfold:K/I (by "
        "group, the I-th of K folds evaluates) or frozen:FILE (JSON that lists page ids or groups per part).",
    )
    train_ratio: float = Field(
        0.8,
        gt=0,
        lt=1,
        description="Share of the pages to train on; the three shares add up to 1, one may be left out.",
    )
    val_ratio: float = Field(0.2, gt=0, lt=1, description="Share that is evaluated on to choose the best weights.")
    test_ratio: float = Field(
        0.0, ge=0, lt=1, description="Share kept apart: the best weights are scored on it once, at the end."
    )
    sample_size: int | None = Field(
        None,
        ge=2,
        description="Train on a seeded sample of N training pages; evaluation keeps all of its pages.",
    )
    augment: Annotated[tuple[Augmentation, ...], BeforeValidator(_names)] = Field(
        (),
        description="Change the training pages anew in each epoch, by some or all of: entities (other merchants, "
        "addresses, dates and amounts), drop (words are missing), ocr (characters misread), boxes (moved, scaled, "
        "jittered). Helps with merchants that the training part does not have; evaluation is untouched.",
    )
    pretrain_on: Annotated[str, AfterValidator(_is_pretrain_on)] | None = Field(
        None,
        description="First train on generated receipts: sample:N goes through N of them once, in as many epochs of the "
        "usual length as that takes; they come on top of `epochs`. Needs Faker.",
    )

    # labels
    allowed_labels: tuple[LabelName, ...] = Field(
        (), description="Keep this label (tested after merging); repeat for more. None given: all labels."
    )
    merge_amounts: bool = Field(
        False, description="Merge LINE_TOTAL, SUBTOTAL, TAX and GRAND_TOTAL into AMOUNT (preset 'amounts')."
    )
    merge_preset: str | None = Field(None, description="A named set of merges: amounts, dates, address.")
    label_merges: dict[LabelName, tuple[LabelName, ...]] = Field(
        {}, description='Merges as JSON: {"TARGET": ["SOURCE", ...]}; a target "O" drops the sources.'
    )
    o_entity_ratio: float | None = Field(
        None,
        ge=0,
        description="Supervise R words O per entity word, all where there are fewer; drawn anew each epoch, evaluation "
        "untouched.",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the target that goes to all classes alike, so that the model is less sure of itself; 0.1 "
        "is usual.",
    )
    focal_gamma: float = Field(
        0.0,
        ge=0,
        description="Focal loss: a word counts (1-p)^G as much, where p is how sure the model is of its true class, so "
        "that easy words count little. 0: off, 2 is usual.",
    )
    class_weights: Literal["none", "inverse", "sqrt-inverse", "effective", "balanced"] = Field(
        "none",
        description="Weigh words of rare labels more in the loss, by their number in the training part: inverse (words "
        "O per word of the label), sqrt-inverse (its root), effective (inverse of at most some 10,000 words), balanced "
        "(each label as much in all). Every scheme buys recall with precision, inverse too much of it.",
    )
    class_weight_clip: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.1, 10.0), description="Bounds of these weights: two numbers, LO HI."
    )
    label_weight: dict[LabelName, PositiveFloat] = Field(
        {},
        description="Words of one label weigh so many times as much in the loss, on top of any class weights: "
        "PRODUCT_NAME=2; repeat for more.",
    )
    balanced_sampling: bool = Field(
        False, description="Show pages with rare labels more often; how often each label was seen is recorded."
    )

    # model
    pretrained: str = Field(
        "microsoft/layoutlm-base-uncased",
        description="Weights to start from: a hub name, a folder, s3://BUCKET/PREFIX (say, the best/ of a job), or "
        "'minilm' (no network needed).",
    )
    layers: int | None = Field(None, ge=1, description="Keep only the first N encoder layers.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout of hidden states; attention has none.")
    max_length: int = Field(512, ge=16, le=512, description="Sub-tokens in one window, special tokens included.")
    max_sub_tokens: int | None = Field(
        None,
        ge=1,
        description="Read only the first N sub-tokens of a word. Numbers and codes have many: pages become shorter.",
    )

    decoding: Literal["argmax", "viterbi"] = Field(
        "viterbi",
        description="How words become tags: each by itself, or the best sequence in which every I- goes on with its "
        "label. Both scores are recorded.",
    )

    single_valued_labels: tuple[LabelName, ...] = Field(
        (),
        description="Keep only the most confident entity of this label on each page; repeat for more. On receipts say "
        "MERCHANT_NAME, ADDRESS_LINE and GRAND_TOTAL.",
    )

    # what is best
    metric_for_best: Annotated[str, AfterValidator(metric_name)] = Field(
        "f1",
        description="Choose the best weights, and stop early, by f1, macro_f1, field_f1, precision, recall, loss, or "
        "one of a label, say f1_GRAND_TOTAL.",
    )
    guard: Annotated[str, AfterValidator(checked_guard)] | None = Field(
        None,
        description="What new best weights have to keep: 'f1>=0.98*best', with any metric that is not a loss, so that "
        "one label is not bought with all others.",
    )

    # optimisation
    epochs: int = Field(10, ge=1, description="Passes over the training part.")
    batch_size: int = Field(8, ge=1, description="Windows in one micro-batch.")
    tokens_per_batch: int | None = Field(
        None,
        ge=16,
        description="Compute a step in pieces of at most N sub-tokens, not of batch size windows, which bounds memory. "
        "A step still learns from batch size times accumulation steps windows, with the same result.",
    )
    gradient_accumulation_steps: int = Field(1, ge=1, description="Micro-batches in one optimizer step.")
    eval_batch_size: int | None = Field(
        None, ge=1, description="Windows in one evaluation batch (default: batch size)."
    )
    lr: float = Field(5e-5, gt=0, description="Peak learning rate.")
    lr_schedule: Literal["linear", "cosine"] = Field("linear", description="How the rate falls after its peak.")
    layer_lr_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Each layer further down learns at this share of the rate of the one above it; 1: all alike.",
    )
    new_parameter_lr: float | None = Field(
        None,
        gt=0,
        description="Peak rate of parameters that no pretrained weights were read into: the classifier, and the 2-D "
        "positions of a warm-started BERT (default: lr).",
    )
    freeze_embeddings: bool = Field(False, description="Keep the pretrained embeddings as they are; fresh ones learn.")
    freeze_layers: int = Field(0, ge=0, description="Keep the N lowest encoder layers as they are.")
    warmup_ratio: float = Field(0.1, ge=0, le=1, description="Share of the steps in which the rate rises to its peak.")
    weight_decay: float = Field(0.01, ge=0, description="Decay of weights (never of biases and norms).")
    max_grad_norm: float = Field(1.0, ge=0, description="Clip gradients to this norm; 0 turns clipping off.")
    early_stopping_patience: int | None = Field(
        None, ge=1, description="Stop after N evaluations in a row without a new best."
    )
    seed: int = Field(42, ge=0, lt=2**32, description="Seed of initial weights, order, dropout, sampling and split.")

    continues: str | None = Field(
        None, pattern=r"^[0-9a-f-]{36}@[0-9]+$", description="JOB_ID@STEP whose training goes on here (train --resume)."
    )

    # rhythm and place
    eval_every: Literal["epoch"] | Annotated[int, Field(ge=1)] = Field(
        "epoch", description="Evaluate each epoch or every N optimizer steps."
    )
    checkpoint_every: float = Field(
        600, gt=0, description="Seconds between checkpoints beside the one at each evaluation."
    )
    keep_checkpoints: int = Field(
        2, ge=1, description="Checkpoints kept in the bucket beside the best and the one before the last."
    )
    hang_timeout: float = Field(
        900, ge=10, description="Seconds without any sign of progress (one a minute is sure) that end the trainer."
    )
    max_runtime: float | None = Field(
        None, gt=0, description="Seconds of running, all attempts together, after which the job is given up."
    )
    logging_steps: int = Field(10, ge=1, description="Optimizer steps between two progress events.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Where to compute.")
    precision: Literal["auto", "fp32", "fp16", "bf16"] = Field(
        "auto", description="Number format; auto: bf16, else fp16 where a GPU has it in hardware, fp32 on a CPU."
    )
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that train together, one on each GPU; the optimizer's steps stay as they are.",
    )
    threads: int | None = Field(None, ge=1, description="Threads to compute with (default: the CPUs it may use).")
    work_dir: str = Field(DEFAULT_WORK_DIR, description="Folder on the worker that holds the run directories.")

    @model_validator(mode="before")
    @classmethod
    def _with_whole_ratios(cls, values: object) -> object:
        return with_whole_ratios(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _no_contradictions(self) -> Self:
        if abs(sum(getattr(self, name) for name in RATIOS) - 1) > RATIO_TOLERANCE:
            shares = " + ".join(f"{getattr(self, name):g}" for name in RATIOS)
            raise ValueError(f"train_ratio + val_ratio + test_ratio is {shares}, not 1: leave one of them out")
        if self.class_weight_clip[0] > self.class_weight_clip[1]:
            raise ValueError("class_weight_clip: give the lower bound first")
        if self.merge_amounts and self.merge_preset is not None:
            raise ValueError("merge_amounts is merge_preset=amounts: give one of the two")
        return self

    @property
    def generated_pages(self) -> int:
        """Receipts of the first phase; 0 if there is none."""
        return int(self.pretrain_on.removeprefix("sample:")) if self.pretrain_on else 0

    @property
    def effective_eval_batch_size(self) -> int:
        """Windows in one evaluation batch."""
        return self.eval_batch_size or self.batch_size


def halved(config: TrainConfig, times: int) -> TrainConfig:
    """The same optimizer steps from micro-batches that many times half as large, as far as they divide."""
    if config.tokens_per_batch is not None:
        fewer = max(config.max_length, config.tokens_per_batch // 2**times)
        return config.model_copy(update={"tokens_per_batch": min(fewer, config.tokens_per_batch)})
    size = config.batch_size
    for _ in range(times):
        size = max(part for part in range(1, max(1, size // 2) + 1) if size % part == 0)
    if size == config.batch_size:
        return config
    steps = config.gradient_accumulation_steps * (config.batch_size // size)
    smaller = {"batch_size": size, "gradient_accumulation_steps": steps}
    return config.model_copy(update={**smaller, "eval_batch_size": min(size, config.effective_eval_batch_size)})


RATIOS = ("train_ratio", "val_ratio", "test_ratio")
RATIO_TOLERANCE = 1e-6
RENAMED = {"eval_fraction": "val_ratio"}


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


BESIDE = frozenset({"given", "warnings"})
"""Keys of a stored document that are no options."""


def to_document(config: TrainConfig, given: Mapping[str, str], warnings: Sequence[str] = ()) -> dict[str, JsonValue]:
    """What is stored as job_config: every resolved value, and beside them what else a person wants to know later.

    `given` says where each explicit value came from, `warnings` what the check of the data found at submit.
    """
    told: dict[str, JsonValue] = {**config.model_dump(mode="json"), "given": dict(given)}
    if warnings:
        told["warnings"] = list(warnings)
    return told


def with_pin(document: Mapping[str, JsonValue], dataset: str, warnings: Sequence[str]) -> dict[str, JsonValue]:
    """A stored document with the pages that a worker has chosen, and what the check of them found."""
    return {**document, "dataset": dataset, **({"warnings": list(warnings)} if warnings else {})}


def from_document(document: Mapping[str, JsonValue]) -> TrainConfig:
    """The config of a stored document; raises ConfigError. A newer version is for a newer worker."""
    if not is_known_version(document):
        raise ConfigError(
            f"config_version {document.get('config_version')} is not {CONFIG_VERSION}: upgrade this worker"
        )
    values = {key: value for key, value in document.items() if key not in BESIDE and value is not None}
    return parse_config(with_whole_ratios(values))


def is_known_version(document: Mapping[str, JsonValue]) -> bool:
    """Whether this code understands a stored document."""
    return document.get("config_version") == CONFIG_VERSION


def parse_config(values: Mapping[str, object]) -> TrainConfig:
    """Check values by name; raises ConfigError naming the first bad key and the nearest valid one."""
    return parse_model(TrainConfig, values)


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
    """The error for a key that does not exist, with the nearest that does."""
    names = list(known)
    if key in RENAMED:
        return ConfigError(f"unknown key {key!r}: it is called {RENAMED[key]!r} now")
    near = get_close_matches(key, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(names)}"
    return ConfigError(f"unknown key {key!r}: {hint}")

"""Options of the task `layoutlm`: a label for each word of a page."""

import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, Final, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, model_validator

from receipt_layoutlm.config import LabelName, LabelNames, TrainConfig, grouped, split_names
from receipt_layoutlm.configs.recipes import WORD_LABELS_RECIPES, Recipe

Augmentation = Literal["entities", "drop", "ocr", "boxes"]
ClassWeightScheme = Literal["none", "inverse", "sqrt-inverse", "effective", "balanced"]

ENCODING_VERSION = 2
"""Raised with every change of the code that decides how pages are encoded; a test notices such a change."""

TOKENS_PER_BATCH: Final = 4096
"""Sub-tokens of a batch in inference, which bounds its memory."""

_data, _labels, _model, _loss = (grouped(name) for name in ("data", "labels", "model", "loss"))


def _augmentations(given: object) -> object:
    """Names, each once, in the order of application."""
    names = split_names(given)
    if not isinstance(names, tuple):
        return names
    known = get_args(Augmentation)
    return sorted(set(names), key=lambda name: known.index(name) if name in known else len(known))


def _check_pretrain_on(text: str) -> str:
    if not re.fullmatch(r"sample:[1-9][0-9]{0,5}", text):
        raise ValueError(f"{text} is no source of pages: write sample:N, e.g. sample:1000 for N generated receipts")
    return text


class WordLabelsConfig(TrainConfig):
    """Run options and those of the task `layoutlm`."""

    task: Literal["layoutlm"] = Field("layoutlm", description=TrainConfig.model_fields["task"].description)
    trainer: ClassVar[str] = "receipt_layoutlm.training.tasks.word_labels.task"
    metrics: ClassVar[tuple[str, ...]] = ("f1", "macro_f1", "field_f1", "precision", "recall")
    recipes: ClassVar[Mapping[str, Recipe]] = WORD_LABELS_RECIPES

    augment: Annotated[tuple[Augmentation, ...], BeforeValidator(_augmentations)] = _data(
        (),
        description="Augment the training pages, drawn anew in each epoch: entities (exchange merchants, addresses, "
        "dates and amounts), drop (missing words), ocr (misread characters), boxes (moved, scaled, jittered). Helps "
        "with unseen merchants; the validation set is not augmented.",
    )
    pretrain_on: Annotated[str, AfterValidator(_check_pretrain_on)] | None = _data(
        None,
        description="Pre-train on generated receipts first: sample:N passes over N of them once, in epochs of the "
        "usual length that are added to --epochs. Needs Faker.",
    )

    allowed_labels: LabelNames = _labels(
        (), description="Keep only this label (tested after merging); repeat for more. Default: all labels."
    )
    merge_amounts: bool = _labels(
        False, description="Merge LINE_TOTAL, SUBTOTAL, TAX and GRAND_TOTAL into AMOUNT (preset 'amounts')."
    )
    merge_preset: str | None = _labels(None, description="Named set of merges: amounts, dates, address.")
    label_merges: dict[LabelName, tuple[LabelName, ...]] = _labels(
        {}, description='Merges as JSON: {"TARGET": ["SOURCE", ...]}; a target "O" drops the sources.'
    )
    o_entity_ratio: float | None = _labels(
        None,
        ge=0,
        description="Supervise at most R O words per entity word, drawn anew in each epoch; the validation set is not "
        "changed.",
    )
    balanced_sampling: bool = _labels(
        False, description="Oversample pages with rare labels; the number of times each label was seen is recorded."
    )
    decoding: Literal["argmax", "viterbi"] = _labels(
        "viterbi",
        description="Decoding: per-word argmax, or Viterbi over valid IOB2 sequences. Both scores are recorded.",
    )
    single_valued_labels: LabelNames = _labels(
        (),
        description="Keep only the most confident entity of this label on each page; repeat for more. On receipts: "
        "MERCHANT_NAME, ADDRESS_LINE and GRAND_TOTAL.",
    )

    label_smoothing: float = _loss(
        0.0, ge=0, lt=1, description="Label smoothing: share of the target spread over all classes; 0.1 is typical."
    )
    focal_gamma: float = _loss(0.0, ge=0, description="Focal loss exponent gamma; 0 disables it, 2 is typical.")
    class_weights: ClassWeightScheme = _loss(
        "none",
        description="Class weights by the word counts of the training set: inverse, sqrt-inverse, effective (effective "
        "number of samples) or balanced. All schemes trade precision for recall; `inverse` usually too much.",
    )
    class_weight_clip: tuple[PositiveFloat, PositiveFloat] = _loss(
        (0.1, 10.0), description="Bounds of the class weights: LO HI."
    )
    label_weight: dict[LabelName, PositiveFloat] = _loss(
        {}, description="Multiply the loss of one label's words, on top of class weights: PRODUCT_NAME=2; repeatable."
    )

    max_length: int = _model(512, ge=16, le=512, description="Maximum sub-tokens of a window, special tokens included.")
    max_sub_tokens: int | None = _model(
        None,
        ge=1,
        description="Truncate each word to its first N sub-tokens. Numbers and codes have many; pages get shorter.",
    )

    metric_for_best: str = Field(
        "f1",
        description="Metric for model selection and early stopping: f1, macro_f1, field_f1, precision, recall, loss, "
        "or a label's, e.g. f1_GRAND_TOTAL.",
        json_schema_extra=TrainConfig.model_fields["metric_for_best"].json_schema_extra,
    )

    @model_validator(mode="after")
    def _check_word_labels(self) -> Self:
        if self.class_weight_clip[0] > self.class_weight_clip[1]:
            low, high = (f"{bound:g}" for bound in self.class_weight_clip)
            raise ValueError(f"--class-weight-clip {low} {high}: give the lower bound first: {high} {low}")
        if self.merge_amounts and self.merge_preset is not None:
            raise ValueError("--merge-amounts is --merge-preset amounts: give one of the two")
        return self

    def without_unlearned(self, options: Collection[str], learned: Collection[str]) -> Self:
        if "single_valued_labels" not in options:
            return self
        kept = tuple(label for label in self.single_valued_labels if label in learned)
        return self.model_copy(update={"single_valued_labels": kept})

    @property
    def generated_pages(self) -> int:
        """Receipts of the pre-training phase; 0 without one."""
        return int(self.pretrain_on.removeprefix("sample:")) if self.pretrain_on else 0

    def pretraining_epochs(self, training: int) -> int:
        return math.ceil(self.generated_pages / max(training, 1))

    def halved(self, times: int) -> Self:
        """See TrainConfig.halved; a budget of sub-tokens is halved down to one window."""
        if self.tokens_per_batch is None:
            return super().halved(times)
        fewer = max(self.max_length, self.tokens_per_batch // 2**times)
        return self.model_copy(update={"tokens_per_batch": min(fewer, self.tokens_per_batch)})

    def encoded_name(self, fingerprint: str) -> str:
        """Name of the shared encoding of a snapshot; labels, split and training options have no part in it.

        The worker knows no tokenizers, so the name of the weights stands for theirs. The folder says itself how it
        was made, and only what was made with the very tokenizer of a run is used.
        """
        windows = [self.max_length, self.max_sub_tokens]
        document = [ENCODING_VERSION, self.task, fingerprint, self.pretrained, *windows]
        return hashlib.sha256(json.dumps(document).encode()).hexdigest()


INFERENCE: Final = "inference.json"


class InferenceOptions(BaseModel):
    """Options of a run that its predictions need too: inference.json beside the weights. Unknown keys are ignored.

    A model without the file, from an earlier version or another tool, is used with these defaults.
    """

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    max_length: int = WordLabelsConfig.model_fields["max_length"].default
    max_sub_tokens: int | None = None
    decoding: Literal["argmax", "viterbi"] = WordLabelsConfig.model_fields["decoding"].default
    single_valued_labels: tuple[str, ...] = ()
    temperature: PositiveFloat = 1.0
    """Divisor of the logits that calibrates confidences; fitted on the validation set."""

    @classmethod
    def of(cls, config: WordLabelsConfig, temperature: float) -> Self:
        shared = {name: getattr(config, name) for name in cls.model_fields if name in WordLabelsConfig.model_fields}
        return cls(temperature=temperature, **shared)

    def config(self, pretrained: str, device: Literal["auto", "cpu", "cuda", "mps"]) -> WordLabelsConfig:
        """The config of a run that would predict like this."""
        shared = self.model_dump(include=set(WordLabelsConfig.model_fields))
        return WordLabelsConfig(pretrained=pretrained, device=device, tokens_per_batch=TOKENS_PER_BATCH, **shared)

"""Predictions of a fine-tuned model for pages, by the code that validates in training, on torch or onnxruntime."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from pydantic import ValidationError

from receipt_layoutlm.configs.word_labels import INFERENCE, InferenceOptions, WordLabelsConfig
from receipt_layoutlm.data.labels import LABEL_MAP, LabelError, LabelMap
from receipt_layoutlm.data.page import Page, validation_reason
from receipt_layoutlm.data.snapshot import label_counts
from receipt_layoutlm.inference.certainty import certainties
from receipt_layoutlm.inference.extraction import PagePrediction
from receipt_layoutlm.inference.runtime import Device, NotAModel, Runtime, RuntimeName
from receipt_layoutlm.run.manifest import MANIFEST, MODEL, ONNX_MODEL, sha256_of, verify
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPages, select
from receipt_layoutlm.training.tasks.word_labels.inputs.windows import encode_pages
from receipt_layoutlm.training.tasks.word_labels.scoring.decoding import (
    FloatArray,
    confidences,
    decode,
    log_softmax,
)

if TYPE_CHECKING:
    from receipt_layoutlm.training.tasks.word_labels.evaluation import Predictions


DEFAULTS_NOTE = (
    f"the model has no {INFERENCE}, an earlier version wrote it: confidences are not calibrated, and decoding and "
    "window length are the defaults"
)


def nothing(*_: object) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Predictor:
    """A model with its tokenizer, labels and options. May be used from several threads."""

    runtime: Runtime
    label_map: LabelMap
    config: WordLabelsConfig
    temperature: float
    digest: str
    """SHA-256 of the model's weights."""
    notes: tuple[str, ...]

    @classmethod
    def load(
        cls, folder: Path, device: Device = "auto", threads: int | None = None, runtime: RuntimeName = "auto"
    ) -> Self:
        """Load a folder as `job pull` or `model export` writes it, or best/ of a run directory.

        auto: onnxruntime for an exported model, else torch. `threads` are torch's, of the process, or the session's.
        Raises DamagedFolder, NotAModel, ModelLoadError, and ConfigError for a device that is not here.
        """
        is_exported = (folder / ONNX_MODEL).is_file()
        is_onnx = runtime == "onnx" or (runtime == "auto" and is_exported)
        weights = ONNX_MODEL if is_onnx else MODEL
        if not (folder / weights).is_file():
            raise NotAModel(_missing(folder, weights))
        verified = verify(folder).files if (folder / MANIFEST).exists() else {}
        digest = verified[weights].sha256 if weights in verified else sha256_of(folder / weights)
        label_map = _read_label_map(folder)
        options = _read_options(folder)
        notes = () if options is not None else (DEFAULTS_NOTE,)
        options = options or InferenceOptions()
        config = options.config(str(folder), device)
        opened: Runtime
        if is_onnx:  # imported on use: onnxruntime needs no torch, and torch no onnxruntime
            from receipt_layoutlm.inference.onnx_runtime import OnnxRuntime

            if device not in ("auto", "cpu"):
                raise NotAModel(f"an exported model runs on the CPU: leave out --device {device}")
            opened = OnnxRuntime.load(folder, len(label_map.names), threads)
        else:
            from receipt_layoutlm.inference.torch_runtime import TorchRuntime

            opened = TorchRuntime.load(folder, config, label_map, threads)
        return cls(
            runtime=opened,
            label_map=label_map,
            config=config,
            temperature=options.temperature,
            digest=digest,
            notes=notes,
        )

    def predict(self, pages: Sequence[Page], on_batch: Callable[[], None] = nothing) -> list[PagePrediction]:
        """Predict pages; their tags are ignored. `on_batch` is called before each batch and may raise to stop."""
        names, config = self.label_map.names, self.config
        encoded = self._encode(pages, LabelMap({}, self.label_map.labels))
        log_probs = self.runtime.score(encoded, on_batch).log_probs
        tags = decode(log_probs, names, config.decoding, config.single_valued_labels)
        calibrated = [self.calibrated(page) for page in log_probs]
        of_words = confidences(calibrated, tags, names)
        return [
            PagePrediction(
                order=tuple(page.order.tolist()),
                tags=tuple(page_tags),
                confidences=tuple(p for p in page_confidences if p is not None),
                certainties=tuple(certainties(page.words, page_tags, page_log_probs, names)),
            )
            for page, page_tags, page_confidences, page_log_probs in zip(
                encoded.pages, tags, of_words, calibrated, strict=True
            )
        ]

    def score(self, pages: Sequence[Page], on_batch: Callable[[], None] = nothing) -> "Predictions":
        """Predict labelled pages and score them by the code that validates in training.

        Tags are mapped by the model's merges and labels. Raises LabelError if the pages have none of its labels.
        """
        from receipt_layoutlm.training.tasks.word_labels.evaluation import scored

        known = {self.label_map.merged(label) for label in label_counts(pages)}
        if not known & set(self.label_map.labels):
            raise LabelError(
                f"the pages have none of the model's labels ({', '.join(self.label_map.labels)}) but "
                f"{', '.join(sorted(known)) or 'no labels'}: name labelled pages of the same kind"
            )
        encoded = self._encode(pages, self.label_map)
        words = self.runtime.score(encoded, on_batch)
        return scored(words, self.label_map.names, encoded, self.label_map.labels, self.config)

    def calibrated(self, log_probs: FloatArray) -> FloatArray:
        """(words, classes) log-probabilities at the model's temperature."""
        return log_softmax(log_probs / np.float32(self.temperature))

    def _encode(self, pages: Sequence[Page], label_map: LabelMap) -> EncodedPages:
        config = self.config
        numbered = list(pages)
        if len({page.page_id for page in pages}) < len(pages):  # renamed only then: each page would be checked again
            numbered = [replace(page, page_id=str(number)) for number, page in enumerate(pages)]
        features = encode_pages(numbered, self.runtime.tokenizer, config.max_length, nothing, config.max_sub_tokens)
        return select(features, [page.page_id for page in numbered], label_map)


def _missing(folder: Path, weights: str) -> str:
    if weights == ONNX_MODEL:
        return f"{folder} holds no {ONNX_MODEL}: export the model with `layoutlm-cli model export --onnx`"
    if (folder / ONNX_MODEL).is_file():
        return f"{folder} is an exported model, which torch does not read: use --runtime onnx"
    return f"{folder} holds no {MODEL}: name a folder that 'layoutlm-cli job pull' wrote"


def _read_label_map(folder: Path) -> LabelMap:
    try:
        return LabelMap.from_json((folder / LABEL_MAP).read_bytes())
    except FileNotFoundError as error:
        raise NotAModel(f"{folder} has no {LABEL_MAP}, so its labels are unknown: pull the model again") from error
    except ValueError as error:
        raise NotAModel(f"{folder / LABEL_MAP} is damaged: {error}") from error


def _read_options(folder: Path) -> InferenceOptions | None:
    """None for a model of an earlier version, which has no such file."""
    try:
        return InferenceOptions.model_validate_json((folder / INFERENCE).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise NotAModel(f"{folder / INFERENCE} is damaged: {validation_reason(error)}") from error

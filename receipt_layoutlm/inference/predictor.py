"""Predictions of a fine-tuned model for pages, by the code that validates in training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import ValidationError
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from receipt_layoutlm.configs.word_labels import InferenceOptions, WordLabelsConfig
from receipt_layoutlm.data.labels import LabelError, LabelMap
from receipt_layoutlm.data.page import Page, validation_reason
from receipt_layoutlm.data.snapshot import label_counts
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.inference.certainty import certainties
from receipt_layoutlm.inference.extraction import PagePrediction
from receipt_layoutlm.run.manifest import MANIFEST, sha256_of, verify
from receipt_layoutlm.training.checkpoint import MODEL
from receipt_layoutlm.training.distributed import SINGLE
from receipt_layoutlm.training.precision import available, choose
from receipt_layoutlm.training.setup import resolve_device
from receipt_layoutlm.training.task import Compute
from receipt_layoutlm.training.tasks.pretrained import load_fast_tokenizer
from receipt_layoutlm.training.tasks.word_labels.evaluation import Predictions, predict
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPages, select
from receipt_layoutlm.training.tasks.word_labels.inputs.windows import encode_pages
from receipt_layoutlm.training.tasks.word_labels.layoutlm import load_model
from receipt_layoutlm.training.tasks.word_labels.scoring.decoding import decode
from receipt_layoutlm.training.tasks.word_labels.scoring.words import FloatArray, WordModel, confidences, score_words
from receipt_layoutlm.training.tasks.word_labels.task import INFERENCE, LABEL_MAP

Device = Literal["auto", "cpu", "cuda", "mps"]


DEFAULTS_NOTE = (
    f"the model has no {INFERENCE}, an earlier version wrote it: confidences are not calibrated, and decoding and "
    "window length are the defaults"
)


def nothing(*_: object) -> None:
    return None


class NotAModel(UserError):
    """A folder that holds no fine-tuned model; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Predictor:
    """A model with its tokenizer, labels and options. May be used from several threads."""

    model: WordModel
    tokenizer: PreTrainedTokenizerFast
    label_map: LabelMap
    config: WordLabelsConfig
    temperature: float
    compute: Compute
    digest: str
    """SHA-256 of the model's weights."""
    notes: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path, device: Device = "auto", threads: int | None = None) -> Self:
        """Load a folder as `job pull` writes it, or best/ of a run directory. `threads` are torch's, of the process.

        Raises DamagedFolder, NotAModel, ModelLoadError, and ConfigError for a device that is not here.
        """
        if not (folder / MODEL).is_file():
            raise NotAModel(f"{folder} holds no {MODEL}: name a folder that 'layoutlm-cli job pull' wrote")
        verified = verify(folder).files if (folder / MANIFEST).exists() else {}
        digest = verified[MODEL].sha256 if MODEL in verified else sha256_of(folder / MODEL)
        label_map = _read_label_map(folder)
        options = _read_options(folder)
        notes = () if options is not None else (DEFAULTS_NOTE,)
        options = options or InferenceOptions()
        config = options.config(str(folder), device)
        logging.disable_progress_bar()  # a loaded model is no news
        loaded = load_model(config, label_map)
        if loaded.fresh:
            raise NotAModel(f"{folder} is not fine-tuned for its labels: weights are missing ({min(loaded.fresh)})")
        target = resolve_device(device)
        if threads is not None:
            torch.set_num_threads(threads)
        names = [name for _, name in sorted(label_map.id2label.items())]
        return cls(
            model=WordModel(loaded.model.eval().to(target), names),
            tokenizer=load_fast_tokenizer(config),
            label_map=label_map,
            config=config,
            temperature=options.temperature,
            compute=Compute(target, choose("auto", None, available(target)).precision, SINGLE),
            digest=digest,
            notes=notes,
        )

    def predict(self, pages: Sequence[Page], on_batch: Callable[[], None] = nothing) -> list[PagePrediction]:
        """Predict pages; their tags are ignored. `on_batch` is called before each batch and may raise to stop."""
        names, config = self.model.names, self.config
        encoded = self._encode(pages, LabelMap({}, self.label_map.labels))
        log_probs = score_words(self.model, encoded, config, self.compute, on_batch).log_probs
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

    def score(self, pages: Sequence[Page], on_batch: Callable[[], None] = nothing) -> Predictions:
        """Predict labelled pages and score them by the code that validates in training.

        Tags are mapped by the model's merges and labels. Raises LabelError if the pages have none of its labels.
        """
        known = {self.label_map.merged(label) for label in label_counts(pages)}
        if not known & set(self.label_map.labels):
            raise LabelError(
                f"the pages have none of the model's labels ({', '.join(self.label_map.labels)}) but "
                f"{', '.join(sorted(known)) or 'no labels'}: name labelled pages of the same kind"
            )
        encoded = self._encode(pages, self.label_map)
        return predict(self.model, encoded, self.label_map.labels, self.config, self.compute, on_batch)

    def calibrated(self, log_probs: FloatArray) -> FloatArray:
        """(words, classes) log-probabilities at the model's temperature."""
        return torch.from_numpy(log_probs / self.temperature).log_softmax(-1).numpy()

    def _encode(self, pages: Sequence[Page], label_map: LabelMap) -> EncodedPages:
        config = self.config
        numbered = [replace(page, page_id=str(number)) for number, page in enumerate(pages)]
        features = encode_pages(numbered, self.tokenizer, config.max_length, nothing, config.max_sub_tokens)
        return select(features, [page.page_id for page in numbered], label_map)


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

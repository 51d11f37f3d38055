"""A fine-tuned model on torch, scored by the code that validates in training."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.labels import LabelMap
from receipt_layoutlm.inference.runtime import NotAModel
from receipt_layoutlm.training.distributed import SINGLE
from receipt_layoutlm.training.precision import available, choose
from receipt_layoutlm.training.setup import resolve_device
from receipt_layoutlm.training.task import Compute
from receipt_layoutlm.training.tasks.pretrained import load_fast_tokenizer
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPages
from receipt_layoutlm.training.tasks.word_labels.layoutlm import load_model
from receipt_layoutlm.training.tasks.word_labels.scoring.decoding import WordScores
from receipt_layoutlm.training.tasks.word_labels.scoring.words import WordModel, score_words


@dataclass(frozen=True, slots=True)
class TorchRuntime:
    """A model in evaluation mode on its device."""

    model: WordModel
    tokenizer: PreTrainedTokenizerFast
    config: WordLabelsConfig
    compute: Compute

    @classmethod
    def load(cls, folder: Path, config: WordLabelsConfig, label_map: LabelMap, threads: int | None) -> Self:
        """Load a folder with weights and tokenizer. Raises NotAModel, ModelLoadError, ConfigError."""
        logging.disable_progress_bar()  # a loaded model is no news
        loaded = load_model(config, label_map)
        if loaded.fresh:
            raise NotAModel(f"{folder} is not fine-tuned for its labels: weights are missing ({min(loaded.fresh)})")
        target = resolve_device(config.device)
        if threads is not None:
            torch.set_num_threads(threads)
        return cls(
            model=WordModel(loaded.model.eval().to(target), label_map.names),
            tokenizer=load_fast_tokenizer(config),
            config=config,
            compute=Compute(target, choose("auto", None, available(target)).precision, SINGLE),
        )

    def score(self, pages: EncodedPages, on_batch: Callable[[], None]) -> WordScores:
        return score_words(self.model, pages, self.config, self.compute, on_batch)

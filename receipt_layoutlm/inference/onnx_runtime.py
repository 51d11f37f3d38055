"""An exported model on onnxruntime. Needs numpy, onnxruntime and tokenizers, and neither torch nor transformers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tokenizers import Tokenizer

from receipt_layoutlm.data.labels import IGNORE_INDEX
from receipt_layoutlm.data.page import validation_reason
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.inference.runtime import NotAModel
from receipt_layoutlm.run.manifest import ONNX_MODEL
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPages
from receipt_layoutlm.training.tasks.word_labels.scoring.decoding import WordScores, log_softmax

try:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as errors
except ImportError as error:
    raise UserError("onnxruntime not installed: pip install 'receipt-layoutlm[onnx]'") from error

REFUSED: Final = (  # what onnxruntime raises for a file that it cannot load or run; they share Exception alone
    errors.EPFail,
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.InvalidProtobuf,
    errors.ModelRequiresCompilation,
    errors.NoModel,
    errors.NotImplemented,
    errors.RuntimeException,
    RuntimeError,
    ValueError,
)
EXPORT: Final = "export.json"
TOKENIZER: Final = "tokenizer.json"
INPUTS: Final = ("input_ids", "bbox", "chosen")
"""Of one window: (tokens,) ids; (tokens, 4) boxes in thousandths; (words,) first sub-tokens of the words to score."""
OUTPUT: Final = "logits"
"""(words, classes), before the temperature."""

Precision = Literal["fp32", "int8"]


class ExportedModel(BaseModel):
    """export.json: what an exported model was made of, and the tokenizer's special tokens."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    precision: Precision
    exported_from: str
    """SHA-256 of the weights in full precision."""
    agreement: float | None = Field(default=None, ge=0, le=1)
    """Share of the words of the check that have the same label as before; None before the check."""
    checked_pages: int = 0
    cls_token_id: int
    sep_token_id: int
    unk_token_id: int


@dataclass(frozen=True, slots=True)
class StoredTokenizer:
    """A tokenizer.json with its special tokens."""

    backend_tokenizer: Tokenizer
    cls_token_id: int
    sep_token_id: int
    unk_token_id: int

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read tokenizer.json and export.json. Raises NotAModel."""
        try:
            about = ExportedModel.model_validate_json((folder / EXPORT).read_bytes())
            backend = Tokenizer.from_buffer((folder / TOKENIZER).read_bytes())
        except FileNotFoundError as error:
            raise NotAModel(f"{error.filename} is missing: export the model again") from error
        except ValidationError as error:
            raise NotAModel(f"{folder / EXPORT} is damaged ({validation_reason(error)}): export again") from error
        except ValueError as error:
            raise NotAModel(f"{folder / TOKENIZER} is damaged ({error}): export the model again") from error
        return cls(backend, about.cls_token_id, about.sep_token_id, about.unk_token_id)


@dataclass(frozen=True, slots=True)
class OnnxRuntime:
    """A session and its tokenizer. May be used from several threads."""

    session: onnxruntime.InferenceSession
    tokenizer: StoredTokenizer
    classes: int

    @classmethod
    def load(cls, folder: Path, classes: int, threads: int | None) -> Self:
        """Load an exported model on the CPU. classes: of its label map. Raises NotAModel."""
        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors alone
        path = folder / ONNX_MODEL
        try:
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except REFUSED as error:
            raise _unusable(error) from error
        (output,) = session.get_outputs()
        if tuple(each.name for each in session.get_inputs()) != INPUTS or output.shape[-1] != classes:
            raise NotAModel(f"{path} does not take {', '.join(INPUTS)} or has not {classes} classes: export it again")
        return cls(session, StoredTokenizer.load(folder), classes)

    def score(self, pages: EncodedPages, on_batch: Callable[[], None]) -> WordScores:
        """Score each word in its scoring window, a window at a time: nothing is padded.

        In int8 the scale of activations is that of the window, so that a page's result depends on no other page.
        """
        rows = [np.zeros((len(page.tags), self.classes), np.float32) for page in pages.pages]
        total, words = 0.0, 0
        for window in pages.windows:
            on_batch()
            given = (window.input_ids, window.bbox, window.first[window.scored])
            inputs = {name: np.asarray(values, np.int64) for name, values in zip(INPUTS, given, strict=True)}
            try:
                found = log_softmax(self.session.run([OUTPUT], inputs)[0])
            except REFUSED as error:
                raise _unusable(error) from error
            rows[window.page][window.word_index[window.scored]] = found
            labels = window.label_ids[window.scored]
            labelled = np.flatnonzero(labels != IGNORE_INDEX)
            total -= float(found[labelled, labels[labelled]].sum())
            words += len(labelled)
        return WordScores(rows, total / max(words, 1))


def _unusable(error: Exception) -> NotAModel:
    return NotAModel(f"{ONNX_MODEL} cannot be used ({str(error).splitlines()[0]}): export the model again")

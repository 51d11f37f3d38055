"""What a predictor needs of a loaded model: torch's (torch_runtime) or an exported one (onnx_runtime)."""

from collections.abc import Callable
from typing import Literal, Protocol

from receipt_layoutlm.errors import UserError
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPages
from receipt_layoutlm.training.tasks.word_labels.inputs.windows import WordTokenizer
from receipt_layoutlm.training.tasks.word_labels.scoring.decoding import WordScores

Device = Literal["auto", "cpu", "cuda", "mps"]
RuntimeName = Literal["auto", "torch", "onnx"]


class NotAModel(UserError):
    """A folder that holds no fine-tuned model; the text says what is missing."""


class Runtime(Protocol):
    """A loaded model and its tokenizer, on torch or onnxruntime."""

    @property
    def tokenizer(self) -> WordTokenizer: ...
    def score(self, pages: EncodedPages, on_batch: Callable[[], None]) -> WordScores:
        """Log-probabilities of all words; `on_batch` is called before each batch and may raise to stop."""
        ...

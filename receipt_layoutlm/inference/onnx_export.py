"""Export of a fine-tuned model to ONNX, in full precision or int8, and the check of its labels against torch."""

import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import torch
from pydantic import BaseModel, ConfigDict
from torch.export import Dim
from transformers import LayoutLMForTokenClassification

from receipt_layoutlm.configs.word_labels import INFERENCE
from receipt_layoutlm.data.labels import LABEL_MAP
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.inference.acceptance import ACCEPTANCE, Acceptance
from receipt_layoutlm.inference.onnx_runtime import EXPORT, INPUTS, OUTPUT, TOKENIZER, ExportedModel, Precision
from receipt_layoutlm.inference.predictor import Predictor, nothing
from receipt_layoutlm.inference.torch_runtime import TorchRuntime
from receipt_layoutlm.run.manifest import ONNX_MODEL, sha256_of, write_manifest
from receipt_layoutlm.training.tasks.packed_attention import Lengths
from receipt_layoutlm.training.tasks.word_labels.inputs.packing import PackedTensors
from receipt_layoutlm.training.tasks.word_labels.layoutlm import word_logits

LEAST_AGREEMENT: Final[dict[Precision, float]] = {"fp32": 0.999, "int8": 0.99}
"""Share of words that must keep their label."""
EXPORT_MODULES: Final = ("onnx", "onnxscript", "onnxruntime")


class ExportError(UserError):
    """A model that cannot be exported, or whose export gives other labels; the text says why."""


class ExportReport(BaseModel):
    """The exported folder and its check. size: in bytes. same: words of the checked pages with the label of torch."""

    model_config = ConfigDict(frozen=True)

    size: int
    pages: int
    words: int
    same: int
    agreement: float
    is_calibration_left: bool
    """The model is calibrated, and the export is not."""


class _Window(torch.nn.Module):
    """The forward pass of training for one window."""

    def __init__(self, model: LayoutLMForTokenClassification) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, bbox: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(input_ids.shape[0])
        alone = Lengths([input_ids.shape[0]], positions)  # its ends are read by kernels of a GPU alone
        return word_logits(self.model, PackedTensors(input_ids, positions, bbox, chosen, chosen, alone))


def export_onnx(
    source: Path, target: Path, precision: Precision, pages: Sequence[Page], on_batch: Callable[[], None] = nothing
) -> ExportReport:
    """Export the model of a folder into a new one, which then holds all that predictions need.

    pages: on which the export must give the same labels. The folder appears when the check has passed. A calibration is
    taken along in full precision; in int8 certainties differ, so that it needs its own. Raises ExportError, NotAModel.
    """
    if missing := [module for module in EXPORT_MODULES if find_spec(module) is None]:
        raise ExportError(f"{', '.join(missing)} not installed: pip install 'receipt-layoutlm[onnx]'")
    if target.exists():
        raise ExportError(f"{target} exists: name a new folder")
    predictor = Predictor.load(source, "cpu", runtime="torch")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        made = Path(scratch) / "export"
        made.mkdir()
        about = _write(predictor, source, made, precision)
        pairs = _labels(predictor, Predictor.load(made, "cpu", runtime="onnx"), pages, on_batch)
        same = sum(a == b for a, b in pairs)
        if same < LEAST_AGREEMENT[precision] * len(pairs):
            raise ExportError(
                f"the export gives {same / len(pairs):.2%} of {len(pairs)} words the label that torch gives them, and "
                f"{LEAST_AGREEMENT[precision]:.1%} are needed; nothing was written"
                + ("; try without --int8" if precision == "int8" else "")
            )
        stated = about.model_copy(update={"agreement": same / len(pairs), "checked_pages": len(pages)})
        (made / EXPORT).write_text(stated.model_dump_json(indent=1))
        write_manifest(made, 0)
        made.rename(target)
    return ExportReport(
        size=sum(each.stat().st_size for each in target.iterdir()),
        pages=len(pages),
        words=len(pairs),
        same=same,
        agreement=same / len(pairs),
        is_calibration_left=(source / ACCEPTANCE).exists() and not (target / ACCEPTANCE).exists(),
    )


def _write(predictor: Predictor, source: Path, folder: Path, precision: Precision) -> ExportedModel:
    assert isinstance(predictor.runtime, TorchRuntime)
    model, tokenizer = predictor.runtime.model.model, predictor.runtime.tokenizer
    path = folder / ONNX_MODEL
    _write_model(model, path, precision)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.save(str(folder / TOKENIZER))
    (folder / LABEL_MAP).write_text(predictor.label_map.to_json())
    if (source / INFERENCE).is_file():  # a model of an earlier version has none, and its export says so too
        shutil.copyfile(source / INFERENCE, folder / INFERENCE)
    if precision == "fp32" and (source / ACCEPTANCE).is_file():
        kept = Acceptance.read(source, predictor.digest).model_copy(update={"model": sha256_of(path)})
        (folder / ACCEPTANCE).write_text(kept.model_dump_json())
    about = ExportedModel(
        precision=precision,
        exported_from=predictor.digest,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        unk_token_id=tokenizer.unk_token_id,
    )
    (folder / EXPORT).write_text(about.model_dump_json(indent=1))
    return about


def _write_model(model: LayoutLMForTokenClassification, path: Path, precision: Precision) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    tokens, words = 16, 8
    example = (
        torch.ones(tokens, dtype=torch.int64),
        torch.ones(tokens, 4, dtype=torch.int64),
        torch.arange(1, words + 1),
    )
    length = Dim("tokens", min=2, max=model.config.max_position_embeddings)
    plain = path if precision == "fp32" else path.with_name("plain.onnx")
    logging.disable(logging.WARNING)  # of torchvision that is not there, and advice on other models
    try:
        with warnings.catch_warnings(action="ignore"):
            program = torch.onnx.export(
                _Window(model).eval(),
                example,
                dynamo=True,
                input_names=INPUTS,
                output_names=(OUTPUT,),
                dynamic_shapes=({0: length}, {0: length}, {0: Dim("words", min=1)}),
                verbose=False,
            )
            assert program is not None
            program.save(plain)
            if precision == "int8":
                quantize_dynamic(plain, path, weight_type=QuantType.QInt8, per_channel=True)
                plain.unlink()
    finally:
        logging.disable(logging.NOTSET)


def _labels(
    before: Predictor, after: Predictor, pages: Sequence[Page], on_batch: Callable[[], None]
) -> list[tuple[str, str]]:
    """The labels that two models give to each word of the pages. Raises ExportError without words."""
    predicted = zip(before.predict(pages, on_batch), after.predict(pages, on_batch), strict=True)
    pairs = [pair for one, other in predicted for pair in zip(one.tags, other.tags, strict=True)]
    if not pairs:
        raise ExportError("the pages of the check have no words: name others with --check")
    return pairs

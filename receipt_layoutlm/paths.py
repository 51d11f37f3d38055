"""Folders of this machine."""

from collections.abc import Mapping
from pathlib import Path

import platformdirs

STATE_VARIABLE = "LAYOUTLM_STATE_DIR"


def state_dir(environ: Mapping[str, str]) -> Path:
    """Where the state is kept: LAYOUTLM_STATE_DIR, else the platform's data folder."""
    given = environ.get(STATE_VARIABLE)
    return Path(given).expanduser().absolute() if given else platformdirs.user_data_path("layoutlm")

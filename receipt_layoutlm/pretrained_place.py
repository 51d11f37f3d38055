"""Weights that --pretrained names in a bucket: the worker lays them into the run directory, the trainer reads there."""

import re

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.run_dir import RunDir

SCHEME = "s3://"
_HUB_WORD = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_HUB_NAME = re.compile(rf"(?:{_HUB_WORD}/)?{_HUB_WORD}")


def is_in_bucket(pretrained: str) -> bool:
    """Whether --pretrained names a place in a bucket."""
    return pretrained.startswith(SCHEME)


def is_hub_name(text: str) -> bool:
    """NAME or OWNER/NAME by the hub's own rules (huggingface_hub's validate_repo_id)."""
    forbidden = ".." in text or "--" in text or text.endswith(".git")
    return _HUB_NAME.fullmatch(text) is not None and not forbidden


def with_local_weights(config: TrainConfig, run_dir: RunDir) -> TrainConfig:
    """The config for loading weights and tokenizer: what lies in a bucket is in the run directory by now.

    Only for loading. The record and the config hash keep the s3:// place, which is the same in every attempt.
    """
    if not is_in_bucket(config.pretrained):
        return config
    return config.model_copy(update={"pretrained": str(run_dir.pretrained)})

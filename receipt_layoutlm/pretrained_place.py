"""Weights that --pretrained names in a bucket: the worker lays them into the run directory, the trainer reads there."""

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.run_dir import RunDir

SCHEME = "s3://"


def is_in_bucket(pretrained: str) -> bool:
    """Whether --pretrained names a place in a bucket."""
    return pretrained.startswith(SCHEME)


def with_local_weights(config: TrainConfig, run_dir: RunDir) -> TrainConfig:
    """The config for loading weights and tokenizer: what lies in a bucket is in the run directory by now.

    Only for loading. The record and the config hash keep the s3:// place, which is the same in every attempt.
    """
    if not is_in_bucket(config.pretrained):
        return config
    return config.model_copy(update={"pretrained": str(run_dir.pretrained)})

"""Where the encoded pages of a snapshot are kept: named by what decides them, as far as a config tells."""

import hashlib
import json

from receipt_layoutlm.config import TrainConfig

ENCODING_VERSION = 1
"""Raised with every change of the code that decides what pages are encoded to; a test notices such a change."""


def encoded_name(config: TrainConfig, fingerprint: str) -> str:
    """One place for all jobs that encode these pages alike; labels, split and options of training have no part in it.

    The worker knows no tokenizers, so the name of the weights stands for theirs. What lies there says itself what it
    was made with, and only what was made with the very tokenizer of a run is used.
    """
    windows = [config.max_length, config.max_sub_tokens]
    document = [ENCODING_VERSION, config.task, fingerprint, config.pretrained, *windows]
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()


def encoded_prefix(name: str, prefix: str = "") -> str:
    """Where such a folder lies in a bucket."""
    return f"{prefix}encoded/{name}/"

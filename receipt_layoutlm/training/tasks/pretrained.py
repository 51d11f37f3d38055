"""Sources of pretrained weights and tokenizers: hub, folder, bucket. Safetensors only, no remote code."""

import ssl
from functools import cache
from pathlib import Path
from typing import TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from huggingface_hub import constants
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.minilm import find_minilm
from receipt_layoutlm.references import is_in_bucket
from receipt_layoutlm.run.directory import RunDir

C = TypeVar("C", bound=TrainConfig)

HUB_SECONDS = (
    3.0  # timeout after which the hub counts as unreachable; transformers itself would retry for 23 s per file
)


class ModelLoadError(UserError):
    """Weights or a tokenizer that cannot be loaded; the message names an alternative."""


def load_fast_tokenizer(config: TrainConfig) -> PreTrainedTokenizerFast:
    """Load the tokenizer of the pretrained weights. Raises ModelLoadError, or WeightsError for `minilm`."""
    source = weights_source(config.pretrained)
    try:
        return AutoTokenizer.from_pretrained(
            source, use_fast=True, local_files_only=is_offline(source), trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise load_error(source, error) from error


def weights_source(pretrained: str) -> str:
    """Folder or hub name of the weights."""
    if is_in_bucket(pretrained):
        raise ModelLoadError(f"{pretrained} was not downloaded: only a worker downloads weights; pass a local folder")
    return str(find_minilm()) if pretrained == "minilm" else pretrained


def is_offline(source: str) -> bool:
    """Whether to read local files only: the source is a folder, or the hub is unreachable."""
    return Path(source).is_dir() or constants.HF_HUB_OFFLINE or not _hub_answers()


@cache
def _hub_answers() -> bool:
    """Cached per process: on a network that drops packets, every request takes the whole timeout."""
    try:
        with urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=HUB_SECONDS):
            return True
    except HTTPError:
        return True
    except URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # a proxy's certificate that only transformers trusts
    except TimeoutError:
        return False


def load_error(source: str, error: OSError | ValueError) -> ModelLoadError:
    first_line = str(error).strip().split("\n")[0]
    if Path(source).exists() or not is_offline(source):
        return ModelLoadError(f"cannot load {source}: {first_line}")
    return ModelLoadError(
        f"cannot load {source}: it is neither a folder nor in the local cache and the model hub is unreachable; "
        "without network access use --pretrained minilm"
    )


def with_local_weights(config: C, run_dir: RunDir) -> C:
    """Point `pretrained` at the run directory, into which a worker downloads the weights of a bucket.

    For loading only. The record and the config hash keep the s3:// URI, which is the same in every attempt.
    """
    if not is_in_bucket(config.pretrained):
        return config
    return config.model_copy(update={"pretrained": str(run_dir.pretrained)})

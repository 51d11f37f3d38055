"""Which weights and which tokenizer `--pretrained` means, and their loading: safetensors only, no remote code.

Weights that --pretrained names in a bucket: the worker lays them into the run directory, the trainer reads there.
"""

import ssl
from functools import cache
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import torch
from huggingface_hub import constants
from transformers import (
    AutoConfig,
    AutoTokenizer,
    LayoutLMForTokenClassification,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.minilm import find_minilm
from receipt_layoutlm.references import is_in_bucket
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.training.tasks.word_labels.warm_start import Loaded, kept_layers, warm_start_from_bert

HUB_SECONDS = 3.0  # until the hub counts as out of reach; transformers itself would retry for 23 s per file


class ModelLoadError(UserError):
    """Weights or a tokenizer that cannot be had or used; the text says what to give instead."""


def load_layoutlm(config: TrainConfig, label2id: dict[str, int]) -> Loaded:
    """The model a run begins with, on CPU, in training mode; its weights depend on the config's seed alone.

    A BERT is warm-started. Raises ModelLoadError, or WeightsError for `minilm`.
    """
    source = _source(config.pretrained)
    try:
        # without the False, transformers asks on stdin for 15 s whether to run the repository's code
        found = AutoConfig.from_pretrained(source, local_files_only=_only_local(source), trust_remote_code=False)
        _refuse_what_runs_code(source, found)
        if found.model_type == "bert":
            loaded = warm_start_from_bert(source, label2id, config.layers, config.dropout, config.seed)
        else:
            loaded = _load(source, found, config, label2id)
    except (OSError, ValueError) as error:
        raise _load_error(source, error) from error
    loaded.model.train()
    return loaded


def _refuse_what_runs_code(source: str, found: PretrainedConfig) -> None:
    """A config.json may name attention code of the hub, or a quantizer; transformers would fetch and run it."""
    if found.model_type not in ("bert", "layoutlm"):
        raise ModelLoadError(f"{source} is a {found.model_type}: give a LayoutLM or a BERT checkpoint")
    attention = found._attn_implementation
    if attention not in (None, "eager", "sdpa"):
        raise ModelLoadError(f"{source} asks for the attention code {attention!r}: take it out of its config.json")
    if getattr(found, "quantization_config", None) is not None:
        raise ModelLoadError(f"{source} is quantized: give weights in full precision")


def _load(source: str, found: PretrainedConfig, config: TrainConfig, label2id: dict[str, int]) -> Loaded:
    found.num_hidden_layers = kept_layers(found.num_hidden_layers, config.layers)
    found.hidden_dropout_prob = config.dropout
    found.attention_probs_dropout_prob = 0.0
    found.label2id = label2id
    found.id2label = {number: name for name, number in label2id.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # the classifier is drawn anew where the checkpoint has another one
        model, info = LayoutLMForTokenClassification.from_pretrained(
            source,
            config=found,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            attn_implementation="sdpa",
            local_files_only=_only_local(source),
            output_loading_info=True,
        )
    mismatched = (key[0] if isinstance(key, tuple) else key for key in info["mismatched_keys"])
    return Loaded(model, frozenset([*info["missing_keys"], *mismatched]))


def load_fast_tokenizer(config: TrainConfig) -> PreTrainedTokenizerFast:
    """The tokenizer that belongs to the weights. Raises ModelLoadError, or WeightsError for `minilm`."""
    source = _source(config.pretrained)
    try:
        return AutoTokenizer.from_pretrained(
            source, use_fast=True, local_files_only=_only_local(source), trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise _load_error(source, error) from error


def _source(pretrained: str) -> str:
    """A folder or a hub name."""
    if is_in_bucket(pretrained):
        raise ModelLoadError(f"{pretrained} was not downloaded: only a worker does that; give a folder")
    return str(find_minilm()) if pretrained == "minilm" else pretrained


def _only_local(source: str) -> bool:
    """Whether to look in the hub's cache alone, because the source is a folder or the hub is out of reach."""
    return Path(source).is_dir() or constants.HF_HUB_OFFLINE or not _hub_answers()


@cache
def _hub_answers() -> bool:
    """Asked once a process: where packets are dropped, every asking takes the whole wait."""
    try:
        with urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=HUB_SECONDS):
            return True
    except HTTPError:
        return True
    except URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # a proxy's certificate that only transformers knows
    except TimeoutError:
        return False


def _load_error(source: str, error: OSError | ValueError) -> ModelLoadError:
    first_line = str(error).strip().split("\n")[0]
    if Path(source).exists() or not _only_local(source):
        return ModelLoadError(f"cannot load {source}: {first_line}")
    return ModelLoadError(
        f"cannot load {source}: it is neither a folder nor in the local cache and the model hub is out of reach; "
        "with no network use --pretrained minilm"
    )


def with_local_weights(config: TrainConfig, run_dir: RunDir) -> TrainConfig:
    """The config for loading weights and tokenizer: what lies in a bucket is in the run directory by now.

    Only for loading. The record and the config hash keep the s3:// place, which is the same in every attempt.
    """
    if not is_in_bucket(config.pretrained):
        return config
    return config.model_copy(update={"pretrained": str(run_dir.pretrained)})

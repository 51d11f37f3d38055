"""Warm start of LayoutLM from BERT: LayoutLM is BERT plus 2-D positions, so it takes over all BERT weights."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import BertConfig, BertModel, LayoutLMConfig, LayoutLMForTokenClassification

POSITION_TABLES = ("x", "y", "h", "w")
SHARED_FIELDS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model, and the names of its parameters without pretrained weights."""

    model: LayoutLMForTokenClassification
    fresh: frozenset[str]


def warm_start_from_bert(
    bert: str | Path, label2id: dict[str, int], layers: int | None, dropout: float, seed: int
) -> Loaded:
    """A LayoutLM of a BERT's size, initialised with its weights: embeddings, layers and pooler.

    bert: a folder (or hub name) with a BERT config and model.safetensors. layers: keep the first N encoder
    layers, None for all; ValueError if there are fewer. Fresh are only the 2-D position tables, initialised as
    sinusoids, and the classifier, drawn from the seed. Attention has no dropout. OSError if the weights cannot be
    read.
    """
    config = BertConfig.from_pretrained(bert)
    config.num_hidden_layers = kept_layers(config.num_hidden_layers, layers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        source, info = BertModel.from_pretrained(bert, config=config, use_safetensors=True, output_loading_info=True)
        if lacking := sorted(name for name in info["missing_keys"] if not name.startswith("pooler.")):
            raise ValueError(f"{len(lacking)} weights of the encoder are missing: {lacking[0]}")
        layoutlm_config = LayoutLMConfig(
            **{name: getattr(config, name) for name in SHARED_FIELDS},
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=0.0,  # above 0, SDPA leaves its fast path on CPU
            label2id=label2id,
            id2label={number: name for name, number in label2id.items()},
            attn_implementation="sdpa",
        )
        model = LayoutLMForTokenClassification(layoutlm_config)
        nn.init.normal_(model.classifier.weight, std=config.initializer_range)
    missing, unexpected = model.layoutlm.load_state_dict(source.state_dict(), strict=False)
    fresh = {f"embeddings.{axis}_position_embeddings.weight" for axis in POSITION_TABLES}
    if set(missing) != fresh or unexpected:
        raise ValueError(f"{bert} is no BERT that LayoutLM can start from: missing {missing}, unexpected {unexpected}")
    for axis in POSITION_TABLES:
        table = model.layoutlm.embeddings.get_parameter(f"{axis}_position_embeddings.weight")
        table.data.copy_(sinusoids(table.shape[0], table.shape[1], std=config.initializer_range))
    return Loaded(model, frozenset({f"layoutlm.{name}" for name in fresh} | {"classifier.weight", "classifier.bias"}))


def kept_layers(available: int, layers: int | None) -> int:
    """Number of layers that a model keeps, None for all; ValueError if it has fewer."""
    if layers is not None and layers > available:
        raise ValueError(f"layers={layers}, but the weights have only {available} layers")
    return layers or available


def sinusoids(positions: int, size: int, std: float) -> torch.Tensor:
    """(positions, size): sines then cosines of falling frequency, scaled to a root mean square of `std`.

    Near positions start with similar vectors, which a table of independent draws has to learn (0.81 against 0.78 F1
    after three epochs).
    """
    frequencies = torch.exp(torch.arange(size // 2) * (-math.log(10_000.0) / (size // 2)))
    angles = torch.arange(positions)[:, None] * frequencies[None, :]
    table = torch.cat([angles.sin(), angles.cos()], dim=1) * (std * math.sqrt(2))
    return nn.functional.pad(table, (0, size - table.shape[1]))

"""The layoutlm task: a label for each word of a page, by LayoutLM token classification.

A task is this set of functions: load_tokenizer, load_model, encode, word_logits.
"""

from collections.abc import Callable, Sequence

import torch
from transformers import LayoutLMForTokenClassification, PreTrainedTokenizerFast

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.data.labels import LabelMap
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import Features
from receipt_layoutlm.training.tasks.word_labels.inputs.windows import encode_pages
from receipt_layoutlm.training.tasks.word_labels.packed import PACKED, PackedTensors
from receipt_layoutlm.training.tasks.word_labels.pretrained import load_fast_tokenizer, load_layoutlm
from receipt_layoutlm.training.tasks.word_labels.warm_start import Loaded


def load_tokenizer(config: TrainConfig) -> PreTrainedTokenizerFast:
    """See tasks/pretrained.py."""
    return load_fast_tokenizer(config)


def load_model(config: TrainConfig, label_map: LabelMap) -> Loaded:
    """The model on CPU with fresh or pretrained weights. The pooler has no part in this task and is frozen."""
    loaded = load_layoutlm(config, label_map.label2id)
    loaded.model.layoutlm.pooler.requires_grad_(False)
    loaded.model.set_attn_implementation(PACKED)
    return loaded


def encode(
    pages: Sequence[Page],
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    on_page: Callable[[], None],
    max_sub_tokens: int | None = None,
) -> Features:
    """See encoding.encode_pages."""
    return encode_pages(pages, tokenizer, max_length, on_page, max_sub_tokens)


def word_logits(model: LayoutLMForTokenClassification, batch: PackedTensors) -> torch.Tensor:
    """(chosen, classes): the model's forward pass, of the last layer only what the chosen positions need.

    All modules are the model's own. Above the last attention no position looks at another, so the others can be
    left out there; that is a tenth of the work of six layers.
    """
    lengths, chosen = batch.lengths, batch.chosen
    hidden = model.layoutlm.embeddings(
        input_ids=batch.input_ids[None],
        bbox=batch.bbox[None],
        position_ids=batch.position_ids[None],
        token_type_ids=torch.zeros_like(batch.input_ids)[None],
    )
    *lower, last = model.layoutlm.encoder.layer
    for layer in lower:
        hidden = layer(hidden, None, lengths=lengths)
    context, _ = last.attention.self(hidden, None, lengths=lengths)
    attended = last.attention.output(context[:, chosen], hidden[:, chosen])
    logits: torch.Tensor = model.classifier(model.dropout(last.feed_forward_chunk(attended)))[0]
    return logits

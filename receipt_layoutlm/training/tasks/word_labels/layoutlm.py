"""LayoutLM for token classification: loading, warm start and the packed forward pass."""

import torch
from transformers import (
    AutoConfig,
    LayoutLMConfig,
    LayoutLMForTokenClassification,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.labels import LabelMap
from receipt_layoutlm.data.page import PAGE_EXTENT
from receipt_layoutlm.training.tasks.packed_attention import PACKED
from receipt_layoutlm.training.tasks.pretrained import Loading, ModelLoadError, is_offline, weights_source
from receipt_layoutlm.training.tasks.word_labels.inputs.packing import PackedTensors
from receipt_layoutlm.training.tasks.word_labels.warm_start import Loaded, kept_layers, warm_start_from_bert
from receipt_layoutlm.training.throughput import EncoderSize


def load_model(config: WordLabelsConfig, label_map: LabelMap) -> Loaded:
    """Load the model on CPU, in training mode; fresh weights depend on the config's seed alone.

    A BERT is warm-started. The pooler is unused and frozen. Raises ModelLoadError, or WeightsError for `minilm`.
    """
    source, label2id = weights_source(config.pretrained), label_map.label2id
    with Loading(source):
        # without False, transformers asks on stdin for 15 s whether to run the repository's code
        stored = AutoConfig.from_pretrained(source, local_files_only=is_offline(source), trust_remote_code=False)
        if stored.model_type not in ("bert", "layoutlm"):
            raise ModelLoadError(f"{source} is a {stored.model_type} model: use a LayoutLM or BERT checkpoint")
        # a config.json may name attention code of the hub, or a quantizer; transformers would download and run it
        if (attention := stored._attn_implementation) not in (None, "eager", "sdpa"):
            raise ModelLoadError(f"{source} requires the attention code {attention!r}: remove it from its config.json")
        if getattr(stored, "quantization_config", None) is not None:
            raise ModelLoadError(f"{source} is quantized: use weights in full precision")
        _check_sizes(stored, source)
        if stored.model_type == "bert":
            loaded = warm_start_from_bert(source, label2id, config.layers, config.dropout, config.seed)
        else:
            loaded = _load(source, stored, config, label2id)
    loaded.model.train()
    loaded.model.layoutlm.pooler.requires_grad_(False)
    loaded.model.set_attn_implementation(PACKED)
    return loaded


SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
MOST_PARAMETERS = 5e9  # LayoutLM large has 0.34e9; a machine must not run out of memory for a number in a file


def _check_sizes(stored: PretrainedConfig, source: str) -> None:
    """Refuse sizes in config.json that are none, or that no model of this kind has. Raises ModelLoadError."""
    sizes: dict[str, int] = {name: getattr(stored, name) for name in SIZES}
    for name, size in sizes.items():
        if size < 1:
            raise ModelLoadError(f"{source}: {name} in config.json is {size}: it must be above 0")
    hidden, layers = sizes["hidden_size"], sizes["num_hidden_layers"]
    places = getattr(stored, "max_2d_position_embeddings", PAGE_EXTENT + 1)
    rows = sizes["vocab_size"] + sizes["max_position_embeddings"] + sizes["type_vocab_size"] + 4 * places
    if hidden * (rows + layers * (4 * hidden + 2 * sizes["intermediate_size"])) > MOST_PARAMETERS:
        raise ModelLoadError(f"{source}: by the sizes in config.json it has more than {MOST_PARAMETERS:.0e} parameters")
    if places <= PAGE_EXTENT:
        raise ModelLoadError(f"{source}: max_2d_position_embeddings in config.json is {places}: boxes need 1001")


def check_fits(model: LayoutLMConfig, tokenizer: PreTrainedTokenizerFast, config: WordLabelsConfig) -> None:
    """Refuse a tokenizer of other weights, and windows longer than the weights take. Raises ModelLoadError."""
    source, size, positions = config.pretrained, model.vocab_size, model.max_position_embeddings
    if (last := max(tokenizer.get_vocab().values())) >= size:
        raise ModelLoadError(f"{source}: its tokenizer has numbers up to {last}, its weights only {size} tokens")
    if config.max_length > positions:
        raise ModelLoadError(f"{source} has {positions} positions: use --max-length {positions} or less")


def _load(source: str, stored: PretrainedConfig, config: WordLabelsConfig, label2id: dict[str, int]) -> Loaded:
    stored.num_hidden_layers = kept_layers(stored.num_hidden_layers, config.layers)
    stored.hidden_dropout_prob = config.dropout
    stored.attention_probs_dropout_prob = 0.0
    stored.chunk_size_feed_forward = 0
    stored.label2id = label2id
    stored.id2label = {number: name for name, number in label2id.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # initialises a classifier that the checkpoint lacks
        model, info = LayoutLMForTokenClassification.from_pretrained(
            source,
            config=stored,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            attn_implementation="sdpa",
            local_files_only=is_offline(source),
            output_loading_info=True,
        )
    mismatched = (key[0] if isinstance(key, tuple) else key for key in info["mismatched_keys"])
    fresh = frozenset([*info["missing_keys"], *mismatched])
    if lacking := sorted(name for name in fresh if name.startswith("layoutlm.") and ".pooler." not in name):
        raise ModelLoadError(
            f"{source}: {len(lacking)} weights of the encoder are missing or of another size than config.json has: "
            f"{lacking[0]}"
        )
    return Loaded(model, fresh)


def encoder_size(config: LayoutLMConfig) -> EncoderSize:
    """Encoder sizes that determine the work of a step."""
    return EncoderSize(config.num_hidden_layers, config.hidden_size, config.intermediate_size, config.num_labels)


def word_logits(model: LayoutLMForTokenClassification, batch: PackedTensors) -> torch.Tensor:
    """(chosen, classes): the model's forward pass, restricted to the chosen positions above the last attention.

    All modules are the model's own. Above the last attention positions are independent, so the others can be skipped,
    which saves a tenth of the work of six layers.
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

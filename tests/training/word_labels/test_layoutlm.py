"""LayoutLM takes over all weights of a BERT; unsuitable weights are refused with a helpful message."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, LayoutLMForTokenClassification

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.labels import LabelMap
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.training.tasks.packed_attention import PACKED
from receipt_layoutlm.training.tasks.pretrained import ModelLoadError, load_fast_tokenizer, with_local_weights
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPages, select
from receipt_layoutlm.training.tasks.word_labels.inputs.windows import encode_pages
from receipt_layoutlm.training.tasks.word_labels.layoutlm import load_model
from receipt_layoutlm.training.tasks.word_labels.warm_start import POSITION_TABLES, sinusoids, warm_start_from_bert
from tests.support.runs import tiny_model

LABELS = LabelMap(merges={}, labels=("DATE", "GRAND_TOTAL"))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with three layers."""
    folder = tmp_path_factory.mktemp("bert")
    config = BertConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def layoutlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("layoutlm"))


def encoded(pages: list[Page], config: WordLabelsConfig, max_length: int = 512) -> EncodedPages:
    features = encode_pages(pages, load_fast_tokenizer(config), max_length, lambda: None)
    return select(features, [page.page_id for page in pages], LABELS)


def warm(bert: Path, layers: int | None = None, seed: int = 1) -> LayoutLMForTokenClassification:
    return warm_start_from_bert(bert, LABELS.label2id, layers, dropout=0.2, seed=seed).model


def test_every_weight_of_a_bert_is_in_its_place(bert: Path) -> None:
    source, made = BertModel.from_pretrained(bert).state_dict(), warm(bert).layoutlm.state_dict()
    assert all(torch.equal(made[name], value) for name, value in source.items())
    assert made.keys() - source.keys() == {f"embeddings.{axis}_position_embeddings.weight" for axis in POSITION_TABLES}


def test_the_model_computes_what_the_bert_does_where_boxes_say_nothing(bert: Path) -> None:
    model = warm(bert).eval()
    for axis in POSITION_TABLES:
        model.layoutlm.embeddings.get_parameter(f"{axis}_position_embeddings.weight").data.zero_()
    ids = torch.tensor([[2, 7, 9, 11, 3]])
    expected = BertModel.from_pretrained(bert).eval()(ids).last_hidden_state
    found = model.layoutlm(ids, bbox=torch.zeros(1, 5, 4, dtype=torch.long)).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_number_of_layers_keeps_the_first_ones(bert: Path) -> None:
    model = warm(bert, layers=2)
    assert model.config.num_hidden_layers == len(model.layoutlm.encoder.layer) == 2
    expected = BertModel.from_pretrained(bert).encoder.layer[1].output.dense.weight
    assert torch.equal(model.layoutlm.encoder.layer[1].output.dense.weight, expected)


def test_more_layers_than_the_weights_have_are_an_error(bert: Path, layoutlm: Path) -> None:
    for folder in (bert, layoutlm):
        with pytest.raises(ModelLoadError, match=r"only [23] layers"):
            load_model(WordLabelsConfig(pretrained=str(folder), layers=4), LABELS)


def test_fresh_weights_depend_on_the_seed_alone(bert: Path) -> None:
    first, other = warm(bert, seed=1), warm(bert, seed=2)
    torch.manual_seed(99)
    again = warm(bert, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.classifier.weight, other.classifier.weight)


def test_a_new_classifier_on_a_layoutlm_depends_on_the_seed_alone(layoutlm: Path) -> None:
    def classifier(seed: int) -> torch.Tensor:
        return load_model(WordLabelsConfig(pretrained=str(layoutlm), seed=seed), LABELS).model.classifier.weight

    first = classifier(1)
    torch.manual_seed(99)
    assert torch.equal(first, classifier(1))
    assert not torch.equal(first, classifier(2))


def test_dropout_is_the_configs_and_attention_has_none(bert: Path, layoutlm: Path) -> None:
    for folder in (bert, layoutlm):
        config = load_model(WordLabelsConfig(pretrained=str(folder), dropout=0.3), LABELS).model.config
        assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.3, 0.0)
        assert config._attn_implementation == PACKED
        assert config.id2label == LABELS.id2label


def test_sinusoids_are_small_distinct_and_smooth() -> None:
    table = sinusoids(1024, 32, std=0.02)
    assert table.shape == (1024, 32)
    assert table.square().mean().sqrt().item() == pytest.approx(0.02, rel=1e-3)
    distances = torch.cdist(table, table)
    assert distances.fill_diagonal_(1).min() > 1e-4
    assert distances[500, 501] < distances[500, 510] < distances[500, 600]


def test_an_uneven_size_has_its_table_too() -> None:
    assert sinusoids(10, 7, std=1.0).shape == (10, 7)


def test_the_pooler_is_frozen(bert: Path) -> None:
    model = load_model(WordLabelsConfig(pretrained=str(bert)), LABELS).model
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"layoutlm.pooler.dense.weight", "layoutlm.pooler.dense.bias"}


@pytest.mark.engine
def test_without_a_network_a_hub_name_fails_in_one_line_that_names_an_alternative(tmp_path: Path) -> None:
    """A process of its own: transformers reads at import that it must not ask the hub, and where its cache is."""
    program = (
        "from receipt_layoutlm.configs.word_labels import WordLabelsConfig; "
        "from receipt_layoutlm.training.tasks.pretrained import load_fast_tokenizer; "
        "load_fast_tokenizer(WordLabelsConfig())"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    last_line = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert "ModelLoadError: cannot load microsoft/layoutlm-base-uncased" in last_line
    assert "--pretrained minilm" in last_line


def test_a_folder_of_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ModelLoadError, match="is a gpt2 model: use a LayoutLM or BERT checkpoint"):
        load_model(WordLabelsConfig(pretrained=str(tmp_path)), LABELS)


def test_weights_that_are_no_safetensors_are_refused(layoutlm: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((layoutlm / "config.json").read_text())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match="safetensors"):
        load_model(WordLabelsConfig(pretrained=str(tmp_path)), LABELS)


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation"])
@pytest.mark.parametrize("kind", ["bert", "layoutlm"])
def test_weights_that_require_code_of_the_hub_are_refused(
    request: pytest.FixtureRequest, tmp_path: Path, key: str, kind: str
) -> None:
    folder = changed_copy(request.getfixturevalue(kind), tmp_path, "config.json", {key: "somebody/kernel"})

    with pytest.raises(ModelLoadError, match=r"attention code 'somebody/kernel': remove it from its config\.json"):
        load_model(WordLabelsConfig(pretrained=str(folder)), LABELS)


def test_quantized_weights_are_refused(layoutlm: Path, tmp_path: Path) -> None:
    quantized = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}
    folder = changed_copy(layoutlm, tmp_path, "config.json", quantized)

    with pytest.raises(ModelLoadError, match="full precision"):
        load_model(WordLabelsConfig(pretrained=str(folder)), LABELS)


@pytest.mark.engine
@pytest.mark.parametrize("load", ["load_fast_tokenizer(config)", "load_model(config, None)"])
def test_code_beside_weights_is_not_run_even_if_the_prompt_gets_a_yes(
    layoutlm: Path, tmp_path: Path, load: str
) -> None:
    """A process of its own, with a stdin on which transformers would ask."""
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    folder, marker = changed_copy(layoutlm, tmp_path, "config.json", own), tmp_path / "ran"
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    map_of_own = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, **map_of_own}))
    (folder / "own.py").write_text(f"open({str(marker)!r}, 'w')\n")
    program = (
        "from receipt_layoutlm.configs.word_labels import WordLabelsConfig; "
        "from receipt_layoutlm.training.tasks.pretrained import load_fast_tokenizer; "
        "from receipt_layoutlm.training.tasks.word_labels.layoutlm import load_model; "
        f"config = WordLabelsConfig(pretrained={str(folder)!r}); {load}"
    )

    command = [sys.executable, "-c", program]
    done = subprocess.run(command, input="y\n" * 9, capture_output=True, text=True, check=False)

    assert not marker.exists(), done.stdout
    assert "Do you wish to run" not in done.stdout, done.stderr


def changed_copy(source: Path, parent: Path, name: str, changes: dict[str, object]) -> Path:
    """A copy of a model folder in which one JSON file says something else."""
    folder = parent / "copy"
    shutil.copytree(source, folder)
    document = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**document, **changes}))
    return folder


def test_weights_of_a_bucket_are_read_from_the_run_directory(layoutlm: Path, tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    shutil.copytree(layoutlm, run_dir.pretrained)
    named = WordLabelsConfig(pretrained="s3://a-bucket/best")
    laid = with_local_weights(named, run_dir)

    model, expected = (load_model(each, LABELS).model for each in (laid, WordLabelsConfig(pretrained=str(layoutlm))))

    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))
    assert (
        load_fast_tokenizer(laid).get_vocab()
        == load_fast_tokenizer(WordLabelsConfig(pretrained=str(layoutlm))).get_vocab()
    )
    assert named.pretrained == "s3://a-bucket/best"
    assert with_local_weights(WordLabelsConfig(pretrained="minilm"), run_dir).pretrained == "minilm"


def test_weights_of_a_bucket_that_were_not_downloaded_are_an_error(layoutlm: Path) -> None:
    with pytest.raises(ModelLoadError, match="s3://a-bucket/best was not downloaded"):
        load_model(WordLabelsConfig(pretrained="s3://a-bucket/best"), LABELS)

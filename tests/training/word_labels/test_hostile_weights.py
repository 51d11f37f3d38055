"""Folders of weights that cannot be loaded: the options are to blame, in one line, and no file in them is run."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import torch
from safetensors.torch import load_file, save_file

from receipt_dynamo import JobError
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.run.events import Failed, Finished
from receipt_layoutlm.training.loop import train
from receipt_layoutlm.training.tasks.pretrained import ModelLoadError, load_fast_tokenizer
from tests.support.runs import never, new_run, tiny_model

Harm = Callable[[Path], object]

DEEP: Final = b'{"a":' * 100_000
WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.path, "w")


def cut(size: int) -> Harm:
    return lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:size])


def header(content: bytes) -> Harm:
    return lambda folder: (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(content)) + content)


def tensors(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Harm:
    return lambda folder: save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})


def wrote(name: str, content: bytes) -> Harm:
    return lambda folder: (folder / name).write_bytes(content)


def config(**values: object) -> Harm:
    def change(folder: Path) -> None:
        path = folder / CONFIG
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def tokenizer(**values: object) -> Harm:
    def change(folder: Path) -> None:
        path = folder / TOKENIZER
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def only_a_pickle(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    torch.save(Bomb(folder / "exploded"), folder / "pytorch_model.bin")


def no_tokenizer(folder: Path) -> None:
    for path in folder.glob("*token*"):
        path.unlink()


HARMS: Final[dict[str, Harm]] = {
    "no bytes": cut(0),
    "a cut header": cut(100),
    "cut weights": cut(20_000),
    "a header longer than every disk": wrote(WEIGHTS, struct.pack("<Q", 2**63) + b"{}"),
    "a deep header": header(DEEP),
    "a shape beyond every memory": header(b'{"a":{"dtype":"F32","shape":[9999999999,99999999],"data_offsets":[0,4]}}'),
    "no weights": tensors(lambda _: {}),
    "weights of other names": tensors(lambda all_: {f"x.{name}": value for name, value in all_.items()}),
    "transposed weights": tensors(lambda all_: {name: value.t().contiguous() for name, value in all_.items()}),
    "half of the weights": tensors(lambda all_: dict(list(all_.items())[:5])),
    "only a pickle": only_a_pickle,
    "an index without weights": lambda folder: (
        (folder / WEIGHTS).unlink(),
        (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../etc/passwd"}}'),
    ),
    "an empty config": wrote(CONFIG, b""),
    "a config that is a list": wrote(CONFIG, b"[]"),
    "a config that is null": wrote(CONFIG, b"null"),
    "a config that is no text": wrote(CONFIG, b"\xff\xfe\x00"),
    "a deep config": wrote(CONFIG, DEEP),
    "a hidden size in words": config(hidden_size="x"),
    "a hidden size of 0": config(hidden_size=0),
    "negative heads": config(num_attention_heads=-1),
    "heads that do not divide": config(num_attention_heads=3),
    "a vocabulary of 400 digits": config(vocab_size=10**400),
    "a vocabulary beyond the memory": config(vocab_size=10**9),
    "endless layers": config(num_hidden_layers=10**12),
    "no layers": config(num_hidden_layers=0),
    "few positions": config(max_position_embeddings=4),
    "few places": config(max_2d_position_embeddings=10),
    "an unknown activation": config(hidden_act="evil"),
    "an unknown dtype": config(dtype="float999"),
    "another model": config(model_type="evil"),
    "a model type that is a list": config(model_type=["bert"]),
    "another model's weights": config(model_type="bert"),
    "attention code of the hub": config(_attn_implementation="kernels-community/x"),
    "a quantizer": config(quantization_config={"quant_method": "bitsandbytes"}),
    "a map of code that is a number": config(auto_map=7),
    "no tokenizer": no_tokenizer,
    "an empty tokenizer": wrote(TOKENIZER, b""),
    "a deep tokenizer": wrote(TOKENIZER, DEEP),
    "a tokenizer that is null": wrote(TOKENIZER, b"null"),
    "a tokenizer without a model": tokenizer(model=None),
    "a tokenizer without words": tokenizer(model={"type": "BPE", "vocab": {}, "merges": []}),
    "a tokenizer of larger weights": tokenizer(
        model={"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
               "max_input_chars_per_word": 99, "vocab": {"[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "t": 10**6}}
    ),
    "an unknown post processor": tokenizer(post_processor={"type": "x"}),
    "a broken expression": tokenizer(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": "(((("}, "behavior": "Isolated", "invert": False}
    ),
    "a slow tokenizer": wrote("tokenizer_config.json", b'{"tokenizer_class": "ByT5Tokenizer"}'),
    "a tokenizer with code": wrote(
        "tokenizer_config.json", b'{"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [null, "own.Own"]}}'
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("whole"))


def trained_on(folder: Path) -> Finished | Failed:
    return train(new_run(folder.with_name("run"), folder, epochs=1, batch_size=4), never)


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """Weights, beside them code that leaves a file when it is run."""
    shutil.copytree(whole, tmp_path / "weights")
    for name in ("own.py", "evil.py", "modeling_layoutlm.py"):
        (tmp_path / "weights" / name).write_text(f"open({str(tmp_path / 'weights' / 'exploded')!r}, 'w')")
    return tmp_path / "weights"


@pytest.mark.parametrize("harm", HARMS)
def test_weights_that_cannot_be_loaded_end_the_job_with_one_line(copied: Path, harm: str) -> None:
    HARMS[harm](copied)
    end = trained_on(copied)
    assert isinstance(end, Failed) and end.cause == "bad_config", end
    assert "\n" not in end.message and copied.name in end.message and len(end.message) < 600
    assert not JobError(cause=end.cause, message=end.message).is_retryable
    assert not (copied / "exploded").exists()


@pytest.mark.parametrize(
    "harm",
    [
        config(auto_map={"AutoConfig": "evil.Config", "AutoModelForTokenClassification": "evil.Model"}),
        config(architectures=["Evil"], custom_pipelines={"x": {"impl": "evil.X"}}),
        lambda folder: torch.save(Bomb(folder / "exploded"), folder / "pytorch_model.bin"),
        wrote("chat_template.jinja", b"{{ ''.__class__.__mro__[1].__subclasses__() }}"),
        wrote("adapter_config.json", b'{"base_model_name_or_path": "evil/x"}'),
    ],
)
def test_code_beside_whole_weights_is_not_run(copied: Path, harm: Harm) -> None:
    harm(copied)
    assert isinstance(trained_on(copied), Finished)
    assert not (copied / "exploded").exists()


def test_a_missing_tokenizer_is_named_with_the_file_that_it_lacks(copied: Path) -> None:
    no_tokenizer(copied)
    with pytest.raises(ModelLoadError, match=r"the tokenizer of .* is missing, or has no .*: add tokenizer\.json"):
        load_fast_tokenizer(WordLabelsConfig(pretrained=str(copied)))

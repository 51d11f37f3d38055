"""Flag over file over environment over recipe over default, with the source of each value kept."""

import re
from pathlib import Path

import pytest

from receipt_layoutlm.config import ConfigError
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.jobs.request import read_config_file, resolve


def test_a_flag_beats_the_file_which_beats_the_environment_which_beats_the_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("lr: 0.003\nepochs: 3\nsample_size: 200\ndataset: from-recipe\n")

    resolved = resolve(
        flags={"lr": 1e-3, "recipe": str(recipe)},
        file={"lr": 2e-3, "epochs": 7},
        environ={"LAYOUTLM_DATASET": "from-environment"},
    )

    assert (resolved.config.lr, resolved.config.epochs, resolved.config.sample_size) == (1e-3, 7, 200)
    assert resolved.config.dataset == "from-environment"
    assert resolved.given == {"lr": "flag", "epochs": "file", "sample_size": "recipe", "dataset": "environment"}
    assert resolved.recipe == "mine.yaml"


def test_minilm_has_the_recipe_receipts_unless_another_is_named() -> None:
    good = resolve({"pretrained": "minilm"}, {}, {})
    plain = resolve({"pretrained": "minilm"}, {"recipe": "original"}, {})

    assert good.recipe == "receipts"
    assert good.config.model_dump(include=set(good.given)) == {
        "pretrained": "minilm",
        "epochs": 12,
        "batch_size": 8,
        "lr": 4e-4,
        "label_smoothing": 0.1,
        "augment": ("entities", "drop", "ocr", "boxes"),
        "single_valued_labels": ("MERCHANT_NAME", "ADDRESS_LINE", "GRAND_TOTAL"),
    }
    assert (plain.recipe, plain.config) == ("original", WordLabelsConfig(pretrained="minilm"))


def test_other_weights_have_the_defaults_unless_a_recipe_is_named_which_has_values_of_their_own() -> None:
    plain, base = resolve({}, {}, {}), resolve({"recipe": "receipts", "pretrained": "some/base"}, {}, {})

    assert (plain.recipe, plain.config, plain.given) == ("original", WordLabelsConfig(), {})
    assert (base.config.lr, base.config.batch_size, base.config.epochs) == (5e-5, 16, 20)
    assert base.config.augment


def test_a_recipe_brings_its_weights_where_none_are_named() -> None:
    resolved = resolve({"recipe": "receipts"}, {}, {})

    assert (resolved.config.pretrained, resolved.config.lr) == ("minilm", 4e-4)


def test_every_value_of_a_recipe_gives_way_to_a_flag() -> None:
    flags = {"pretrained": "minilm", "epochs": 1, "augment": ("none",), "single_valued_labels": ["none"], "lr": 1e-4}

    config = resolve(flags, {}, {}).config

    assert (config.epochs, config.augment, config.single_valued_labels, config.lr) == (1, (), (), 1e-4)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("recipts", "did you mean receipts?"),
        ("nothing-like-it", "there are receipts, quick, original, and YAML files"),
        ("NESTED", "a recipe cannot name another one"),
        ("UNKNOWN", "unknown key 'epoch'"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_refused(tmp_path: Path, recipe: str, words: str) -> None:
    files = {"NESTED": "recipe: quick\n", "UNKNOWN": "epoch: 3\n"}
    path = tmp_path / "mine.yaml"
    path.write_text(files.get(recipe, ""))

    with pytest.raises(ConfigError, match=re.escape(words)):
        resolve({"recipe": str(path) if recipe in files else recipe}, {}, {})


def test_what_is_told_about_the_job_is_not_part_of_its_config() -> None:
    resolved = resolve({"job_name": "a", "tags": {"k": "v"}, "experiment": "e"}, {}, {})

    assert resolved.request.all_tags() == {"k": "v", "experiment": "e"}
    assert "job_name" not in resolved.given


def test_an_unknown_key_of_the_file_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown key 'jobname': did you mean 'job_name'"):
        resolve({}, {"jobname": "x"}, {})


def test_a_split_of_a_dataset_that_has_its_own_evaluation_pages_is_a_contradiction() -> None:
    with pytest.raises(ConfigError, match="have no effect"):
        resolve({"eval_dataset": "held-out", "split": "random"}, {}, {})


def test_the_options_of_a_parent_take_the_place_of_the_defaults() -> None:
    parent = WordLabelsConfig(lr=1e-3, epochs=4, eval_dataset="held-out", split="random")

    resolved = resolve({"epochs": 9}, {}, {}, parent)

    assert resolved.config == parent.model_copy(update={"epochs": 9})
    assert resolved.given == {"epochs": "flag"}


def test_what_is_continued_is_not_said_in_a_file() -> None:
    with pytest.raises(ConfigError, match="--resume JOB"):
        resolve({}, {"continues": "a-job@3"}, {})


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "a b", "a\x1b[2J"])
def test_a_job_name_is_one_safe_path_segment(name: str) -> None:
    with pytest.raises(ConfigError):
        resolve({"job_name": name}, {}, {})


def test_a_config_file_may_write_keys_as_flags_are_written(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("batch-size: 4\nlr: 6.0e-5\n")

    assert resolve({}, read_config_file(path), {}).config.batch_size == 4


@pytest.mark.parametrize("text", ["- a list", "a: [", "just words"])
def test_a_file_that_is_no_mapping_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=r"run\.yaml"):
        read_config_file(path)


@pytest.mark.parametrize("number", ["9" * 5000, "0x" + "f" * 5000, "0b" + "1" * 30_000, "1" + ":59" * 9000])
def test_a_number_without_end_is_refused_in_every_notation_with_its_line(tmp_path: Path, number: str) -> None:
    file = tmp_path / "options.yaml"
    file.write_text(f"epochs: 3\nlabel_merges: {{A: {number}}}\n")
    with pytest.raises(ConfigError, match=r"^.*options.yaml: the number in line 2 has [\d,]+ characters"):
        read_config_file(file)


def test_aliases_that_stand_for_millions_of_values_are_refused(tmp_path: Path) -> None:
    levels = [
        f"{name}: &{name} [{', '.join([f'*{inner}'] * 10)}]" for inner, name in zip("abcdefg", "bcdefgh", strict=True)
    ]
    file = tmp_path / "options.yaml"
    file.write_text("\n".join(["a: &a [x, x]", *levels]))
    with pytest.raises(ConfigError, match=r"^[^:]*options.yaml: its aliases stand for more than 10,000 values"):
        read_config_file(file)

"""Flag over file over --quick over environment over default, with the source of each value kept."""

from pathlib import Path

import pytest

from receipt_layoutlm.config import ConfigError
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.jobs.request import QUICK, read_config_file, resolve


def test_a_flag_beats_the_file_which_beats_quick_which_beats_the_environment() -> None:
    resolved = resolve(
        flags={"lr": 1e-3},
        file={"lr": 2e-3, "epochs": 7},
        quick=QUICK,
        environ={"LAYOUTLM_DATASET": "from-environment"},
    )

    assert resolved.config.lr == 1e-3
    assert resolved.config.epochs == 7
    assert resolved.config.sample_size == QUICK["sample_size"]
    assert resolved.config.dataset == "from-environment"
    assert resolved.given == {"lr": "flag", "epochs": "file", "sample_size": "quick", "dataset": "environment"}


def test_what_is_told_about_the_job_is_not_part_of_its_config() -> None:
    resolved = resolve({"job_name": "a", "tags": {"k": "v"}, "experiment": "e"}, {}, {}, {})

    assert resolved.request.all_tags() == {"k": "v", "experiment": "e"}
    assert "job_name" not in resolved.given


def test_an_unknown_key_of_the_file_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown key 'jobname': did you mean 'job_name'"):
        resolve({}, {"jobname": "x"}, {}, {})


def test_a_split_of_a_dataset_that_has_its_own_evaluation_pages_is_a_contradiction() -> None:
    with pytest.raises(ConfigError, match="have no effect"):
        resolve({"eval_dataset": "held-out", "split": "random"}, {}, {}, {})


def test_the_options_of_a_parent_take_the_place_of_the_defaults() -> None:
    parent = WordLabelsConfig(lr=1e-3, epochs=4, eval_dataset="held-out", split="random")

    resolved = resolve({"epochs": 9}, {}, {}, {}, parent)

    assert resolved.config == parent.model_copy(update={"epochs": 9})
    assert resolved.given == {"epochs": "flag"}


def test_what_is_continued_is_not_said_in_a_file() -> None:
    with pytest.raises(ConfigError, match="--resume JOB"):
        resolve({}, {"continues": "a-job@3"}, {}, {})


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "a b", "a\x1b[2J"])
def test_a_job_name_is_one_safe_path_segment(name: str) -> None:
    with pytest.raises(ConfigError):
        resolve({"job_name": name}, {}, {}, {})


def test_a_config_file_may_write_keys_as_flags_are_written(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("batch-size: 4\nlr: 6.0e-5\n")

    assert resolve({}, read_config_file(path), {}, {}).config.batch_size == 4


@pytest.mark.parametrize("text", ["- a list", "a: [", "just words"])
def test_a_file_that_is_no_mapping_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=r"run\.yaml"):
        read_config_file(path)

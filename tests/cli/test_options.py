"""`train` has the options of its task, in groups: --help shows the basic ones, --help-all all of them."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from receipt_layoutlm.cli import cli
from receipt_layoutlm.config import BASIC, GROUPS, TrainConfig
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from tests.support.longer_text import install


@pytest.fixture
def _second_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")


def ran(*words: str) -> Result:
    return CliRunner().invoke(cli, ["train", *words], terminal_width=200)


def test_help_shows_the_basic_options_in_their_groups_and_how_to_see_the_others() -> None:
    output = ran("--help").output

    assert all(f"--{name.replace('_', '-').replace('labels', 'label')} " in output for name in BASIC)
    assert "--layer-lr-decay" not in output and "more options: --help-all shows them." in output
    titles = [line for line in output.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles[:3] == ["Data:", "Labels:", "Model:"]


def test_help_all_shows_every_option_once() -> None:
    lines = [line.split()[0] for line in ran("--help-all").output.splitlines() if line.startswith("  --")]

    assert {"--layer-lr-decay", "--decoding", "--job-name", "--resume", "--lr"} <= set(lines)
    assert len(lines) == len(set(lines))


def test_every_option_belongs_to_a_group_and_the_basic_ones_exist() -> None:
    fields = WordLabelsConfig.model_fields
    grouped = {name for name, field in fields.items() if isinstance(field.json_schema_extra, dict)}

    assert fields.keys() - grouped == {"config_version", "task", "continues"}
    assert {fields[name].json_schema_extra["group"] for name in grouped} == set(GROUPS)  # type: ignore[index]
    assert fields.keys() >= BASIC and len(BASIC) == 15


@pytest.mark.usefixtures("_second_task")
def test_another_task_has_its_own_options_and_not_those_of_layoutlm() -> None:
    output = ran("--task", "longer_text", "--help-all").output

    assert "--hidden-size" in output and "--lr " in output and "--resume" in output
    assert "--decoding" not in output and "--allowed-label" not in output
    assert "--hidden-size" not in ran("--help-all").output


@pytest.mark.usefixtures("_second_task")
@pytest.mark.parametrize("words", [["--task=longer_text"], ["--task", "layoutlm", "--task", "longer_text"]])
def test_the_last_task_given_is_the_one_whose_options_are_shown(words: list[str]) -> None:
    output = ran(*words, "--help-all").output

    assert "--hidden-size" in output and "--decoding" not in output


@pytest.mark.usefixtures("_second_task")
def test_an_option_of_another_task_is_a_usage_error_that_says_which() -> None:
    result = ran("--task", "longer_text", "--decoding", "argmax")

    assert result.exit_code == 2
    assert "--decoding is an option of task layoutlm, not of this one." in result.output


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--learning-rate", "1"], "it is called --lr here"),
        (["--num-train-epochs", "1"], "it is called --epochs here"),
        (["--decodin", "argmax"], "Did you mean --decoding?"),
        (["--task", "foo"], "unknown task 'foo': known are layoutlm"),
        (["--task"], "Option '--task' requires an argument."),
        ([], "no table: give --dynamo-table"),
    ],
)
def test_a_wrong_or_missing_option_is_answered_with_the_one_that_is_meant(words: list[str], text: str) -> None:
    result = ran(*words)

    assert result.exit_code == 2 and text in " ".join(result.output.split())


def test_run_options_name_nothing_of_one_task() -> None:
    assert not {name for name in TrainConfig.model_fields if "label" in name or "entity" in name}

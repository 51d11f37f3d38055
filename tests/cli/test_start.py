"""What starting the command line costs: --help and the imports behind it."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from receipt_layoutlm.cli import COMMANDS, cli

SLOW = {"torch", "transformers", "boto3", "pynamodb", "pydantic"}


def modules_after(code: str) -> set[str]:
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_help_imports_nothing_slow() -> None:
    code = "from receipt_layoutlm.cli import cli\ncli.main(['--help'], standalone_mode=False)"

    assert not SLOW & modules_after(code)


@pytest.mark.parametrize("noun", sorted(COMMANDS))
def test_no_command_imports_torch(noun: str) -> None:
    code = f"from receipt_layoutlm.cli import cli\ncli.main([{noun!r}, '--help'], standalone_mode=False)"

    assert not {"torch", "transformers"} & modules_after(code)


def test_reading_commands_start_without_boto3s_transfer_machinery() -> None:
    code = "from receipt_layoutlm.cli import cli\ncli.main(['job', '--help'], standalone_mode=False)"

    assert "boto3.s3.transfer" not in modules_after(code)


@pytest.mark.parametrize("noun", sorted(COMMANDS))
def test_the_line_in_the_help_says_what_the_command_says_of_itself(noun: str) -> None:
    result = CliRunner().invoke(cli, [noun, "--help"])

    assert result.exit_code == 0
    assert COMMANDS[noun][1] in CliRunner().invoke(cli, ["--help"], terminal_width=200).output


def test_an_unknown_command_is_a_usage_error_with_the_nearest() -> None:
    result = CliRunner().invoke(cli, ["trian"])

    assert result.exit_code == 2
    assert "Did you mean 'train'?" in result.stderr


@pytest.mark.parametrize(
    ("words", "argument"),
    [
        ("evaluate --model best/ --data pages.jsonl", "evaluate MODEL"),
        ("evaluate --modle best/", "evaluate MODEL"),
        ("calibrate --job @best", "calibrate MODEL"),
        ("model export --job @best --onnx", "model export MODEL"),
        ("job show --job @last", "job show JOB"),
        ("predict --source scan.jpg", "predict [SOURCE]..."),
    ],
)
def test_an_option_that_is_an_argument_is_answered_with_it(words: str, argument: str) -> None:
    result = CliRunner().invoke(cli, words.split(), prog_name="layoutlm-cli")

    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].endswith(f"It is an argument: layoutlm-cli {argument}")


@pytest.mark.parametrize(
    ("arguments", "module", "extra"),
    [
        (["worker", "run", "--once"], "torch", "train"),
        (["train", "--run-here"], "torch", "train"),
        (["dataset", "import", "sample"], "faker", "local"),
    ],
)
def test_without_an_extra_the_error_names_it_before_anything_is_done(
    arguments: list[str], module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as where it is not installed

    result = CliRunner().invoke(cli, arguments)

    assert result.exit_code == 1
    assert f"receipt-layoutlm[{extra}]" in result.stderr

"""Completion in a shell: commands, option values, jobs and datasets; silent and quick where there is nothing."""

from pathlib import Path

import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from receipt_dynamo import JobQueue, utcnow
from receipt_layoutlm.cli import cli
from receipt_layoutlm.cli.completion import VARIABLE
from receipt_layoutlm.datasets.snapshots import describe_dataset
from tests.support.moto_worker import submit
from tests.support.tiny import tiny_pages


def completed(*words: str) -> list[str]:
    """What bash proposes for the last of these words."""
    shell = BashComplete(cli, {}, "layoutlm-cli", VARIABLE)
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


def test_commands_and_option_values_need_no_table() -> None:
    assert completed("jo") == ["job"]
    assert {"list", "show", "wait"} <= set(completed("job", ""))
    assert completed("train", "--precision", "b") == ["bf16"]
    assert "GRAND_TOTAL" in completed("train", "--allowed-label", "GRAND")
    assert completed("train", "--pretrained", "mini") == ["minilm"]


def test_jobs_are_completed_by_name_and_by_the_start_of_an_id(queue: JobQueue) -> None:
    job = submit(queue)

    assert completed("job", "show", "") == ["@last", "@best", "@production", "a-job"]
    assert completed("job", "show", job.job_id[:6]) == [job.job_id]
    assert completed("train", "--resume", "a") == ["a-job"]
    assert completed("job", "compare", "x", "a") == ["a-job"]


def test_datasets_are_completed_by_name_and_by_fingerprint(queue: JobQueue) -> None:
    dataset = describe_dataset("tiny", tiny_pages(12), "test", utcnow())
    queue.client.add_dataset(dataset, 0)

    assert completed("train", "--dataset", "t") == ["tiny"]
    assert completed("dataset", "snapshot", "tiny@") == [f"tiny@{dataset.fingerprint[:12]}"]


def test_without_a_table_and_with_one_that_is_gone_nothing_is_proposed(
    queue: JobQueue, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert completed("job", "show", "--dynamo-table", "gone", "a") == []
    monkeypatch.delenv("DYNAMO_TABLE_NAME")
    assert completed("job", "show", "a") == []
    assert completed("train", "--dataset", "") == []
    assert capfd.readouterr() == ("", "")


def test_a_stopped_local_table_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYOUTLM_STATE_DIR", str(tmp_path / "state"))

    assert completed("--local", "job", "show", "a") == []
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(("shell", "profile"), [("bash", ".bashrc"), ("zsh", ".zshrc")])
def test_an_installation_loads_the_script_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str, profile: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / profile).write_text("own line")
    for _ in range(2):
        assert CliRunner().invoke(cli, ["completion", shell, "--install"]).exit_code == 0

    (script,) = tmp_path.glob(f".local/share/layoutlm-completion/*.{shell}")
    lines = (tmp_path / profile).read_text().splitlines()
    assert lines[0] == "own line" and sum(str(script) in line for line in lines) == 1
    assert VARIABLE in script.read_text()


def test_fish_finds_its_script_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    printed = CliRunner().invoke(cli, ["completion", "fish"]).stdout
    assert CliRunner().invoke(cli, ["completion", "fish", "--install"]).exit_code == 0

    assert (tmp_path / ".config/fish/completions/layoutlm-cli.fish").read_text() == printed.removesuffix("\n")

"""doctor: each result says what is there and what to do, and the exit code says whether a local run can work."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from receipt_layoutlm.cli import doctor
from receipt_layoutlm.fleet.check_result import CheckResult
from receipt_layoutlm.local.engines import dynoxide_path, platform_key, programs_dir


def states(results: list[CheckResult]) -> dict[str, str]:
    return {each.name: each.state for each in results}


def test_an_old_python_is_missing_a_new_one_is_not() -> None:
    assert doctor.check_python((3, 10, 14)).state == "missing"
    assert doctor.check_python((3, 11, 0)).state == "ok"


def test_windows_is_told_what_works_there() -> None:
    found = doctor.check_system("win32-x64")
    assert (found.state, "only the control side" in found.advice) == ("missing", True)


def test_a_package_is_looked_up_without_being_imported() -> None:
    assert doctor.check_package("click", "missing", "").state == "ok"
    absent = doctor.check_package("no-such-package-anywhere", "warn", "pip install it")
    assert absent == CheckResult("no-such-package-anywhere", "warn", "not installed", "pip install it")


def test_the_device_is_what_a_child_says() -> None:
    assert doctor.check_device([sys.executable, "-c", "print('mps')"]) == CheckResult("device", "ok", "mps")
    broken = doctor.check_device([sys.executable, "-c", "raise ImportError('libtorch.so: not found')"])
    assert broken.state == "missing"
    assert "libtorch.so: not found" in broken.advice


def test_a_driver_that_torch_cannot_use_is_worth_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = doctor.check_device([sys.executable, "-c", "print('cpu')"])
    assert (found.state, found.found) == ("warn", "cpu")


def test_dynoxide_is_there_or_fetched_or_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.check_dynamodb("linux-riscv64", tmp_path).state == "warn"
    assert doctor.check_dynamodb("linux-x64", tmp_path).advice == "install Node.js"

    (tmp_path / "npm").touch(mode=0o755)
    assert "fetched at first use" in doctor.check_dynamodb("linux-x64", tmp_path).found

    binary = dynoxide_path("linux-x64", tmp_path)
    binary.parent.mkdir()
    binary.touch()
    assert doctor.check_dynamodb("linux-x64", tmp_path).state == "ok"


def test_room_is_measured_where_the_folder_will_be(tmp_path: Path) -> None:
    found = doctor.check_state(tmp_path / "not" / "yet")
    assert str(tmp_path / "not" / "yet") in found.found
    assert found.state in ("ok", "warn", "missing")
    assert not (tmp_path / "not").exists()


def test_text_has_the_advice_below_its_line() -> None:
    text = doctor.as_text([CheckResult("torch", "missing", "not installed", "pip install it")])
    assert [line.split() for line in text.splitlines()][1] == ["->", "pip", "install", "it"]


@pytest.mark.engine
def test_every_part_is_named_here() -> None:
    found = states(doctor.check_machine(platform_key(), programs_dir(), Path.cwd(), Path.cwd()))
    assert {"Python", "torch", "device", "weights", "DynamoDB", "S3", "state folder", "work folder"} <= set(found)


@pytest.mark.engine
def test_the_command_fails_when_torch_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so: not found')")
    code = f"import os, runpy; os.environ['PYTHONPATH'] = {str(tmp_path)!r};"
    code += "runpy.run_module('receipt_layoutlm.cli', run_name='__main__')"
    shown = subprocess.run([sys.executable, "-c", code, "doctor", "--json"], capture_output=True, text=True)

    device = next(each for each in json.loads(shown.stdout) if each["name"] == "device")
    assert shown.returncode == 1
    assert device["advice"] == "torch does not load: ImportError: libcudart.so: not found"

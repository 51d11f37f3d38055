"""What a record says of the code and of the machine it ran on."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from receipt_layoutlm.run.hardware import Hardware
from receipt_layoutlm.run.record import ROOT, bundle_sha256, wheel_sha256
from tests.support.runs import new_run, tiny_model

SHA256 = "ab" * 32
ARCHIVE = {
    "url": "file:///wheels/receipt_layoutlm-0.1.0-py3-none-any.whl",
    "archive_info": {"hashes": {"sha256": SHA256}},
}


def installed(folder: Path, direct_url: object, name: str = "receipt_layoutlm") -> Path:
    """A folder of packages as pip leaves it."""
    info = folder / f"{name}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 0.1.0\n")
    if direct_url is not None:
        (info / "direct_url.json").write_text(json.dumps(direct_url))
    return folder


def test_the_wheel_that_a_package_was_installed_from_is_named_by_its_hash(tmp_path: Path) -> None:
    assert wheel_sha256(installed(tmp_path, ARCHIVE)) == SHA256


@pytest.mark.parametrize(
    "direct_url",
    [None, {"url": "file:///code", "dir_info": {"editable": True}}, {"url": "x", "archive_info": {}}, [], "text"],
)
def test_without_a_hash_of_a_wheel_there_is_none(tmp_path: Path, direct_url: object) -> None:
    assert wheel_sha256(installed(tmp_path, direct_url)) is None


def test_another_package_or_one_elsewhere_says_nothing_of_this_code(tmp_path: Path) -> None:
    assert wheel_sha256(installed(tmp_path, ARCHIVE, name="something_else")) is None
    assert wheel_sha256() is None  # a checkout


@pytest.mark.parametrize("note", [None, "", "not a hash\n", "AB" * 32])
def test_outside_of_a_fleet_there_is_no_bundle(tmp_path: Path, note: str | None) -> None:
    if note is not None:
        (tmp_path / "bundle").write_text(note)
    assert bundle_sha256(tmp_path) is None


@pytest.mark.engine
def test_a_run_of_a_fleet_names_the_bundle_of_its_machine(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    site = venv / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    (site / "here.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    (venv / "bundle").write_text(f"{SHA256}\n")
    run_dir = new_run(tmp_path / "run", tiny_model(tmp_path / "model"), epochs=1)

    with subprocess.Popen(
        [venv / "bin/python", "-m", "receipt_layoutlm.training", run_dir.path], stdin=subprocess.PIPE
    ) as trainer:
        assert trainer.wait(timeout=120) == 0

    assert json.loads(run_dir.run_json.read_text())["bundle_sha256"] == SHA256


def test_hardware_of_earlier_versions_is_still_read_and_told() -> None:
    earlier = {"device": "cpu", "device_name": "", "machine": "x86_64", "cpus": 2, "threads": 1}
    assert Hardware.model_validate(earlier).text == "cpu, 1 thread"
    gpus = {
        "device": "cuda",
        "device_name": "NVIDIA H200",
        "threads": 8,
        "precision": "bf16",
        "tf32": True,
        "processes": 4,
    }
    told = "cuda (NVIDIA H200), bf16, TF32, 4 processes, 8 threads"
    assert Hardware.model_validate(earlier | gpus).text == told

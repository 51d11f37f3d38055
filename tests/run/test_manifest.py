"""A manifest comes out of a bucket and is hostile until it was read."""

import json
from pathlib import Path

import pytest

from receipt_layoutlm.run.manifest import MANIFEST, DamagedFolder, read_manifest, verify, write_manifest

FILE = {"size": 1, "sha256": "0" * 64}


def write(folder: Path, **changes: object) -> None:
    document = {"version": 1, "global_step": 7, "files": {"model": FILE}, **changes}
    (folder / MANIFEST).write_text(json.dumps(document))


def test_a_manifest_says_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    write_manifest(tmp_path, global_step=7)

    assert verify(tmp_path).global_step == 7
    assert verify(tmp_path).files["model.safetensors"].size == 7


@pytest.mark.parametrize(
    "name",
    [
        *("../evil", "/etc/passwd", "a/b", "a\\b", "..", ".", ".hidden", "", "a\0b", "a\n", "C:x", "é", "n" * 201),
        *(MANIFEST, "Manifest.JSON"),
    ],
)
def test_a_file_name_that_is_no_plain_segment_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, files={name: FILE})

    with pytest.raises(DamagedFolder, match=r"no readable manifest\.json"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"global_step": -1},
        {"files": {"model": {**FILE, "size": -1}}},
        {"files": {"model": {**FILE, "sha256": "../x"}}},
        {"extra": 1},
        {"files": []},
    ],
)
def test_a_manifest_with_impossible_values_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    write(tmp_path, **changes)

    with pytest.raises(DamagedFolder, match=r"no readable manifest\.json"):
        read_manifest(tmp_path)


def test_a_folder_without_a_manifest_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(DamagedFolder, match=r"no readable manifest\.json"):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST).write_bytes(b"{")
    with pytest.raises(DamagedFolder, match=r"no readable manifest\.json"):
        read_manifest(tmp_path)


def test_a_file_that_is_missing_or_differs_is_named(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"weights")
    write_manifest(tmp_path, global_step=7)

    (tmp_path / "model").write_bytes(b"wEights")
    with pytest.raises(DamagedFolder, match="model is missing or not"):
        verify(tmp_path)
    (tmp_path / "model").unlink()
    with pytest.raises(DamagedFolder, match="model is missing or not"):
        verify(tmp_path)

"""manifest.json: the files of a folder with their sizes and SHA-256. A folder is complete when its manifest exists."""

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from receipt_layoutlm.data.page import validation_reason
from receipt_layoutlm.errors import UserError

MANIFEST = "manifest.json"
MODEL = "model.safetensors"
ONNX_MODEL = "model.onnx"
"""The weights in a folder that `model export` wrote."""
RESUME_ONLY = frozenset({"optimizer.safetensors", "rng.safetensors", "state.json"})
"""Files of a checkpoint that only a resume needs; the others are the model, loadable with from_pretrained."""


def _not_the_manifest(name: str) -> str:
    if name.lower() == MANIFEST:  # some file systems ignore case
        raise ValueError(f"{name} cannot list itself")
    return name


# names from a bucket become paths: only a single plain path segment is accepted
FileName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length=200), AfterValidator(_not_the_manifest)
]


class ManifestFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=0)  # bytes
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """The content of manifest.json: every other file of the folder, by its name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1
    global_step: int = Field(ge=0)
    files: dict[FileName, ManifestFile]


class DamagedFolder(UserError):
    """A folder differs from its manifest. Download it again, or fall back to the previous checkpoint."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(folder: Path, global_step: int) -> Manifest:
    """The manifest of a flat folder in its current state."""
    names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)
    files = {name: ManifestFile(size=(folder / name).stat().st_size, sha256=sha256_of(folder / name)) for name in names}
    return Manifest(global_step=global_step, files=files)


def write_manifest(folder: Path, global_step: int) -> str:
    """Write manifest.json and return its own SHA-256, which a pointer to the checkpoint contains."""
    data = describe(folder, global_step).model_dump_json(indent=1).encode()
    (folder / MANIFEST).write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def parse_manifest(data: bytes, place: str) -> Manifest:
    """Parse the bytes of a manifest.json. Raises DamagedFolder, which names the place."""
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        raise DamagedFolder(f"{place}: no readable {MANIFEST}: {validation_reason(error)}") from error


def read_manifest(folder: Path) -> Manifest:
    """Raises DamagedFolder when there is no readable manifest."""
    try:
        data = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise DamagedFolder(f"{folder}: no readable {MANIFEST}: {error}") from error
    return parse_manifest(data, str(folder))


def is_whole(path: Path, expected: ManifestFile) -> bool:
    """Whether a file exists and matches its manifest entry."""
    return path.is_file() and path.stat().st_size == expected.size and sha256_of(path) == expected.sha256


def verify(folder: Path) -> Manifest:
    """Check every file of a folder against its manifest; raises DamagedFolder for the first that differs."""
    manifest = read_manifest(folder)
    for name, expected in manifest.files.items():
        if not is_whole(folder / name, expected):
            raise DamagedFolder(f"{folder / name} is missing or not what {MANIFEST} says")
    return manifest

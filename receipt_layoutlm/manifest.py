"""manifest.json: the files of a folder with their sizes and SHA-256. A folder counts when its manifest exists."""

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from receipt_layoutlm.errors import UserError

MANIFEST = "manifest.json"
RESUME_ONLY = frozenset({"optimizer.safetensors", "rng.safetensors", "state.json"})
"""Files of a checkpoint that only its continuation needs; the rest is the model, loadable with from_pretrained."""


class ManifestFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int  # bytes
    sha256: str  # lower-case hex


class Manifest(BaseModel):
    """The content of manifest.json: every other file of the folder, by its name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1
    global_step: int
    files: dict[str, ManifestFile]


class DamagedFolder(UserError):
    """A folder does not hold what its manifest says. Get it again, or fall back to the checkpoint before."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(folder: Path, global_step: int) -> Manifest:
    """The manifest of a flat folder as it stands."""
    names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)
    files = {name: ManifestFile(size=(folder / name).stat().st_size, sha256=sha256_of(folder / name)) for name in names}
    return Manifest(global_step=global_step, files=files)


def write_manifest(folder: Path, global_step: int) -> str:
    """Write manifest.json and return its own SHA-256, by which a pointer names the checkpoint."""
    data = describe(folder, global_step).model_dump_json(indent=1).encode()
    (folder / MANIFEST).write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Raises DamagedFolder when there is no readable manifest."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise DamagedFolder(f"{folder}: no readable {MANIFEST}: {error}") from error


def verify(folder: Path) -> Manifest:
    """Check every file of a folder against its manifest; raises DamagedFolder naming the first that differs."""
    manifest = read_manifest(folder)
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != expected.size or sha256_of(path) != expected.sha256:
            raise DamagedFolder(f"{path} is missing or not what {MANIFEST} says")
    return manifest

"""Mirrors base weights of the model hub into the bucket, by revision, so that workers need no hub.

weights/{owner}--{name}/{revision}/ holds the files with their manifest; weights/{owner}--{name}/newest names the
revision for new jobs.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.references import SCHEME, is_hub_name
from receipt_layoutlm.run.manifest import MANIFEST, write_manifest
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.errors import NotStored

if TYPE_CHECKING:
    from huggingface_hub import HfApi


FILES = ("config.json", "model.safetensors", "tokenizer*.json", "vocab.txt", "merges.txt", "special_tokens_map.json")
NEEDED = ("config.json", "model.safetensors")
NON_COMMERCIAL = "-nc"  # in the hub's names of licences: cc-by-nc-sa-4.0


class MirrorError(UserError):
    """The hub does not provide these weights, or not in a usable form."""


@dataclass(frozen=True)
class Mirrored:
    """A model of the hub in the bucket; `uri` is what --pretrained takes."""

    name: str
    revision: str
    licence: str | None
    uri: str
    size: int  # bytes


def weights_prefix(name: str, revision: str) -> str:
    """Prefix of a revision."""
    return f"{_folder(name)}{revision}/"


def _folder(name: str) -> str:
    return f"weights/{name.replace('/', '--')}/"


def mirror(bucket: Bucket, hub: "HfApi", name: str, revision: str | None, licences: Sequence[str] = ()) -> Mirrored:
    """Copy a model's safetensors, config and tokenizer, unless the revision is stored already. Raises MirrorError.

    A licence that forbids commercial use must be among the accepted `licences`.
    """
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    if not is_hub_name(name):
        raise MirrorError(f"{name!r} is not a name on the model hub: give OWNER/NAME")
    try:
        info = hub.model_info(name, revision=revision)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        at = f" at {revision}" if revision else ""
        raise MirrorError(f"the hub has no {name}{at}, or only for users who log in: check the name") from error
    except (HfHubHTTPError, OSError) as error:
        raise MirrorError(f"the model hub does not respond: {error}: try again") from error
    if info.sha is None:
        raise MirrorError(f"the hub names no revision of {name}: choose one with --revision")
    card_licence = info.card_data.get("license") if info.card_data else None
    licence = None if card_licence is None else str(card_licence)
    if licence is not None and NON_COMMERCIAL in licence and licence not in licences:
        raise MirrorError(f"{name} is licensed {licence}, not for commercial use: add --accept-license {licence}")
    prefix = weights_prefix(name, info.sha)
    if not bucket.exists(prefix + MANIFEST):
        with tempfile.TemporaryDirectory() as folder:
            _fetch(hub, name, info.sha, Path(folder))
            bucket.put_folder(Path(folder), prefix)
    bucket.raw.put_object(Bucket=bucket.name, Key=_folder(name) + "newest", Body=info.sha.encode())
    size = sum(file.size for file in bucket.get_manifest(prefix).files.values())
    return Mirrored(name, info.sha, licence, f"{SCHEME}{bucket.name}/{prefix}", size)


def _fetch(hub: "HfApi", name: str, commit: str, folder: Path) -> None:
    try:
        hub.snapshot_download(name, revision=commit, allow_patterns=list(FILES), local_dir=folder / "files")
    except OSError as error:
        raise MirrorError(f"{name} could not be downloaded completely: {error}: try again") from error
    files = {path.name: path for path in (folder / "files").iterdir() if path.is_file()}
    missing = [name for name in NEEDED if name not in files]
    if missing:
        raise MirrorError(
            f"{name} has no {' and no '.join(missing)}: only safetensors are loaded; convert the weights "
            "(save_pretrained writes them so) and name their folder on your machine, or another model"
        )
    for path in files.values():
        path.rename(folder / path.name)
    shutil.rmtree(folder / "files")  # with the metadata of the download
    write_manifest(folder, 0)


def mirrored(bucket: Bucket, config: TrainConfig) -> TrainConfig:
    """The config with weights of the hub replaced by their mirror in the bucket, if any."""
    if config.pretrained == "minilm" or not is_hub_name(config.pretrained) or Path(config.pretrained).exists():
        return config
    try:
        commit = bucket.get_bytes(_folder(config.pretrained) + "newest").decode()
    except NotStored:
        return config
    uri = f"{SCHEME}{bucket.name}/{weights_prefix(config.pretrained, commit)}"
    return config.model_copy(update={"pretrained": uri})

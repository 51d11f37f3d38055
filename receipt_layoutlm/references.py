"""Validation of the references that a job holds: names, fingerprints, places of weights."""

import re

from receipt_layoutlm.config import ConfigError

SCHEME = "s3://"
_HUB_WORD = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_HUB_NAME = re.compile(rf"(?:{_HUB_WORD}/)?{_HUB_WORD}")


def is_in_bucket(pretrained: str) -> bool:
    """Whether --pretrained names a place in a bucket."""
    return pretrained.startswith(SCHEME)


def is_hub_name(text: str) -> bool:
    """NAME or OWNER/NAME by the hub's own rules (huggingface_hub's validate_repo_id)."""
    forbidden = ".." in text or "--" in text or text.endswith(".git")
    return _HUB_NAME.fullmatch(text) is not None and not forbidden


NAME_BYTES = 240  # a file's name has at most 255, and the link to the newest attempt needs a few while it is made


def safe_name(name: str) -> str:
    """A job name that is one path segment; raises ConfigError for any other."""
    if not name or name.startswith(".") or any(not (ch.isalnum() or ch in "._-+@") for ch in name):
        raise ConfigError(f"job name {name!r}: use letters, digits, '.', '_', '-', '+' and '@', not first a '.'")
    if (size := len(name.encode())) > NAME_BYTES:
        raise ConfigError(f"job name {name[:20]!r}… has {size} bytes: use at most {NAME_BYTES}")
    return name


def fingerprint_of(dataset: str | None, field: str = "dataset") -> str:
    """The SHA-256 in NAME@FINGERPRINT, as a submitted job pins it; raises ConfigError."""
    name, _, fingerprint = (dataset or "").partition("@")
    if not name or not name.isprintable() or not re.fullmatch(r"[0-9a-f]{64}", fingerprint):
        raise ConfigError(
            f"{field} {dataset!r} is not pinned: the job must name NAME@FINGERPRINT with all 64 hex digits, lower case"
        )
    return fingerprint

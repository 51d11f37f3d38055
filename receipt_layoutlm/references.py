"""Validates references in a job: its name, dataset fingerprints, and the place of weights."""

import re

from receipt_layoutlm.config import ConfigError

SCHEME = "s3://"
TABLE_VARIABLE = "DYNAMO_TABLE_NAME"
"""Environment variable with the table's name, as in the original system."""

_HUB_WORD = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_HUB_NAME = re.compile(rf"(?:{_HUB_WORD}/)?{_HUB_WORD}")


def is_in_bucket(pretrained: str) -> bool:
    """Whether --pretrained is a URI in a bucket."""
    return pretrained.startswith(SCHEME)


def is_hub_name(text: str) -> bool:
    """Whether a text is NAME or OWNER/NAME by the rules of huggingface_hub's validate_repo_id."""
    forbidden = ".." in text or "--" in text or text.endswith(".git")
    return _HUB_NAME.fullmatch(text) is not None and not forbidden


NAME_BYTES = 240  # of a file name's 255; the temporary link to the newest attempt needs a few


def safe_name(name: str) -> str:
    """The name, if it is a safe path segment. Raises ConfigError."""
    if (problem := _unsafe(name)) is not None:
        raise ConfigError(f"job name {name[:20]!r}: {problem}")
    return name


def _unsafe(name: str) -> str | None:
    """Why a name is not a safe path segment."""
    if not name or name.startswith(".") or any(not (ch.isalnum() or ch in "._-+@") for ch in name):
        near = "".join(ch if ch.isalnum() or ch in "._-+@" else "-" for ch in name).lstrip(".-")
        text = "use letters, digits, '.', '_', '-', '+' and '@', and no '.' at the beginning"
        return f"{text}, e.g. {near}" if near else text
    size = len(name.encode())
    return f"it has {size} bytes: use at most {NAME_BYTES}" if size > NAME_BYTES else None


def new_name(name: str) -> str:
    """The name, if it is safe and `job show NAME` would find it. Raises ConfigError."""
    if name.startswith("@"):
        raise ConfigError(f"names with '@' in front stand for jobs, as @last and @best do: use {name.lstrip('@')}")
    if re.fullmatch(r"[0-9a-fA-F-]{32,36}", name):
        raise ConfigError("it would be taken for a job's id: use another name")
    if (problem := _unsafe(name)) is not None:
        raise ConfigError(problem)
    return name


def dataset_name(name: str) -> str:
    """The name, if it is safe and NAME@FINGERPRINT can be told apart. Raises ConfigError."""
    if "@" in name:
        raise ConfigError(f"dataset name {name[:20]!r}: '@' begins a fingerprint: use {as_dataset_name(name)}")
    if (problem := _unsafe(name)) is not None:
        raise ConfigError(f"dataset name {name[:20]!r}: {problem}")
    return name


def as_dataset_name(text: str) -> str:
    """The nearest name to a text, such as a file's."""
    near = "".join(ch if ch.isalnum() or ch in "._-+" else "-" for ch in text).lstrip(".-")
    return near.encode()[:NAME_BYTES].decode(errors="ignore") or "pages"


def fingerprint_of(dataset: str | None, field: str = "dataset") -> str:
    """The SHA-256 in the NAME@FINGERPRINT of a submitted job. Raises ConfigError."""
    name, _, fingerprint = (dataset or "").partition("@")
    if not name or not name.isprintable() or not re.fullmatch(r"[0-9a-f]{64}", fingerprint):
        raise ConfigError(
            f"{field} {dataset!r} is not pinned: write NAME@FINGERPRINT with all 64 hex digits, lower case"
        )
    return fingerprint

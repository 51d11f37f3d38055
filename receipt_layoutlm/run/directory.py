"""The run directory: the files that worker and trainer exchange. Their names are defined only here."""

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from receipt_layoutlm.paths import private_new

ATTEMPTS = ".attempts"  # in the work folder: JOB_ID/NNN
ENCODED = ".encoded"  # in the work folder: encoded pages, shared by attempts
FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
ORPHANED = 70  # exit status after stdin was closed: the parent process is gone


@dataclass(frozen=True)
class RunDir:
    """One attempt's folder, `{work_dir}/.attempts/{job_id}/{nnn}`."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def dataset(self) -> Path:
        return self.path / "dataset.jsonl.gz"

    @property
    def eval_dataset(self) -> Path:
        """Present only when the job names a separate validation dataset."""
        return self.path / "eval_dataset.jsonl.gz"

    @property
    def encoded(self) -> Path:
        """The encoded pages of the dataset; in a worker, a link to a folder that attempts share."""
        return self.path / "encoded"

    @property
    def eval_encoded(self) -> Path:
        """The encoded pages of the separate validation dataset."""
        return self.path / "eval_encoded"

    @property
    def split(self) -> Path:
        """The assignment of pages to sets. Present only when the split is frozen."""
        return self.path / "split.json"

    @property
    def pretrained(self) -> Path:
        """Weights from a bucket. Present only when --pretrained is an S3 URI."""
        return self.path / "pretrained"

    @property
    def run_json(self) -> Path:
        return self.path / "run.json"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def train_log(self) -> Path:
        return self.path / "train.log"

    def open_train_log(self) -> BinaryIO:
        """The new log, opened for appending. Raises OSError where there is one, or a link."""
        return open(self.train_log, "ab", opener=private_new)

    @property
    def best(self) -> Path:
        return self.path / "best"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions"

    def best_files(self, global_step: int) -> Path:
        """The target of the link `best`: model files of a checkpoint, which outlive the checkpoint."""
        return self.path / f".best-checkpoint-{global_step}"

    def checkpoint(self, global_step: int) -> Path:
        return self.path / f"checkpoint-{global_step}"


def full_disk(folder: Path, error: OSError | None = None) -> str:
    """The text for a disk without room, with what the system said."""
    said = f" ({error.strerror})" if error is not None else ""
    return f"the disk of {folder} is full{said}: free some of it, or use another --work-dir"


def encoded_prefix(name: str, prefix: str = "") -> str:
    """Prefix of a folder of encoded pages in a bucket."""
    return f"{prefix}encoded/{name}/"

"""The run directory: all that passes between worker and trainer. Its names stand here and nowhere else."""

from dataclasses import dataclass
from pathlib import Path

ORPHANED = 70  # exit status when stdin closed: whoever started this is gone


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
        """Present only when the job names a separate evaluation dataset."""
        return self.path / "eval_dataset.jsonl.gz"

    @property
    def encoded(self) -> Path:
        """The encoded pages of the dataset; a worker makes it a link to a place that attempts share."""
        return self.path / "encoded"

    @property
    def eval_encoded(self) -> Path:
        """Those of the separate evaluation dataset."""
        return self.path / "eval_encoded"

    @property
    def split(self) -> Path:
        """Present only when the split is a frozen one: which page belongs where."""
        return self.path / "split.json"

    @property
    def pretrained(self) -> Path:
        """Present only when --pretrained names a place in a bucket: the weights from there."""
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

    @property
    def best(self) -> Path:
        return self.path / "best"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions"

    def best_files(self, global_step: int) -> Path:
        """What `best` is a link to; a checkpoint's model files, which outlive it."""
        return self.path / f".best-checkpoint-{global_step}"

    def checkpoint(self, global_step: int) -> Path:
        return self.path / f"checkpoint-{global_step}"


def encoded_prefix(name: str, prefix: str = "") -> str:
    """Where such a folder lies in a bucket."""
    return f"{prefix}encoded/{name}/"

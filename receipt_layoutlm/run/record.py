"""run.json: the whole history of a run in one file, replaced at once, readable at any moment."""

import json
import platform
import re
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.data.check_report import Finding
from receipt_layoutlm.run.class_weights import ClassWeights
from receipt_layoutlm.run.comparability import Stamp
from receipt_layoutlm.run.events import Evaluation, FailureCause, FinishReason, LabelScore
from receipt_layoutlm.run.hardware import Hardware

PACKAGES = ("receipt-layoutlm", "torch", "transformers", "tokenizers", "safetensors", "numpy", "Faker")
ROOT = Path(__file__).parents[2]  # of a checkout, or the folder that packages are installed in


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetRecord(_Record):
    """The pages of a run; a fingerprint is the SHA-256 of a snapshot's canonical lines."""

    fingerprint: str
    eval_fingerprint: str | None  # None: the evaluation part was split off
    train_pages: int
    eval_pages: int
    train_label_counts: dict[str, int]  # entities, after merges and whitelist
    eval_label_counts: dict[str, int]
    test_pages: int = 0
    test_label_counts: dict[str, int] = {}


class Summary(_Record):
    """How an attempt ended; seconds are those of this attempt."""

    stop_reason: FinishReason | FailureCause
    global_step: int
    best_global_step: int | None
    best_metric_value: float | None
    wall_seconds: float
    cpu_seconds: float


class FinalScores(_Record):
    """The best weights on the test part, which nothing was chosen by. Scored once, after the last step."""

    global_step: int  # of the best weights
    metric_name: str
    metric_value: float
    precision: float
    recall: float
    per_label: dict[str, LabelScore]
    loss: float
    pages: int
    macro_f1: float | None = None  # None in records of earlier versions, as those below
    field_f1: float | None = None
    word_accuracy: float | None = None
    balanced_accuracy: float | None = None
    ece: float | None = None
    ece_calibrated: float | None = None  # after the temperature that fits the evaluation part, not this one

    @property
    def text(self) -> str:
        """One line for people."""
        beside = {
            "macro F1": self.macro_f1,
            "field F1": self.field_f1,
            "balanced accuracy of words": self.balanced_accuracy,
            "ECE": self.ece,
            "ECE calibrated": self.ece_calibrated,
        }
        rest = "".join(f", {name} {value:.4f}" for name, value in beside.items() if value is not None)
        return f"{self.metric_name} {self.metric_value:.4f}{rest} of the best weights on {self.pages} test pages"


class RunRecord(_Record):
    """The content of run.json; the summary comes last."""

    config: TrainConfig
    label_map: dict[str, int]  # tag -> class
    merges: dict[str, str]
    dataset: DatasetRecord
    versions: dict[str, str]
    git_sha: str | None
    wheel_sha256: str | None = None  # of an installed package, where its installer wrote it down
    bundle_sha256: str | None = None  # of all that a fleet's machine was made of
    hardware: Hardware
    class_weights: ClassWeights | None = None  # None in records of earlier versions
    comparability: Stamp | None = None  # None in records of earlier versions
    evaluations: tuple[Evaluation, ...] = ()
    health: tuple[Finding, ...] = ()  # what is wrong by the latest evaluation
    test: FinalScores | None = None
    summary: Summary | None = None


def write_run_record(record: RunRecord, path: Path) -> None:
    """Replace run.json; a reader sees the old one or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(record.model_dump_json(indent=1))
    partial.replace(path)


def versions() -> dict[str, str]:
    """Python and the packages that decide the numbers; a package that is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_sha() -> str | None:
    """The commit of the checkout that this code runs from; None for an installed package."""
    if not (ROOT / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def wheel_sha256(root: Path = ROOT) -> str | None:
    """Of the wheel that the package in this folder was installed from, by its direct_url.json (PEP 610).

    Installers write that for a file or an address. None for a checkout, and for a package from an index.
    """
    for found in distributions(name=PACKAGES[0], path=[str(root)]):
        with suppress(ValueError, KeyError, TypeError):
            return str(json.loads(found.read_text("direct_url.json") or "")["archive_info"]["hashes"]["sha256"])
    return None


def bundle_sha256(venv: Path = Path(sys.prefix)) -> str | None:
    """Of the archive that this environment was made from on a machine of a fleet: infra/bootstrap.sh wrote it down."""
    note = venv / "bundle"
    text = note.read_text().strip() if note.is_file() else ""
    return text if re.fullmatch(r"[0-9a-f]{64}", text) else None

"""run.json: the history of a run in one file, which is replaced atomically."""

import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, SerializeAsAny

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.config_documents import parse_config, with_split_seed
from receipt_layoutlm.data.check_report import Finding
from receipt_layoutlm.run.class_weights import ClassWeights
from receipt_layoutlm.run.comparability import Stamp
from receipt_layoutlm.run.events import Evaluation, FailureCause, FinishReason, Started
from receipt_layoutlm.run.hardware import Hardware
from receipt_layoutlm.run.scores import FlatScores

PACKAGES = ("receipt-layoutlm", "torch", "transformers", "tokenizers", "safetensors", "numpy", "Faker")
ROOT = Path(__file__).parents[2]  # of a checkout, or the folder that packages are installed in


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _config_of(document: object) -> object:
    """A stored config by its task."""
    return parse_config(with_split_seed(document)) if isinstance(document, Mapping) else document


class DatasetRecord(_Record):
    """The pages of a run; a fingerprint is the SHA-256 of a snapshot's canonical lines."""

    fingerprint: str
    eval_fingerprint: str | None  # None: the validation set was split off
    train_pages: int
    eval_pages: int
    train_label_counts: dict[str, int]  # entities, after merges and whitelist
    eval_label_counts: dict[str, int]
    test_pages: int = 0
    test_label_counts: dict[str, int] = {}


class Summary(_Record):
    """End of an attempt; the seconds are those of this attempt."""

    stop_reason: FinishReason | FailureCause
    global_step: int
    best_global_step: int | None
    best_metric_value: float | None
    wall_seconds: float
    cpu_seconds: float


TEST_TITLES = {
    "macro_f1": "macro F1",
    "field_f1": "field F1",
    "balanced_accuracy": "balanced accuracy of words",
    "ece": "ECE",
    "ece_calibrated": "ECE calibrated",
}


class FinalScores(FlatScores):
    """Scores of the best weights on the test set, which selected nothing. Scored once, after the last step."""

    global_step: int  # of the best weights
    metric_name: str
    metric_value: float
    loss: float
    pages: int

    @property
    def text(self) -> str:
        """One line for people."""
        named = [f", {title} {self.scores[name]:.4f}" for name, title in TEST_TITLES.items() if name in self.scores]
        return (
            f"{self.metric_name} {self.metric_value:.4f}{''.join(named)} of the best weights on {self.pages} test pages"
        )


class TaskRecord(_Record):
    """Properties of a run that its task knows before the first step."""

    label_map: dict[str, int]  # class name -> class number
    merges: dict[str, str] = {}
    dataset: DatasetRecord
    class_weights: ClassWeights | None = None  # None in records of earlier versions
    comparability: Stamp | None = None  # None in records of earlier versions


class RunRecord(TaskRecord):
    """The content of run.json; the summary comes last."""

    config: Annotated[SerializeAsAny[TrainConfig], BeforeValidator(_config_of)]
    versions: dict[str, str]
    git_sha: str | None
    wheel_sha256: str | None = None  # of an installed package, where its installer recorded it
    bundle_sha256: str | None = None  # of everything that a fleet machine was built from
    hardware: Hardware
    evaluations: tuple[Evaluation, ...] = ()
    health: tuple[Finding, ...] = ()  # findings of the latest evaluation
    test: FinalScores | None = None
    summary: Summary | None = None


def started_event(
    record: RunRecord,
    examples: tuple[int, int],
    parameters: tuple[int, int],
    steps: tuple[int, int],
    resumed_from: int | None,
) -> Started:
    """Event of a run's start. Examples: of the training and validation set; parameters: all and trainable; steps: of an
    epoch and in total."""
    return Started(
        device=record.hardware.device,
        hardware=record.hardware,
        train_pages=record.dataset.train_pages,
        eval_pages=record.dataset.eval_pages,
        test_pages=record.dataset.test_pages,
        train_windows=examples[0],
        eval_windows=examples[1],
        parameters=parameters[0],
        trainable_parameters=parameters[1],
        steps_per_epoch=steps[0],
        total_steps=steps[1],
        label_counts=record.dataset.train_label_counts,
        resumed_from=resumed_from,
    )


def write_run_record(record: RunRecord, path: Path) -> None:
    """Replace run.json atomically."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(record.model_dump_json(indent=1))
    partial.replace(path)


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Python and packages, by default those that affect the results; one that is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in packages:
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
    """SHA-256 of the wheel that the package in this folder was installed from, by its direct_url.json (PEP 610).

    Installers write that file for a path or a URL. None for a checkout, and for a package from an index.
    """
    for found in distributions(name=PACKAGES[0], path=[str(root)]):
        with suppress(ValueError, KeyError, TypeError):
            return str(json.loads(found.read_text("direct_url.json") or "")["archive_info"]["hashes"]["sha256"])
    return None


def bundle_sha256(venv: Path = Path(sys.prefix)) -> str | None:
    """SHA-256 of the archive that a fleet's machine was set up from, as recorded by infra/bootstrap.sh."""
    note = venv / "bundle"
    text = note.read_text().strip() if note.is_file() else ""
    return text if re.fullmatch(r"[0-9a-f]{64}", text) else None

"""Run directories of a tiny model, and their continuation as a worker does it."""

import shutil
from pathlib import Path

import torch

from receipt_layoutlm.config_documents import read_config
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.snapshot import write_snapshot
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Evaluation, Event, EventReader
from receipt_layoutlm.training.setup import Run, prepare_run
from receipt_layoutlm.training.task import SetupCallbacks
from tests.support.tiny import tiny_layoutlm, tiny_pages

PAGES = 12


class StopAfter:
    """A stop flag that is down for so many questions and up ever after."""

    def __init__(self, questions: int) -> None:
        self.questions = questions
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.asked > self.questions


def never() -> bool:
    return False


def new_run(folder: Path, pretrained: Path, pages: int = PAGES, **options: object) -> RunDir:
    """A run directory with tiny pages; options are those of WordLabelsConfig."""
    folder.mkdir(parents=True)
    run_dir = RunDir(folder)
    config = WordLabelsConfig.model_validate(
        {"pretrained": str(pretrained), "device": "cpu", "val_ratio": 0.5, "split": "random", **options}
    )
    run_dir.config.write_text(config.model_dump_json())
    write_snapshot(tiny_pages(pages), run_dir.dataset)
    return run_dir


def prepared_run(folder: Path, **options: object) -> Run:
    """A run before its first step, some of whose pages have several windows."""
    run_dir = new_run(folder / "run", tiny_model(folder / "model"), max_length=16, **options)
    config = read_config(run_dir.config.read_bytes())
    return prepare_run(run_dir, config, None, SetupCallbacks(nothing, nothing, nothing, nothing))


def nothing(*_: object) -> None:
    return None


def tiny_model(folder: Path) -> Path:
    """A model folder for the words of tiny pages."""
    return tiny_layoutlm(folder, tiny_pages(30))


def continued(old: RunDir, folder: Path) -> RunDir:
    """The next attempt's run directory: the same inputs and the newest checkpoint, nothing else.

    The next attempt is another process, so torch's generator stands elsewhere.
    """
    torch.manual_seed(4711)
    folder.mkdir(parents=True)
    for path in (old.config, old.dataset):
        shutil.copy(path, folder)
    if steps := checkpoint_steps(old):
        newest = old.checkpoint(max(steps))
        shutil.copytree(newest, folder / newest.name)
    return RunDir(folder)


def checkpoint_steps(run_dir: RunDir) -> list[int]:
    return sorted(int(path.name.removeprefix("checkpoint-")) for path in run_dir.path.glob("checkpoint-*"))


def events_of(run_dir: RunDir) -> list[Event]:
    return EventReader(run_dir.events).read()


def untimed(evaluations: list[Evaluation]) -> list[Evaluation]:
    """Evaluations without what two equal runs may differ in."""
    return [
        Evaluation.model_validate(evaluation.model_dump(exclude={"seq", "time"}) | {"time": 0})
        for evaluation in evaluations
    ]

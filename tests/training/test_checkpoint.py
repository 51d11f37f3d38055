"""A checkpoint is whole or not there, is checked before it is read, and is never changed afterwards."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForTokenClassification, AutoTokenizer

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.labels import LabelMap
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Evaluation
from receipt_layoutlm.run.manifest import RESUME_ONLY, DamagedFolder, sha256_of, verify
from receipt_layoutlm.run.state import TrainState
from receipt_layoutlm.training.checkpoint import (
    Snapshot,
    copied,
    link_best,
    newest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from receipt_layoutlm.training.loop import take_snapshot
from receipt_layoutlm.training.optimizer import make_optimizer, optimizer_tensors, restore_optimizer, rng_tensors
from receipt_layoutlm.training.step import train_step
from tests.support.runs import never, nothing, prepared_run, tiny_model

CPU = torch.device("cpu")
LABELS = LabelMap(merges={"TAX": "AMOUNT"}, labels=("AMOUNT", "DATE"))


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


class Trained:
    """A model after two optimizer steps."""

    def __init__(self, folder: Path) -> None:
        self.model = AutoModelForTokenClassification.from_pretrained(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.optimizer = make_optimizer(self.model, WordLabelsConfig(weight_decay=0.1))
        for _ in range(2):
            self.step()

    def step(self) -> None:
        self.model(
            input_ids=torch.tensor([[2, 5, 3]]), bbox=torch.zeros(1, 3, 4).long()
        ).logits.square().sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def save(self, folder: Path, weights: dict[str, torch.Tensor], latest: Evaluation | None) -> None:
        self.model.save_pretrained(folder, state_dict=weights)
        self.tokenizer.save_pretrained(folder)
        (folder / "label_map.json").write_text(LABELS.to_json())

    def write(self, run_dir: RunDir, step: int) -> Path:
        state = TrainState(config_hash="h", global_step=step, loss_sum=0.1 + 0.2)
        weights, moments = self.model.state_dict(), optimizer_tensors(self.model, self.optimizer)
        snapshot = Snapshot(state, copied(weights), copied(moments), rng_tensors(CPU))
        folder, digest = write_checkpoint(run_dir, self.save, snapshot)
        assert digest == sha256_of(folder / "manifest.json")
        return folder


@pytest.fixture
def trained(model_folder: Path) -> Trained:
    return Trained(model_folder)


def test_a_checkpoint_holds_what_a_continuation_needs(trained: Trained, tmp_path: Path) -> None:
    folder = trained.write(RunDir(tmp_path), step=7)
    assert folder == tmp_path / "checkpoint-7"
    assert set(verify(folder).files) == RESUME_ONLY | {
        "model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "label_map.json",
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-7"]
    assert (folder / "label_map.json").read_text() == LABELS.to_json()


def test_what_is_read_is_what_was_written(trained: Trained, model_folder: Path, tmp_path: Path) -> None:
    snapshot = read_checkpoint(trained.write(RunDir(tmp_path), step=7))
    assert snapshot.state == TrainState(config_hash="h", global_step=7, loss_sum=0.1 + 0.2)
    assert torch.equal(snapshot.rng["cpu"], torch.get_rng_state())
    other = Trained(model_folder)
    other.model.load_state_dict(snapshot.weights)
    other.optimizer = make_optimizer(other.model, WordLabelsConfig(weight_decay=0.1))
    restore_optimizer(other.model, other.optimizer, snapshot.optimizer)
    trained.step(), other.step()
    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


def test_a_copy_stays_what_it_was_while_training_goes_on(trained: Trained) -> None:
    tensors = {**trained.model.state_dict(), **optimizer_tensors(trained.model, trained.optimizer)}
    before, copy = {name: value.clone() for name, value in tensors.items()}, copied(tensors)
    trained.step()
    assert not torch.equal(tensors["classifier.weight"], copy["classifier.weight"])
    assert all(torch.equal(before[name], copy[name]) for name in before)


def test_the_optimizer_is_stored_by_the_names_of_parameters(trained: Trained, tmp_path: Path) -> None:
    folder = trained.write(RunDir(tmp_path), step=1)
    with safe_open(folder / "optimizer.safetensors", "pt") as file:
        names = set(file.keys())
    assert {f"classifier.weight.{key}" for key in ("exp_avg", "exp_avg_sq", "step")} <= names


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "label_map.json"])
def test_a_damaged_file_is_found_before_anything_is_loaded(trained: Trained, tmp_path: Path, name: str) -> None:
    folder = trained.write(RunDir(tmp_path), step=1)
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(DamagedFolder, match=name):
        read_checkpoint(folder)


def test_a_folder_without_a_manifest_is_no_checkpoint(trained: Trained, tmp_path: Path) -> None:
    folder = trained.write(RunDir(tmp_path), step=1)
    (folder / "manifest.json").unlink()
    with pytest.raises(DamagedFolder):
        read_checkpoint(folder)


def test_what_a_killed_attempt_left_half_written_is_in_nobodys_way(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.partial").mkdir()
    (tmp_path / ".checkpoint.partial" / "stray").write_text("half")
    assert newest_checkpoint(RunDir(tmp_path)) is None
    folder = trained.write(RunDir(tmp_path), step=1)
    assert "stray" not in verify(folder).files


def test_the_checkpoint_that_a_run_began_from_is_moved_aside_unchanged(trained: Trained, tmp_path: Path) -> None:
    first = sha256_of(trained.write(RunDir(tmp_path), step=1) / "manifest.json")
    trained.step()
    second = sha256_of(trained.write(RunDir(tmp_path), step=1) / "manifest.json")
    assert first != second == sha256_of(tmp_path / "checkpoint-1" / "manifest.json")
    assert verify(tmp_path / "resumed-from-checkpoint-1").global_step == 1
    assert sha256_of(tmp_path / "resumed-from-checkpoint-1" / "manifest.json") == first


def test_the_newest_checkpoint_is_the_one_of_the_highest_step(tmp_path: Path) -> None:
    for name in ("checkpoint-9", "checkpoint-10", "checkpoint-11.partial"):
        (tmp_path / name).mkdir()
    assert newest_checkpoint(RunDir(tmp_path)) == tmp_path / "checkpoint-10"


def test_best_is_loadable_and_outlives_its_checkpoint(trained: Trained, tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    first, second = trained.write(run_dir, step=1), trained.write(run_dir, step=2)
    link_best(run_dir, first)
    link_best(run_dir, second)
    for path in (*first.iterdir(), *second.iterdir()):
        path.unlink()
    names = {path.name for path in run_dir.best.iterdir()}
    assert not names & (RESUME_ONLY | {"manifest.json"})
    loaded = AutoModelForTokenClassification.from_pretrained(run_dir.best)
    assert torch.equal(loaded.classifier.weight, trained.model.classifier.weight)
    AutoTokenizer.from_pretrained(run_dir.best)
    assert [path.name for path in tmp_path.glob(".best*")] == [".best-checkpoint-2"]


def test_a_snapshot_of_a_run_stays_what_it_was_while_training_continues(tmp_path: Path) -> None:
    run = prepared_run(tmp_path)
    epoch = run.task.epoch(0, nothing)
    train_step(run, epoch, never)
    snapshot = take_snapshot(run)
    before = {name: tensor.clone() for name, tensor in (snapshot.weights | snapshot.optimizer).items()}

    train_step(run, epoch, never)

    after = snapshot.weights | snapshot.optimizer
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert snapshot.state.global_step == 1 and run.state.global_step == 2
    assert not torch.equal(run.task.model.state_dict()["classifier.weight"], before["classifier.weight"])

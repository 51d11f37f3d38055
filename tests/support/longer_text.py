"""A second task, complete in this module: which of two texts is longer. Pages hold the two texts as their words.

Installed for a test by `install`, as a package would install it: by an entry point.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from receipt_layoutlm.config import TrainConfig, grouped
from receipt_layoutlm.data.check_report import Finding, warning
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import fingerprint, read_snapshot, seeded_rank
from receipt_layoutlm.data.splits import divide
from receipt_layoutlm.run.comparability import evaluation_text, make_stamp, split_text
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.events import Evaluation
from receipt_layoutlm.run.record import DatasetRecord, FinalScores, TaskRecord
from receipt_layoutlm.run.scores import LabelScore, Scores, headline_name
from receipt_layoutlm.training.task import Compute, SetupCallbacks, StepBatches, TaskDescription, Tensors
from receipt_layoutlm.training.throughput import StepWorkload

CLASSES = {"first": 0, "second": 1}


class LongerTextConfig(TrainConfig):
    """Run options and those of the task `longer_text`."""

    trainer: ClassVar[str] = __name__
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)

    task: Literal["longer_text"] = "longer_text"
    metric_for_best: str = Field("accuracy")
    hidden_size: int = grouped("model")(8, ge=1, description="Size of the character embeddings.")


def install(site: Path) -> None:
    """Make `longer_text` a task of every Python process that has this folder on its path."""
    metadata = site / "longer_text-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: longer-text\nVersion: 1.0\n")
    entry = f"[receipt_layoutlm.tasks]\nlonger_text = {__name__}:LongerTextConfig\n"
    (metadata / "entry_points.txt").write_text(entry)


def text_pages(count: int) -> list[Page]:
    """Pages of two texts each, of generated lengths."""
    ranks = [seeded_rank("texts", 1, str(number)) for number in range(count)]
    texts = [("a" * (1 + rank[0] % 12), "b" * (1 + rank[1] % 12)) for rank in ranks]
    boxes = ((0, 0, 10, 10), (0, 20, 10, 30))
    return [
        Page(f"pair-{number:03}", f"group-{number % 5}", words, boxes, ("O", "O"), 100, 100)
        for number, words in enumerate(texts)
    ]


class Pooled(nn.Module):
    """Mean character embeddings of both texts, their lengths, and a linear classifier over them."""

    def __init__(self, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(128, hidden_size, mode="sum")
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * hidden_size, 2)

    def forward(self, texts: Sequence[tuple[str, str]]) -> torch.Tensor:
        pooled = [
            torch.cat([self.embedding(torch.tensor([[ord(c) % 128 for c in text]])) for text in pair], dim=1)
            for pair in texts
        ]
        return self.classifier(self.dropout(torch.cat(pooled)))


@dataclass(frozen=True)
class Epoch:
    number: int
    steps: list[list[Page]]


@dataclass(frozen=True)
class Row:
    page_id: str
    true: str
    predicted: str


def answer(page: Page) -> int:
    return int(len(page.words[1]) > len(page.words[0]))


def prepare(run_dir: RunDir, config: TrainConfig, callbacks: SetupCallbacks) -> "LongerText":
    assert isinstance(config, LongerTextConfig)
    pages = read_snapshot(run_dir.dataset)
    callbacks.check_stop()
    division = divide(pages, config, None)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = Pooled(config.hidden_size, config.dropout).train()
    return LongerText(config, model, division.train, division.validation, [fingerprint(pages)])


class LongerText:
    """See training/task.py."""

    has_test_set = False

    def __init__(
        self, config: LongerTextConfig, model: nn.Module, train: list[Page], held_out: list[Page], prints: list[str]
    ) -> None:
        self.config, self.model, self.fingerprints = config, model, prints
        self.fresh = frozenset(name for name, _ in model.named_parameters())
        self.epochs = config.epochs
        self._step_size = config.batch_size * config.gradient_accumulation_steps
        self.steps_per_epoch = -(-len(train) // self._step_size)
        self._train, self._held_out = train, held_out
        truth = [(page.page_id, [str(answer(page))]) for page in held_out]
        stamp = {"dataset": prints[0], "eval_dataset": "", "split": split_text(config), "labels": "first, second"}
        stamp |= {"windows": "whole texts", "scorer": headline_name(config.metric_for_best)}
        record = TaskRecord(
            label_map=CLASSES,
            dataset=DatasetRecord(
                fingerprint=prints[0],
                eval_fingerprint=None,
                train_pages=len(train),
                eval_pages=len(held_out),
                train_label_counts=self._counts(train),
                eval_label_counts=self._counts(held_out),
            ),
            comparability=make_stamp({**stamp, "evaluation": evaluation_text("evaluation", truth)}),
        )
        self.description = TaskDescription(record, f"{len(train)} pairs", (), len(train), len(held_out))

    @staticmethod
    def _counts(pages: Sequence[Page]) -> dict[str, int]:
        return {name: sum(answer(page) == number for page in pages) for name, number in CLASSES.items()}

    def epoch(self, number: int, on_example: Callable[[], None]) -> Epoch:
        order = sorted(self._train, key=lambda page: seeded_rank(f"epoch {number}", self.config.seed, page.page_id))
        return Epoch(number, [order[at : at + self._step_size] for at in range(0, len(order), self._step_size)])

    def batches(self, epoch: Epoch, step: int, compute: Compute) -> StepBatches[list[Page]]:
        pages, size = epoch.steps[step], self.config.batch_size
        return StepBatches([pages[at : at + size] for at in range(0, len(pages), size)], float(len(pages)))

    def loss(self, batch: list[Page], compute: Compute) -> torch.Tensor:
        logits = self.model([page.words for page in batch])
        return functional.cross_entropy(logits, torch.tensor([answer(page) for page in batch]), reduction="sum")

    def workload(self, epoch: Epoch, step: int) -> StepWorkload:
        return StepWorkload(len(epoch.steps[step]), sum(len("".join(page.words)) for page in epoch.steps[step]), 0)

    def example_ids(self, epoch: Epoch, step: int) -> tuple[str, ...]:
        return tuple(sorted(page.page_id for page in epoch.steps[step]))

    @torch.no_grad()
    def validate(self, epoch: Epoch, compute: Compute, on_batch: Callable[[], None]) -> tuple[Scores, list[Row]]:
        on_batch()
        self.model.eval()
        logits = self.model([page.words for page in self._held_out])
        self.model.train()
        truth = [answer(page) for page in self._held_out]
        predicted = logits.argmax(1).tolist()
        names = list(CLASSES)
        right = sum(a == b for a, b in zip(truth, predicted, strict=True)) / len(truth)
        cells = Counter(zip(truth, predicted, strict=True))
        confusion = {name: {other: cells[a, b] for b, other in enumerate(names)} for a, name in enumerate(names)}
        scores = Scores(
            eval_loss=functional.cross_entropy(logits, torch.tensor(truth)).item(),
            scores={"accuracy": right},
            per_label={
                name: LabelScore(precision=right, recall=right, f1=right, support=truth.count(number))
                for name, number in CLASSES.items()
            },
            confusion=confusion,
        )
        rows = zip(self._held_out, truth, predicted, strict=True)
        return scores, [Row(page.page_id, names[true], names[guess]) for page, true, guess in rows]

    def test(self, best: Evaluation, compute: Compute, on_batch: Callable[[], None]) -> tuple[FinalScores, list[Row]]:
        raise NotImplementedError

    def findings(self, history: Sequence[Evaluation]) -> list[Finding]:
        is_coin = bool(history) and history[-1].scores["accuracy"] <= 0.5
        return [warning("no_better_than_chance", "raise --lr")] if is_coin else []

    def save(self, folder: Path, weights: Tensors, latest: Evaluation | None) -> None:
        save_file(weights, folder / "model.safetensors")
        (folder / "classes.txt").write_text(" ".join(CLASSES))

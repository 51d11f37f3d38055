"""The recipe that train_step.py is held against: transformers' own Trainer, as it comes and tuned."""

import copy
import importlib.util
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from training_rounds import Round, clocks
from transformers import (
    DataCollatorForTokenClassification,
    LayoutLMForTokenClassification,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.labels import IGNORE_INDEX
from receipt_layoutlm.training.optimizer import learning_rate
from receipt_layoutlm.training.setup import Run
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPages, Window

ACCELERATE = "transformers' Trainer needs accelerate, which the project itself does not: pip install accelerate==1.15.0"


@dataclass(frozen=True)
class Recipe:
    """What a person chooses around the Trainer."""

    padding: str | bool  # of DataCollatorForTokenClassification: "max_length", or True for the longest of the batch
    dropout: float
    attention_dropout: float
    by_length: bool
    options: dict[str, object]  # of TrainingArguments


STOCK = Recipe("max_length", 0.1, 0.1, False, {})
TUNED = Recipe(True, 0.1, 0.0, True, {"optim": "adamw_torch_fused"})


def check_accelerate() -> None:
    if importlib.util.find_spec("accelerate") is None:
        raise SystemExit(ACCELERATE)


@dataclass
class Stock:
    """A model of its own that the Trainer trains on, round after round, with a new optimizer each time."""

    recipe: Recipe
    model: LayoutLMForTokenClassification
    tokenizer: PreTrainedTokenizerFast
    device: torch.device
    precision: str
    batch_size: int
    max_length: int

    @classmethod
    def of(cls, run: Run, recipe: Recipe) -> "Stock":
        """With the weights that the run has at the moment."""
        config = copy.deepcopy(run.task.model.config)
        config.hidden_dropout_prob, config.attention_probs_dropout_prob = recipe.dropout, recipe.attention_dropout
        model = LayoutLMForTokenClassification(config)
        model.set_attn_implementation("sdpa")  # the default of transformers
        model.load_state_dict(run.task.model.state_dict())
        return cls(
            recipe,
            model,
            run.task.tokenizer,
            run.compute.device,
            run.state.precision,
            run.config.batch_size,
            run.config.max_length,
        )

    def round(self, part: EncodedPages) -> Round:
        """Trainer.train() over these windows; a batch more before them is not timed."""
        order = self._order(part)
        rows = [row_of(part.windows[place]) for place in [*order[: self.batch_size], *order]]
        watch, collator = Stopwatch(self.device), Collator(self)
        self._train(rows, collator, watch)
        return Round(watch.wall, watch.cpu, collator.tokens, collator.slots)

    def losses(self, rows: Sequence[dict[str, Any]], every: int, config: WordLabelsConfig) -> list[float]:
        """Mean loss of each `every` steps over these rows, in their order, at the rates and the decay of a config."""
        told, steps = Losses(), len(rows) // self.batch_size

        def rate(step: int) -> float:
            return learning_rate(step, steps, config.warmup_ratio, 1.0)

        options = {"learning_rate": config.lr, "weight_decay": config.weight_decay, "logging_steps": every}
        self._train(rows, Collator(self), told, rate, **options)
        return told.losses

    def _order(self, part: EncodedPages) -> list[int]:
        """All windows: at random, or like lengths together and the batches at random.

        The Trainer's own grouping sorts 10 batches together in an epoch of these receipts; here it is a round.
        """
        draw, places = random.Random(0), list(range(len(part.windows)))
        draw.shuffle(places)
        if not self.recipe.by_length:
            return places
        places.sort(key=lambda place: -part.window_lengths[place])
        batches = [places[start : start + self.batch_size] for start in range(0, len(places), self.batch_size)]
        draw.shuffle(batches)
        return [place for batch in batches for place in batch]

    def _train(
        self,
        rows: Sequence[dict[str, Any]],
        collator: "Collator",
        watch: TrainerCallback,
        rate: Callable[[int], float] | None = None,
        **options: object,
    ) -> None:
        check_accelerate()
        with tempfile.TemporaryDirectory() as folder:
            trainer = InOrder(
                model=self.model,
                args=self._arguments(Path(folder), len(rows) // self.batch_size, options),
                data_collator=collator,
                train_dataset=rows,
                callbacks=[watch],
            )
            trainer.rate = rate
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        # the next Trainer would put its autocast around that of this one
        self.model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)

    def _arguments(self, folder: Path, steps: int, options: dict[str, object]) -> TrainingArguments:
        return TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=self.batch_size,
            max_steps=steps,
            use_cpu=self.device.type == "cpu",
            bf16=self.precision == "bf16",
            fp16=self.precision == "fp16",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=self.device.type != "cpu",  # the default, without its warning
            **{**self.recipe.options, **options},
        )


class InOrder(Trainer):
    """Shows the rows in their order, so that every variant can have the same pages in a round.

    rate: share of the learning rate at a step; None for the Trainer's own, whose warm-up begins at 0 itself.
    """

    rate: Callable[[int], float] | None = None

    def _get_train_sampler(self, *_: object) -> torch.utils.data.Sampler:
        return torch.utils.data.SequentialSampler(self.train_dataset)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        if self.rate is None:
            return super().create_scheduler(num_training_steps, optimizer)
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, self.rate)
        return self.lr_scheduler


class Stopwatch(TrainerCallback):
    """From the end of the first step to that of the last."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._began = (0.0, 0.0)
        self.wall = self.cpu = 0.0

    def on_step_end(self, args: object, state: Any, control: object, **_: object) -> None:
        now = clocks(self._device) if state.global_step in (1, state.max_steps) else self._began
        if state.global_step == 1:
            self._began = now
        self.wall, self.cpu = now[0] - self._began[0], now[1] - self._began[1]


class Losses(TrainerCallback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_log(self, args: object, state: object, control: object, logs: dict[str, float], **_: object) -> None:
        if "loss" in logs:
            self.losses.append(logs["loss"])


class Collator:
    """DataCollatorForTokenClassification, which leaves boxes alone, and those beside it."""

    def __init__(self, stock: Stock) -> None:
        padding = stock.recipe.padding
        self._pad = DataCollatorForTokenClassification(
            stock.tokenizer, padding=padding, max_length=stock.max_length if padding == "max_length" else None
        )
        self.tokens = self.slots = 0

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch: dict[str, torch.Tensor] = self._pad([{k: v for k, v in row.items() if k != "bbox"} for row in rows])
        length = batch["input_ids"].shape[1]
        batch["bbox"] = torch.tensor([row["bbox"] + [[0] * 4] * (length - len(row["bbox"])) for row in rows])
        self.tokens += int(batch["attention_mask"].sum())
        self.slots += batch["input_ids"].numel()
        return batch


def row_of(window: Window) -> dict[str, Any]:
    """As a tokenizer returns it; only the first sub-token of a word has a label."""
    labels = [IGNORE_INDEX] * len(window.input_ids)
    for place, label in zip(window.first.tolist(), window.label_ids.tolist(), strict=True):
        labels[place] = label
    ones, zeros = [1] * len(labels), [0] * len(labels)
    shared = {"attention_mask": ones, "token_type_ids": zeros, "labels": labels}
    return {"input_ids": window.input_ids.tolist(), "bbox": window.bbox.tolist(), **shared}

"""State of a run, and the pure decisions that depend on it."""

import hashlib
import json
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from receipt_layoutlm.config import ConfigError, TrainConfig
from receipt_layoutlm.run.events import Evaluation, FinishReason
from receipt_layoutlm.run.hardware import Precision

PLACE_AND_RHYTHM = frozenset(
    {
        "dataset",  # covered by the fingerprint of its pages
        "snapshot_on_worker",
        "over_lines",
        "eval_dataset",
        "work_dir",
        "device",
        "batch_size",  # covered by the windows of one optimizer step
        "gradient_accumulation_steps",
        "tokens_per_batch",
        "eval_batch_size",
        "precision",  # the chosen one is in the state
        "processes",
        "threads",
        "checkpoint_every",
        "keep_checkpoints",
        "hang_timeout",
        "max_runtime",
        "logging_steps",
    }
)
"""Options that do not affect the weights. All others do, including future ones."""

LENGTH = frozenset({"epochs", "early_stopping_patience", "continues"})
"""Options that may differ in a job that continues another one."""


class StopRequested(Exception):
    """The stop flag was set during encoding, loading or evaluation, whose unfinished work is discarded."""


class NonFiniteLoss(Exception):
    """A loss or a gradient is NaN or infinite; page_ids are those of its optimizer step."""

    def __init__(self, page_ids: tuple[str, ...]) -> None:
        self.page_ids = page_ids
        super().__init__("the loss or its gradient is not finite: lower lr, or look at these pages")


@dataclass(frozen=True, slots=True)
class Plan:
    """Length and evaluation interval of a run, in optimizer steps."""

    steps_per_epoch: int
    total_steps: int
    evaluation_steps: int | None  # None: at the end of each epoch
    patience: int | None


class TrainState(BaseModel):
    """State of a run without its tensors: state.json of a checkpoint. Only the training loop changes it."""

    model_config = ConfigDict(extra="forbid")

    config_hash: str
    lineage_hash: str = ""  # config_hash without the options of LENGTH
    global_step: int = 0  # optimizer steps done
    epoch: int = 0  # epochs completed
    step_in_epoch: int = 0
    evaluation_due: bool = False
    best_step: int | None = None
    best_metric_value: float | None = None
    evaluations_without_best: int = 0  # in a row
    evaluations: list[Evaluation] = []
    loss_sum: float = 0.0  # since the last evaluation
    loss_count: float = 0.0  # total weight of the supervised words; their number without class weights
    precision: Precision = "fp32"
    loss_scale: dict[str, float] = {}  # torch's GradScaler, for fp16

    def step_done(self, plan: Plan, loss: float, count: float) -> None:
        """Count an optimizer step with its summed loss, and set evaluation_due."""
        self.global_step += 1
        self.epoch, self.step_in_epoch = divmod(self.global_step, plan.steps_per_epoch)
        self.loss_sum += loss
        self.loss_count += count
        every = plan.evaluation_steps or plan.steps_per_epoch
        self.evaluation_due = self.global_step % every == 0 or self.global_step == plan.total_steps

    @property
    def train_loss(self) -> float | None:
        """Mean per supervised word since the last evaluation."""
        return self.loss_sum / self.loss_count if self.loss_count else None

    def is_new_best(self, metric_value: float) -> bool:
        """Greater is better; a tie stays with the earlier one."""
        return self.best_metric_value is None or metric_value > self.best_metric_value

    def record(self, evaluation: Evaluation) -> None:
        """Add the evaluation that was due."""
        self.evaluations.append(evaluation)
        self.evaluation_due = False
        self.loss_sum, self.loss_count = 0.0, 0.0
        self.evaluations_without_best += 1
        if evaluation.is_best:
            self.best_step, self.best_metric_value = evaluation.global_step, evaluation.metric_value
            self.evaluations_without_best = 0

    @property
    def is_at_best(self) -> bool:
        """Whether the current weights have been evaluated as the best so far."""
        return self.best_step == self.global_step and not self.evaluation_due


def end_reason(state: TrainState, plan: Plan) -> FinishReason | None:
    """The reason why the run has ended, None while it has not. Patience counts from the first evaluation."""
    if state.global_step >= plan.total_steps:
        return "completed"
    if plan.patience is not None and state.evaluations_without_best >= plan.patience:
        return "early_stopped"
    return None


def config_hash(config: TrainConfig, fingerprints: list[str], but: frozenset[str] = frozenset()) -> str:
    """SHA-256 of everything that affects the weights: options, pages and windows per optimizer step."""
    options = config.model_dump(mode="json", exclude={*PLACE_AND_RHYTHM, *but})
    if config.split_seed == config.seed:  # checkpoints of earlier versions have one seed for both
        options.pop("split_seed", None)
    step_windows = config.batch_size * config.gradient_accumulation_steps
    document = {"options": options, "step_windows": step_windows, "fingerprints": fingerprints}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def initial_state(config: TrainConfig, fingerprints: list[str]) -> TrainState:
    """The state before the first step."""
    return TrainState(
        config_hash=config_hash(config, fingerprints), lineage_hash=config_hash(config, fingerprints, but=LENGTH)
    )


def resumed_state(state: TrainState, config: TrainConfig, fingerprints: list[str]) -> TrainState:
    """The state of a checkpoint of this run, or of the run that it continues. Raises ConfigError for any other."""
    target = initial_state(config, fingerprints)
    if state.config_hash == target.config_hash:
        return state
    if config.continues is not None and state.lineage_hash == target.lineage_hash:
        return state.model_copy(update={"config_hash": target.config_hash, "evaluations_without_best": 0})
    raise ConfigError("the checkpoint belongs to another run: its options or pages differ in what decides the weights")

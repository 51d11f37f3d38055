"""From a run directory to everything the loop needs: its parts, model, optimizer, loss and state."""

import math
from collections import Counter
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from receipt_layoutlm.config import ConfigError, TrainConfig
from receipt_layoutlm.data.labels import OUTSIDE, LabelMap, check_named
from receipt_layoutlm.data.page import UNSUPERVISED
from receipt_layoutlm.data.snapshot import fingerprint
from receipt_layoutlm.run.class_weights import ClassWeights
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.hardware import usable_cpus
from receipt_layoutlm.run.record import RunRecord
from receipt_layoutlm.run.state import Plan, TrainState, initial_state, resumed_state
from receipt_layoutlm.training.checkpoint import Snapshot
from receipt_layoutlm.training.distributed import ALONE, Team
from receipt_layoutlm.training.loss import LossRule
from receipt_layoutlm.training.optimizer import freeze, make_optimizer, restore_optimizer, restore_rng
from receipt_layoutlm.training.precision import available, choose, loss_scaler, use_tf32
from receipt_layoutlm.training.prefetch import Ahead
from receipt_layoutlm.training.record import hardware_of, make_record
from receipt_layoutlm.training.tasks import load_task
from receipt_layoutlm.training.tasks.word_labels.class_weights import class_weights
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPart
from receipt_layoutlm.training.tasks.word_labels.inputs.epoch import Showing
from receipt_layoutlm.training.tasks.word_labels.packed import PackedTensors
from receipt_layoutlm.training.tasks.word_labels.parts import (
    Watch,
    encoded_parts,
    generated_pages,
    load_parts,
    showing_of,
    train_sample_of,
)
from receipt_layoutlm.training.tasks.word_labels.pretrained import with_local_weights


class Words(nn.Module):
    """A task's word_logits as a module, which is what DistributedDataParallel wraps."""

    def __init__(self, task: ModuleType, model: PreTrainedModel) -> None:
        super().__init__()
        self.task, self.model = task, model

    def forward(self, batch: PackedTensors) -> torch.Tensor:
        logits: torch.Tensor = self.task.word_logits(self.model, batch)
        return logits


@dataclass(frozen=True, slots=True)
class StepBatches:
    """What one process trains on in an optimizer step; weight: what its losses are divided by, its share of it."""

    micro: list[PackedTensors]
    weight: float


@dataclass(frozen=True, slots=True)
class Run:
    """All of a run but its place in time; the loop changes model, optimizer and state, and nothing else."""

    run_dir: RunDir
    config: TrainConfig
    task: ModuleType
    label_map: LabelMap
    train: EncodedPart
    showing: Showing
    evaluation: EncodedPart
    test: EncodedPart | None
    train_sample: EncodedPart  # a fixed sample of the training part, scored beside the evaluation part
    tokenizer: PreTrainedTokenizerFast
    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    device: torch.device
    team: Team
    words: nn.Module  # PackedTensors -> (chosen, classes) logits, for training
    ahead: Ahead[StepBatches]
    scaler: torch.amp.GradScaler
    loss_rule: LossRule
    plan: Plan
    state: TrainState
    record: RunRecord
    resumed_from: int | None


def prepare(run_dir: RunDir, config: TrainConfig, snapshot: Snapshot | None, watch: Watch, team: Team = ALONE) -> Run:
    """Build a run, at its beginning or where the snapshot stands.

    Raises DataError, LabelError, ConfigError, and what the task raises when it loads weights.
    """
    torch.set_num_threads(config.threads or max(1, min(torch.get_num_threads(), usable_cpus()) // team.size))
    parts = load_parts(run_dir, config)
    check_named(config, parts.label_map.labels)
    task = load_task(config.task)
    weights = with_local_weights(config, run_dir)
    tokenizer = task.load_tokenizer(weights)
    encoded = encoded_parts(run_dir, config, parts, task, tokenizer, watch)
    generated = generated_pages(config, parts)
    showing = showing_of(config, parts, encoded[0], generated, task, tokenizer, watch)
    watch.check_stop()
    device = resolve_device(config.device, team)
    tf32 = use_tf32(device)
    loaded = task.load_model(weights, parts.label_map)
    model = loaded.model
    freeze(model, config, loaded.fresh)
    fingerprints = [parts.fingerprint, parts.eval_fingerprint or ""]
    fingerprints += [fingerprint(pages) for pages in generated.values()]  # another Faker makes others
    if snapshot is None:
        state = initial_state(config, fingerprints)
    else:
        state = resumed_state(snapshot.state, config, fingerprints)
        model.load_state_dict(snapshot.weights, strict=True)
    precision = choose(config.precision, None if snapshot is None else state.precision, available(device))
    if precision.instead_of is not None:
        text = f"this machine has no {precision.instead_of}: going on in {precision.precision}, not bit-exact"
        watch.warn("precision_changed", text)
    state.precision = precision.precision
    scaler = loss_scaler(device, state.precision)
    if state.loss_scale:
        scaler.load_state_dict(state.loss_scale)
    model.to(device)
    optimizer = make_optimizer(model, config, loaded.fresh)
    weights_of_labels = weights_by_label(config, encoded[0], parts.label_map)
    if snapshot is None:
        torch.manual_seed(config.seed)  # of dropout
    else:
        restore_optimizer(model, optimizer, snapshot.optimizer)
        restore_rng(device, snapshot.rng)
    watch.check_stop()
    return Run(
        run_dir=run_dir,
        config=config,
        task=task,
        label_map=parts.label_map,
        train=encoded[0],
        showing=showing,
        evaluation=encoded[1],
        test=encoded[2] if parts.test else None,
        train_sample=train_sample_of(config, parts, encoded[0].features),
        tokenizer=tokenizer,
        model=model,
        optimizer=optimizer,
        device=device,
        team=team,
        words=Words(task, model),
        ahead=Ahead(device.type == "cuda"),
        scaler=scaler,
        loss_rule=loss_rule(config, weights_of_labels, parts.label_map, device),
        plan=_plan(config, showing),
        state=state,
        record=make_record(
            config, parts, hardware_of(device, team, state.precision, tf32), encoded[1], weights_of_labels
        ),
        resumed_from=None if snapshot is None else state.global_step,
    )


def _plan(config: TrainConfig, showing: Showing) -> Plan:
    steps = math.ceil(showing.windows / (config.batch_size * config.gradient_accumulation_steps))
    return Plan(
        steps_per_epoch=steps,
        total_steps=(showing.first_phase + config.epochs) * steps,
        evaluation_steps=None if config.eval_every == "epoch" else config.eval_every,
        patience=config.early_stopping_patience,
    )


def resolve_device(name: str, team: Team = ALONE) -> torch.device:
    """`auto` is cuda, else mps, else cpu; ConfigError when the device that was asked for is not there.

    Each process of a team has a GPU of its own.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, found in there.items() if found)
    if name == "cuda" and torch.cuda.is_available() and team.size > 1:
        if team.size > torch.cuda.device_count():
            raise ConfigError(f"processes={team.size}, but there are {torch.cuda.device_count()} GPUs: one for each")
        torch.cuda.set_device(team.rank)
        return torch.device("cuda", team.rank)
    if not there[name]:
        raise ConfigError(f"device {name} is not available here: give auto or cpu")
    return torch.device(name)


def weights_by_label(config: TrainConfig, part: EncodedPart, label_map: LabelMap) -> ClassWeights:
    """What words of each label weigh in the loss, by the words of the training part alone."""
    words = Counter(
        tag if tag == OUTSIDE else tag[2:] for page in part.pages for tag in page.tags if tag != UNSUPERVISED
    )
    counts = {label: words[label] for label in (OUTSIDE, *label_map.labels)}
    return class_weights(config.class_weights, counts, config.class_weight_clip, config.label_weight)


def loss_rule(config: TrainConfig, weights: ClassWeights, label_map: LabelMap, device: torch.device) -> LossRule:
    """The loss that training minimises; evaluation reports the plain one."""
    table = None
    if not weights.is_plain:
        of_class = [
            weights.weights[tag if tag == OUTSIDE else tag[2:]] for _, tag in sorted(label_map.id2label.items())
        ]
        table = torch.tensor(of_class, dtype=torch.float32, device=device)
    return LossRule(config.label_smoothing, config.focal_gamma, table)

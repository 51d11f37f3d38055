"""From a run directory to everything the loop needs: parts, labels, encoded windows, model, optimizer, state."""

import math
import platform
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from receipt_layoutlm.ahead import Ahead
from receipt_layoutlm.augment_entities import donors_of
from receipt_layoutlm.augment_epoch import Augmenter, Showing
from receipt_layoutlm.best_metric import headline_name
from receipt_layoutlm.checkpoint import Snapshot
from receipt_layoutlm.class_weights import ClassWeights, class_weights
from receipt_layoutlm.comparability import (
    SCORER,
    Stamp,
    evaluation_text,
    labels_text,
    make_stamp,
    split_text,
    windows_text,
)
from receipt_layoutlm.config import ConfigError, TrainConfig
from receipt_layoutlm.data import fingerprint, label_counts, read_snapshot, sample_pages
from receipt_layoutlm.encoded_files import encoded_key, open_encoded, write_encoded
from receipt_layoutlm.encoded_part import EncodedPart, Features, select
from receipt_layoutlm.encoding import OVERLAP
from receipt_layoutlm.frozen_split import frozen_sha256, read_frozen
from receipt_layoutlm.hardware import Hardware, Precision, usable_cpus
from receipt_layoutlm.labels import OUTSIDE, LabelMap, build_label_map, check_named
from receipt_layoutlm.losses import LossRule
from receipt_layoutlm.manifest import DamagedFolder
from receipt_layoutlm.packed_tensors import PackedTensors
from receipt_layoutlm.page import UNSUPERVISED, Page
from receipt_layoutlm.precision import available, choose, loss_scaler, use_tf32
from receipt_layoutlm.pretrained_place import with_local_weights
from receipt_layoutlm.run_dir import RunDir
from receipt_layoutlm.run_record import DatasetRecord, RunRecord, git_sha, versions, wheel_sha256
from receipt_layoutlm.splits import divide
from receipt_layoutlm.tasks import load_task
from receipt_layoutlm.team import ALONE, Team
from receipt_layoutlm.team_model import Words
from receipt_layoutlm.train_epoch import windows_per_epoch
from receipt_layoutlm.train_optim import freeze, make_optimizer, restore_optimizer, restore_rng
from receipt_layoutlm.train_state import Plan, TrainState, initial_state, resumed_state

DONOR_PAGES = 60  # generated receipts whose entities stand beside the training part's


TRAIN_SAMPLE = 50  # training pages that each evaluation scores as well, to tell learning from learning by heart


@dataclass(frozen=True, slots=True)
class Parts:
    """The pages of a run and the labels it learns. eval_*: None when the evaluation part was split off."""

    pages: list[Page]  # of the dataset, whatever part they are in, or none
    train: list[Page]
    evaluation: list[Page]
    test: list[Page]  # empty when none was asked for
    label_map: LabelMap
    fingerprint: str
    eval_fingerprint: str | None


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told how far the preparation is. The first three may raise to stop it."""

    on_open: Callable[[], None]  # before pages are opened that were encoded earlier
    on_page: Callable[[], None]  # before a page is encoded
    check_stop: Callable[[], None]
    warn: Callable[[str, str], None]  # a warning's name and text


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


def load_parts(run_dir: RunDir, config: TrainConfig) -> Parts:
    """Read the snapshots and divide them; DataError and LabelError as their modules say."""
    pages = read_snapshot(run_dir.dataset)
    eval_fingerprint = None
    test: list[Page] = []
    if run_dir.eval_dataset.exists():
        train, evaluation = pages, read_snapshot(run_dir.eval_dataset)
        eval_fingerprint = fingerprint(evaluation)
    else:
        frozen = None if frozen_sha256(config.split) is None else read_frozen(run_dir.split)
        division = divide(pages, config, frozen)
        train, evaluation, test = division.train, division.evaluation, division.test
    # a whitelist may name any label of the data; without one, what is learned comes from the training part alone
    known = label_counts(pages if config.allowed_labels else train)
    label_map = build_label_map(config, known)
    if config.sample_size is not None:
        train = sample_pages(train, config.sample_size, config.seed)
    return Parts(pages, train, evaluation, test, label_map, fingerprint(pages), eval_fingerprint)


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
    encoded = _encoded_parts(run_dir, config, parts, task, tokenizer, watch)
    generated = _generated(config, parts)
    showing = _showing(config, parts, encoded[0], generated, task, tokenizer, watch)
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
        train_sample=_train_sample(config, parts, encoded[0].features),
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
        record=_record(
            config,
            parts,
            _hardware(device, team, state.precision, tf32),
            _stamp(config, parts, encoded[1]),
            weights_of_labels,
        ),
        resumed_from=None if snapshot is None else state.global_step,
    )


def _encoded_parts(
    run_dir: RunDir,
    config: TrainConfig,
    parts: Parts,
    task: ModuleType,
    tokenizer: PreTrainedTokenizerFast,
    watch: Watch,
) -> list[EncodedPart]:
    """The training, the evaluation and the test part."""

    def features(folder: Path, pages: list[Page], digest: str) -> Features:
        encode = partial(
            task.encode, tokenizer=tokenizer, max_length=config.max_length, max_sub_tokens=config.max_sub_tokens
        )
        key = encoded_key(config.task, digest, tokenizer, config.max_length, config.max_sub_tokens)
        return _features(folder, pages, key, encode, watch)

    of_dataset = of_evaluation = features(run_dir.encoded, parts.pages, parts.fingerprint)
    if parts.eval_fingerprint is not None:
        of_evaluation = features(run_dir.eval_encoded, parts.evaluation, parts.eval_fingerprint)
    return [
        select(flat, [page.page_id for page in pages], parts.label_map)
        for flat, pages in ((of_dataset, parts.train), (of_evaluation, parts.evaluation), (of_dataset, parts.test))
    ]


def _features(folder: Path, pages: list[Page], key: str, encode: Callable[..., Features], watch: Watch) -> Features:
    """Those that are kept in the folder; else encoded now, and kept there for the next attempt."""
    if folder.exists():
        watch.on_open()
        try:
            return open_encoded(folder, key, pages, partial(encode, on_page=watch.on_open))
        except DamagedFolder as error:
            watch.warn("encoded_anew", f"pages are encoded anew: {error}")
    features = encode(pages, on_page=watch.on_page)
    try:
        write_encoded(features, folder, key)
    except OSError as error:
        watch.warn("encoded_not_kept", f"the encoded pages are not kept for the next attempt: {error}")
    return features


def _generated(config: TrainConfig, parts: Parts) -> dict[str, list[Page]]:
    """Receipts for the first phase, and others whose entities are used beside those of the training part."""
    if config.pretrain_on is None and "entities" not in config.augment:
        return {}
    from receipt_layoutlm.pretraining import pages_apart, pretraining_pages  # Faker takes 0.3 s

    pages = {}
    if "entities" in config.augment:
        pages["donors"] = pages_apart(DONOR_PAGES, config.seed)
    if config.pretrain_on is not None:
        pages["first phase"] = pretraining_pages(config.generated_pages, config.seed, parts.label_map)
    return pages


def _showing(
    config: TrainConfig,
    parts: Parts,
    clean: EncodedPart,
    generated: dict[str, list[Page]],
    task: ModuleType,
    tokenizer: PreTrainedTokenizerFast,
    watch: Watch,
) -> Showing:
    def encode(pages: Sequence[Page], on_page: Callable[[], None]) -> EncodedPart:
        features = task.encode(
            pages, tokenizer, config.max_length, on_page=on_page, max_sub_tokens=config.max_sub_tokens
        )
        return select(features, [page.page_id for page in pages], parts.label_map)

    donors = donors_of(parts.train, generated.get("donors", []))
    augmenter = Augmenter(parts.train, config.augment, donors, config.seed, encode) if config.augment else None
    first = encode(generated["first phase"], watch.on_page) if "first phase" in generated else None
    return Showing(clean, windows_per_epoch(config, clean), augmenter, first)


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


def _train_sample(config: TrainConfig, parts: Parts, features: Features) -> EncodedPart:
    sample = sample_pages(parts.train, min(TRAIN_SAMPLE, len(parts.train)), config.seed)
    return select(features, [page.page_id for page in sample], parts.label_map)


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


def _stamp(config: TrainConfig, parts: Parts, evaluation: EncodedPart) -> Stamp:
    """With whose numbers those of this run may be compared."""
    return make_stamp(
        {
            "dataset": parts.fingerprint,
            "eval_dataset": parts.eval_fingerprint or "",
            "split": split_text(config),
            "labels": labels_text(parts.label_map.labels, parts.label_map.merges),
            "windows": windows_text(config, OVERLAP),
            "scorer": ", ".join(
                [headline_name(config.metric_for_best), SCORER, config.decoding, *config.single_valued_labels]
            ),
            "evaluation": evaluation_text("evaluation", ((page.page_id, page.tags) for page in evaluation.pages)),
        }
    )


def _hardware(device: torch.device, team: Team, precision: Precision, tf32: bool) -> Hardware:
    return Hardware(
        device=device.type,
        device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
        machine=platform.machine(),
        cpus=usable_cpus(),
        threads=torch.get_num_threads(),
        precision=precision,
        tf32=tf32,
        processes=team.size,
    )


def _record(config: TrainConfig, parts: Parts, hardware: Hardware, stamp: Stamp, weights: ClassWeights) -> RunRecord:
    return RunRecord(
        config=config,
        label_map=parts.label_map.label2id,
        merges=parts.label_map.merges,
        dataset=DatasetRecord(
            fingerprint=parts.fingerprint,
            eval_fingerprint=parts.eval_fingerprint,
            train_pages=len(parts.train),
            eval_pages=len(parts.evaluation),
            train_label_counts=_counts(parts.train, parts.label_map),
            eval_label_counts=_counts(parts.evaluation, parts.label_map),
            test_pages=len(parts.test),
            test_label_counts=_counts(parts.test, parts.label_map) if parts.test else {},
        ),
        comparability=stamp,
        class_weights=weights,
        versions=versions(),
        git_sha=git_sha(),
        wheel_sha256=wheel_sha256(),
        hardware=hardware,
    )


def _counts(pages: list[Page], label_map: LabelMap) -> dict[str, int]:
    """Entities per kept label, zero where there is none."""
    counts = label_counts(replace(page, tags=label_map.apply(page.tags)) for page in pages)
    return {label: counts.get(label, 0) for label in label_map.labels}

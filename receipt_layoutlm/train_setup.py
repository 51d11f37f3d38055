"""From a run directory to everything the loop needs: parts, labels, encoded windows, model, optimizer, state."""

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from receipt_layoutlm.checkpoint import Snapshot
from receipt_layoutlm.comparability import SCORER, Stamp, evaluation_text, labels_text, make_stamp, split_text
from receipt_layoutlm.config import ConfigError, TrainConfig
from receipt_layoutlm.data import fingerprint, label_counts, read_snapshot, sample_pages
from receipt_layoutlm.encoded_files import encoded_key, open_encoded, write_encoded
from receipt_layoutlm.encoded_part import EncodedPart, Features, select
from receipt_layoutlm.encoding import OVERLAP
from receipt_layoutlm.frozen_split import frozen_sha256, read_frozen
from receipt_layoutlm.labels import LabelMap, build_label_map
from receipt_layoutlm.manifest import DamagedFolder
from receipt_layoutlm.metrics import METRIC_NAME
from receipt_layoutlm.page import Page
from receipt_layoutlm.pretrained_place import with_local_weights
from receipt_layoutlm.run_dir import RunDir
from receipt_layoutlm.run_record import DatasetRecord, Hardware, RunRecord, git_sha, usable_cpus, versions
from receipt_layoutlm.sampling import epoch_order
from receipt_layoutlm.splits import divide
from receipt_layoutlm.tasks import load_task
from receipt_layoutlm.train_optim import make_optimizer, restore_optimizer, restore_rng
from receipt_layoutlm.train_state import Plan, TrainState, initial_state, resumed_state


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
class Run:
    """All of a run but its place in time; the loop changes model, optimizer and state, and nothing else."""

    run_dir: RunDir
    config: TrainConfig
    task: ModuleType
    label_map: LabelMap
    train: EncodedPart
    evaluation: EncodedPart
    test: EncodedPart | None
    tokenizer: PreTrainedTokenizerFast
    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    device: torch.device
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


def prepare(run_dir: RunDir, config: TrainConfig, snapshot: Snapshot | None, watch: Watch) -> Run:
    """Build a run, at its beginning or where the snapshot stands.

    Raises DataError, LabelError, ConfigError, and what the task raises when it loads weights.
    """
    parts = load_parts(run_dir, config)
    task = load_task(config.task)
    weights = with_local_weights(config, run_dir)
    tokenizer = task.load_tokenizer(weights)
    encoded = _encoded_parts(run_dir, config, parts, task, tokenizer, watch)
    watch.check_stop()
    device = resolve_device(config.device)
    model = task.load_model(weights, parts.label_map)
    fingerprints = [parts.fingerprint, parts.eval_fingerprint or ""]
    if snapshot is None:
        state = initial_state(config, fingerprints)
    else:
        state = resumed_state(snapshot.state, config, fingerprints)
        model.load_state_dict(snapshot.weights, strict=True)
    model.to(device)
    optimizer = make_optimizer(model, config.weight_decay)
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
        evaluation=encoded[1],
        test=encoded[2] if parts.test else None,
        tokenizer=tokenizer,
        model=model,
        optimizer=optimizer,
        device=device,
        plan=_plan(config, encoded[0]),
        state=state,
        record=_record(config, parts, device, _stamp(config, parts, encoded[1])),
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
        encode = partial(task.encode, tokenizer=tokenizer, max_length=config.max_length)
        return _features(folder, pages, encoded_key(config.task, digest, tokenizer, config.max_length), encode, watch)

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


def _plan(config: TrainConfig, part: EncodedPart) -> Plan:
    steps_per_epoch = len(step_order(config, part, epoch=0))
    return Plan(
        steps_per_epoch=steps_per_epoch,
        total_steps=config.epochs * steps_per_epoch,
        evaluation_steps=None if config.eval_every == "epoch" else config.eval_every,
        patience=config.early_stopping_patience,
    )


def step_order(config: TrainConfig, part: EncodedPart, epoch: int) -> list[list[int]]:
    """For each optimizer step of an epoch the indices of its windows; the size of micro-batches changes nothing."""
    lengths = part.window_lengths.tolist()
    return epoch_order(lengths, config.batch_size * config.gradient_accumulation_steps, config.seed, epoch)


def resolve_device(name: str) -> torch.device:
    """`auto` is cuda, else mps, else cpu; ConfigError when the device that was asked for is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, found in there.items() if found))
    if not there[name]:
        raise ConfigError(f"device {name} is not available here: give auto or cpu")
    return torch.device(name)


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 for the forward pass where a GPU has it; on a CPU without AMX it is a hundred times slower."""
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)


def _stamp(config: TrainConfig, parts: Parts, evaluation: EncodedPart) -> Stamp:
    """With whose numbers those of this run may be compared."""
    return make_stamp(
        {
            "dataset": parts.fingerprint,
            "eval_dataset": parts.eval_fingerprint or "",
            "split": split_text(config),
            "labels": labels_text(parts.label_map.labels, parts.label_map.merges),
            "windows": f"{config.max_length} sub-tokens, {OVERLAP:g} of them seen twice",
            "scorer": f"{METRIC_NAME}: {SCORER} {versions().get('seqeval', '')}",
            "evaluation": evaluation_text("evaluation", ((page.page_id, page.tags) for page in evaluation.pages)),
        }
    )


def _record(config: TrainConfig, parts: Parts, device: torch.device, stamp: Stamp) -> RunRecord:
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
        versions=versions(),
        git_sha=git_sha(),
        hardware=Hardware(
            device=device.type,
            device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
            machine=platform.machine(),
            cpus=usable_cpus(),
            threads=torch.get_num_threads(),
        ),
    )


def _counts(pages: list[Page], label_map: LabelMap) -> dict[str, int]:
    """Entities per kept label, zero where there is none."""
    counts = label_counts(replace(page, tags=label_map.apply(page.tags)) for page in pages)
    return {label: counts.get(label, 0) for label in label_map.labels}

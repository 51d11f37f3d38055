"""The pages of a run: divided into parts, encoded or opened, and what the epochs show of them.

A first phase on generated receipts (--pretrain-on sample:N): its pages.

The phase is whole epochs in front of the others, each of as many windows as an epoch of the training part, so a
place in the run stays one number of steps. The N receipts are gone through once; sampling.as_many fills the last
epoch up from the beginning.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

from transformers import PreTrainedTokenizerFast

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.data.frozen_split import frozen_sha256, read_frozen
from receipt_layoutlm.data.labels import LabelError, LabelMap, build_label_map
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.data.snapshot import fingerprint, label_counts, read_snapshot, sample_pages, seeded_rank
from receipt_layoutlm.data.splits import divide
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.manifest import DamagedFolder
from receipt_layoutlm.training.tasks.word_labels.augmentation.entities import donors_of
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPart, Features, select
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded_files import encoded_key, open_encoded, write_encoded
from receipt_layoutlm.training.tasks.word_labels.inputs.epoch import Augmenter, Showing, windows_per_epoch

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
        train, evaluation, test = division.train, division.validation, division.test
    # a whitelist may name any label of the data; without one, what is learned comes from the training part alone
    known = label_counts(pages if config.allowed_labels else train)
    label_map = build_label_map(config, known)
    if config.sample_size is not None:
        train = sample_pages(train, config.sample_size, config.seed)
    return Parts(pages, train, evaluation, test, label_map, fingerprint(pages), eval_fingerprint)


def encoded_parts(
    run_dir: RunDir,
    config: TrainConfig,
    parts: Parts,
    task: ModuleType,
    tokenizer: PreTrainedTokenizerFast,
    watch: Watch,
) -> list[EncodedPart]:
    """The training, the evaluation and the test part."""
    encode = _encoder(config, task, tokenizer)

    def features(folder: Path, pages: list[Page], digest: str) -> Features:
        key = encoded_key(config.task, digest, tokenizer, config.max_length, config.max_sub_tokens)
        return _features(folder, pages, key, encode, watch)

    of_dataset = of_evaluation = features(run_dir.encoded, parts.pages, parts.fingerprint)
    if parts.eval_fingerprint is not None:
        of_evaluation = features(run_dir.eval_encoded, parts.evaluation, parts.eval_fingerprint)
    return [
        _of_pages(flat, pages, parts.label_map)
        for flat, pages in ((of_dataset, parts.train), (of_evaluation, parts.evaluation), (of_dataset, parts.test))
    ]


def _encoder(config: TrainConfig, task: ModuleType, tokenizer: PreTrainedTokenizerFast) -> Callable[..., Features]:
    """As the run encodes; takes the pages and `on_page`."""
    return partial(task.encode, tokenizer=tokenizer, max_length=config.max_length, max_sub_tokens=config.max_sub_tokens)


def _of_pages(features: Features, pages: Sequence[Page], label_map: LabelMap) -> EncodedPart:
    return select(features, [page.page_id for page in pages], label_map)


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


def generated_pages(config: TrainConfig, parts: Parts) -> dict[str, list[Page]]:
    """Receipts for the first phase, and others whose entities are used beside those of the training part."""
    if config.pretrain_on is None and "entities" not in config.augment:
        return {}
    from receipt_layoutlm.training.tasks.word_labels.parts import pages_apart, pretraining_pages

    pages = {}
    if "entities" in config.augment:
        pages["donors"] = pages_apart(DONOR_PAGES, config.seed)
    if config.pretrain_on is not None:
        pages["first phase"] = pretraining_pages(config.generated_pages, config.seed, parts.label_map)
    return pages


def showing_of(
    config: TrainConfig,
    parts: Parts,
    clean: EncodedPart,
    generated: dict[str, list[Page]],
    task: ModuleType,
    tokenizer: PreTrainedTokenizerFast,
    watch: Watch,
) -> Showing:
    to_features = _encoder(config, task, tokenizer)

    def encode(pages: Sequence[Page], on_page: Callable[[], None]) -> EncodedPart:
        return _of_pages(to_features(pages, on_page=on_page), pages, parts.label_map)

    donors = donors_of(parts.train, generated.get("donors", []))
    augmenter = Augmenter(parts.train, config.augment, donors, config.seed, encode) if config.augment else None
    first = encode(generated["first phase"], watch.on_page) if "first phase" in generated else None
    return Showing(clean, windows_per_epoch(config, clean), augmenter, first)


def train_sample_of(config: TrainConfig, parts: Parts, features: Features) -> EncodedPart:
    sample = sample_pages(parts.train, min(TRAIN_SAMPLE, len(parts.train)), config.seed)
    return _of_pages(features, sample, parts.label_map)


def pretraining_pages(count: int, seed: int, label_map: LabelMap) -> list[Page]:
    """The pages of a run's first phase. Labels that the run does not learn are O once they are encoded.

    LabelError when the run learns no label that generated receipts carry.
    """
    pages = pages_apart(count, seed)
    known = label_counts(pages)
    if not {label_map.merged(label) for label in known} & set(label_map.labels):
        raise LabelError(
            f"pretrain_on: generated receipts carry {', '.join(known)}, and none of these is learned here: "
            "leave pretrain_on out, or rename labels with label_merges"
        )
    return pages


def pages_apart(count: int, seed: int) -> list[Page]:
    """Generated receipts of a seed that nobody gives to `dataset import sample`, whose pages may be evaluated on."""
    return generate_pages(count, int.from_bytes(seeded_rank("pretraining", seed, "")[:8]))

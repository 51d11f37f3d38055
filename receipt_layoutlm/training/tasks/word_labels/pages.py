"""The pages of a run: split, encoded or opened, and the source of its epochs.

Pre-training on generated receipts (--pretrain-on sample:N) is whole epochs in front of the others, each of as many
windows as an epoch of the training set, so that a position in the run stays one number of steps. The N receipts are
passed over once; sampling.as_many fills the last of these epochs up from the beginning.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.frozen_split import frozen_sha256, read_frozen
from receipt_layoutlm.data.labels import LabelError, LabelMap, build_label_map
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.data.snapshot import fingerprint, label_counts, read_snapshot, sample_pages, seeded_rank
from receipt_layoutlm.data.splits import divide
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.manifest import DamagedFolder
from receipt_layoutlm.training.task import SetupCallbacks
from receipt_layoutlm.training.tasks.word_labels.augmentation.entities import donors_of
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPages, Features, select
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded_files import encoded_key, open_encoded, write_encoded
from receipt_layoutlm.training.tasks.word_labels.inputs.epoch import Augmenter, EpochSource, windows_per_epoch
from receipt_layoutlm.training.tasks.word_labels.inputs.windows import encode_pages

DONOR_PAGES = 60  # generated receipts whose entities are used beside those of the training set
TRAIN_SAMPLE = 50  # training pages that each evaluation scores as well, to tell learning from memorising


@dataclass(frozen=True, slots=True)
class Splits:
    """Pages of a run and the labels it learns. eval_fingerprint: None when the validation set was split off."""

    pages: list[Page]  # of the dataset, in any set or none
    train: list[Page]
    validation: list[Page]
    test: list[Page]  # may be empty
    label_map: LabelMap
    fingerprint: str
    eval_fingerprint: str | None


@dataclass(frozen=True, slots=True)
class EncodedSplits:
    """The sets of a run, encoded; `train_sample` is a fixed sample of the training set."""

    train: EncodedPages
    validation: EncodedPages
    test: EncodedPages
    train_sample: EncodedPages


def load_splits(run_dir: RunDir, config: WordLabelsConfig) -> Splits:
    """Read the snapshots and split them; raises DataError and LabelError."""
    pages = read_snapshot(run_dir.dataset)
    eval_fingerprint = None
    test: list[Page] = []
    if run_dir.eval_dataset.exists():
        train, validation = pages, read_snapshot(run_dir.eval_dataset)
        eval_fingerprint = fingerprint(validation)
    else:
        frozen = None if frozen_sha256(config.split) is None else read_frozen(run_dir.split)
        division = divide(pages, config, frozen)
        train, validation, test = division.train, division.validation, division.test
    # a whitelist may name any label of the data; without one, only labels of the training set are learned
    known = label_counts(pages if config.allowed_labels else train)
    label_map = build_label_map(config, known)
    if config.sample_size is not None:
        train = sample_pages(train, config.sample_size, config.seed)
    return Splits(pages, train, validation, test, label_map, fingerprint(pages), eval_fingerprint)


class PageEncoder:
    """Encodes the pages of one run, or opens what an earlier attempt encoded."""

    def __init__(
        self,
        config: WordLabelsConfig,
        tokenizer: PreTrainedTokenizerFast,
        label_map: LabelMap,
        callbacks: SetupCallbacks,
    ) -> None:
        self._config, self._tokenizer, self._label_map, self._callbacks = config, tokenizer, label_map, callbacks

    def encode(self, pages: Sequence[Page], on_page: Callable[[], None]) -> EncodedPages:
        """Pages that no folder keeps: augmented or generated ones."""
        return select(self._features(pages, on_page), [page.page_id for page in pages], self._label_map)

    def splits(self, run_dir: RunDir, splits: Splits) -> EncodedSplits:
        """The sets of a run, from the encodings of its snapshots."""
        of_dataset = of_validation = self._snapshot(run_dir.encoded, splits.pages, splits.fingerprint)
        if splits.eval_fingerprint is not None:
            of_validation = self._snapshot(run_dir.eval_encoded, splits.validation, splits.eval_fingerprint)
        sample = sample_pages(splits.train, min(TRAIN_SAMPLE, len(splits.train)), self._config.seed)
        sets = (of_dataset, splits.train), (of_validation, splits.validation), (of_dataset, splits.test)
        return EncodedSplits(
            *(
                select(features, [page.page_id for page in pages], self._label_map)
                for features, pages in (*sets, (of_dataset, sample))
            )
        )

    def _features(self, pages: Sequence[Page], on_page: Callable[[], None]) -> Features:
        config = self._config
        return encode_pages(pages, self._tokenizer, config.max_length, on_page, config.max_sub_tokens)

    def _snapshot(self, folder: Path, pages: list[Page], digest: str) -> Features:
        """Encoding of a snapshot that the folder keeps; else encoded now, and kept there for the next attempt."""
        config, callbacks = self._config, self._callbacks
        key = encoded_key(config.task, digest, self._tokenizer, config.max_length, config.max_sub_tokens)
        if folder.exists():
            callbacks.on_open()
            try:
                return open_encoded(folder, key, pages, lambda some: self._features(some, callbacks.on_open))
            except DamagedFolder as error:
                callbacks.warn("encoded_anew", f"pages are encoded again: {error}")
        features = self._features(pages, callbacks.on_example)
        try:
            write_encoded(features, folder, key)
        except OSError as error:
            callbacks.warn("encoded_not_kept", f"the encoded pages are not kept for the next attempt: {error}")
        return features


def generated_pages(config: WordLabelsConfig, label_map: LabelMap) -> dict[str, list[Page]]:
    """Receipts of the pre-training phase, and receipts whose entities augmentation uses beside the training set's.

    Labels that the run does not learn become O when they are encoded. LabelError when it learns none of theirs.
    """
    pages = {}
    if "entities" in config.augment:
        pages["donors"] = generate_apart(DONOR_PAGES, config.seed)
    if config.pretrain_on is not None:
        pages["pretraining"] = generate_apart(config.generated_pages, config.seed)
        labels = label_counts(pages["pretraining"])
        if not {label_map.merged(label) for label in labels} & set(label_map.labels):
            raise LabelError(
                f"pretrain_on: generated receipts carry {', '.join(labels)}, and none of these is learned here: "
                "leave pretrain_on out, or rename labels with label_merges"
            )
    return pages


def generate_apart(count: int, seed: int) -> list[Page]:
    """Generated receipts of a seed that `dataset import sample` cannot be given, whose pages may be evaluated on."""
    return generate_pages(count, int.from_bytes(seeded_rank("pretraining", seed, "")[:8]))


def epoch_source(
    config: WordLabelsConfig,
    splits: Splits,
    train: EncodedPages,
    generated: dict[str, list[Page]],
    encoder: PageEncoder,
    on_page: Callable[[], None],
) -> EpochSource:
    """The pages of each epoch: generated, augmented, or the training set as it is."""
    donors = donors_of(splits.train, generated.get("donors", []))
    augmenter = Augmenter(splits.train, config.augment, donors, config.seed, encoder.encode) if config.augment else None
    pretraining = encoder.encode(generated["pretraining"], on_page) if "pretraining" in generated else None
    return EpochSource(train, windows_per_epoch(config, train), augmenter, pretraining)

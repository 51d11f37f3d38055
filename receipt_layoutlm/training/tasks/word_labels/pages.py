"""Pages of a run: splits, encodings, generated receipts, source of the epochs.

Pre-training on generated receipts (--pretrain-on sample:N) is a number of whole epochs before the others, each of as
many windows as an epoch of the training set, so that a step number suffices as position in the run. Each receipt
occurs once; sampling.as_many completes the last of these epochs with the first receipts.
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

DONOR_PAGES = 60  # generated receipts that donate entities besides the training set
TRAIN_SAMPLE = 50  # training pages that each evaluation scores too, to detect overfitting


@dataclass(frozen=True, slots=True)
class Splits:
    """Pages and labels of a run. eval_fingerprint: None if the validation set was split off the dataset."""

    pages: list[Page]  # of the whole dataset
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
    """Encodes the pages of a run, or opens the encoding of an earlier attempt."""

    def __init__(
        self,
        config: WordLabelsConfig,
        tokenizer: PreTrainedTokenizerFast,
        label_map: LabelMap,
        callbacks: SetupCallbacks,
    ) -> None:
        self._config, self._tokenizer, self._label_map, self._callbacks = config, tokenizer, label_map, callbacks

    def encode(self, pages: Sequence[Page], on_page: Callable[[], None]) -> EncodedPages:
        """Encode augmented or generated pages, which are not stored."""
        return select(self._features(pages, on_page), [page.page_id for page in pages], self._label_map)

    def splits(self, run_dir: RunDir, splits: Splits) -> EncodedSplits:
        """Sets of a run as selections from its encoded snapshots."""
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
        """Open the encoding in the folder, or encode the snapshot and store it for the next attempt."""
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
            callbacks.warn("encoded_not_kept", f"cannot store the encoded pages for the next attempt: {error}")
        return features


def generated_pages(config: WordLabelsConfig, label_map: LabelMap) -> dict[str, list[Page]]:
    """Generated receipts: of the pre-training phase, and donors of entities for augmentation.

    Labels that the run does not learn are encoded as O. LabelError if the run learns none of the receipts' labels.
    """
    pages = {}
    if "entities" in config.augment:
        pages["donors"] = generate_apart(DONOR_PAGES, config.seed)
    if config.pretrain_on is not None:
        pages["pretraining"] = generate_apart(config.generated_pages, config.seed)
        labels = label_counts(pages["pretraining"])
        if not {label_map.merged(label) for label in labels} & set(label_map.labels):
            raise LabelError(
                f"pretrain_on: generated receipts have {', '.join(labels)}, but this run learns none of them: "
                "remove pretrain_on, or rename labels with label_merges"
            )
    return pages


def generate_apart(count: int, seed: int) -> list[Page]:
    """Generate receipts from a seed that `dataset import sample` does not accept, to keep them out of evaluations."""
    return generate_pages(count, int.from_bytes(seeded_rank("pretraining", seed, "")[:8]))


def epoch_source(
    config: WordLabelsConfig,
    splits: Splits,
    train: EncodedPages,
    generated: dict[str, list[Page]],
    encoder: PageEncoder,
    on_page: Callable[[], None],
) -> EpochSource:
    """Source of the pages of each epoch: generated, augmented, or the unchanged training set."""
    donors = donors_of(splits.train, generated.get("donors", []))
    augmenter = Augmenter(splits.train, config.augment, donors, config.seed, encoder.encode) if config.augment else None
    pretraining = encoder.encode(generated["pretraining"], on_page) if "pretraining" in generated else None
    return EpochSource(train, windows_per_epoch(config, train), augmenter, pretraining)

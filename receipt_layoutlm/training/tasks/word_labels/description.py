"""Description of a run before its first step: labels, counts, class weights, comparability of its scores."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.labels import OUTSIDE, LabelMap
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.scripts import MOSTLY, advice, script_of
from receipt_layoutlm.data.snapshot import label_counts
from receipt_layoutlm.run.class_weights import ClassWeights, weights_text
from receipt_layoutlm.run.comparability import evaluation_text, make_stamp, split_text
from receipt_layoutlm.run.events import Log
from receipt_layoutlm.run.record import DatasetRecord, TaskRecord
from receipt_layoutlm.training.task import TaskDescription
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPages
from receipt_layoutlm.training.tasks.word_labels.inputs.windows import OVERLAP
from receipt_layoutlm.training.tasks.word_labels.pages import EncodedSplits, Splits

SCORER = "seqeval, strict IOB2, micro F1"


def describe_run(
    config: WordLabelsConfig, splits: Splits, encoded: EncodedSplits, weights: ClassWeights
) -> TaskDescription:
    """Facts of the task for run.json, the started event and the log."""
    label_map = splits.label_map
    scorer = [SCORER, config.decoding, *config.single_valued_labels]
    stamp = make_stamp(
        {
            "dataset": splits.fingerprint,
            "eval_dataset": splits.eval_fingerprint or "",
            "split": split_text(config),
            "labels": labels_text(label_map.labels, label_map.merges),
            "windows": windows_text(config),
            "scorer": ", ".join(scorer),
            "evaluation": evaluation_text(
                "evaluation", ((page.page_id, page.tags) for page in encoded.validation.pages)
            ),
        }
    )
    record = TaskRecord(
        label_map=label_map.label2id,
        merges=label_map.merges,
        dataset=DatasetRecord(
            fingerprint=splits.fingerprint,
            eval_fingerprint=splits.eval_fingerprint,
            train_pages=len(splits.train),
            eval_pages=len(splits.validation),
            train_label_counts=_counts(splits.train, label_map),
            eval_label_counts=_counts(splits.validation, label_map),
            test_pages=len(splits.test),
            test_label_counts=_counts(splits.test, label_map) if splits.test else {},
        ),
        class_weights=weights,
        comparability=stamp,
    )
    return TaskDescription(
        record=record,
        text=(
            f"{len(splits.train)} training pages, {len(splits.validation)} validation pages\n"
            f"entities for training: {record.dataset.train_label_counts}"
        ),
        notes=_notes(record, weights),
        train_examples=len(encoded.train.windows),
        validation_examples=len(encoded.validation.windows),
    )


def _counts(pages: list[Page], label_map: LabelMap) -> dict[str, int]:
    """Entities per learned label, including zeros."""
    counts = label_counts(replace(page, tags=label_map.apply(page.tags)) for page in pages)
    return {label: counts.get(label, 0) for label in label_map.labels}


def labels_text(labels: Iterable[str], merges: Mapping[str, str]) -> str:
    """Learned labels and merges, part of the comparability stamp."""
    merged = [f"{source}->{target}" for source, target in sorted(merges.items())]
    return ", ".join([*labels, *merged])


def windows_text(config: WordLabelsConfig) -> str:
    """Window rule, part of the comparability stamp."""
    text = f"{config.max_length} sub-tokens, {OVERLAP:g} of them seen twice"
    return text if config.max_sub_tokens is None else f"{text}, at most {config.max_sub_tokens} of a word"


def _notes(record: TaskRecord, weights: ClassWeights) -> Sequence[Log]:
    """Log entries: class weights, and warnings about labels."""
    notes = []
    if not weights.is_plain:
        text = f"class weights in the loss, {weights_text(weights)}"
        notes.append(Log(event="class_weights", message=text, data=weights.model_dump(mode="json")))
    if empty := [label for label, count in record.dataset.train_label_counts.items() if count == 0]:
        text = f"no training example: {', '.join(empty)}"
        notes.append(Log(level="warning", event="labels_without_examples", message=text))
    if dropped := [source for source, target in record.merges.items() if target == OUTSIDE]:
        text = f"dropped by a merge into {OUTSIDE}: {', '.join(dropped)}"
        notes.append(Log(level="warning", event="merge_drops", message=text))
    return notes


def unknown_words_text(pages: EncodedPages, unk_id: int, pretrained: str) -> str | None:
    """A warning if some pages consist mostly of unknown words; None without such pages.

    Of a page the words with letters count; a word is unknown if one of its sub-tokens is.
    """
    flat = pages.features
    is_unknown = np.add.reduceat(flat.pieces == unk_id, flat.piece_starts[:-1]) > 0
    found, words = 0, Counter[str]()
    for page in pages.pages:
        scripts = [script_of(word) for word in page.words]
        unknown = [
            script
            for script, is_unk in zip(scripts, is_unknown[flat.words_of(page.number)], strict=True)
            if script and is_unk
        ]
        if len(unknown) > MOSTLY * sum(script is not None for script in scripts):
            found += 1
            words.update(unknown)
    if not found:
        return None
    counted = ", ".join(f"{name} ({count} words)" for name, count in words.most_common())
    return (
        f"{found} of {len(pages.pages)} training page(s) consist mostly of words that the tokenizer of {pretrained} "
        f"does not know ([UNK]): {counted}; {advice()}"
    )

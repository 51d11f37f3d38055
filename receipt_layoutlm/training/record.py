"""What a run writes of itself before it begins: what it is made of, and with whose numbers its own may be compared."""

import platform
from dataclasses import replace

import torch

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.data.labels import LabelMap
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import label_counts
from receipt_layoutlm.run.class_weights import ClassWeights
from receipt_layoutlm.run.comparability import (
    SCORER,
    Stamp,
    evaluation_text,
    labels_text,
    make_stamp,
    split_text,
    windows_text,
)
from receipt_layoutlm.run.hardware import Hardware, Precision, usable_cpus
from receipt_layoutlm.run.record import DatasetRecord, RunRecord, bundle_sha256, git_sha, versions, wheel_sha256
from receipt_layoutlm.training.distributed import Team
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPart
from receipt_layoutlm.training.tasks.word_labels.inputs.windows import OVERLAP
from receipt_layoutlm.training.tasks.word_labels.parts import Parts
from receipt_layoutlm.training.tasks.word_labels.scoring.headline import headline_name


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


def hardware_of(device: torch.device, team: Team, precision: Precision, tf32: bool) -> Hardware:
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


def make_record(
    config: TrainConfig, parts: Parts, hardware: Hardware, evaluation: EncodedPart, weights: ClassWeights
) -> RunRecord:
    """All of run.json that is known before the first step."""
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
        comparability=_stamp(config, parts, evaluation),
        class_weights=weights,
        versions=versions(),
        git_sha=git_sha(),
        wheel_sha256=wheel_sha256(),
        bundle_sha256=bundle_sha256(),
        hardware=hardware,
    )


def _counts(pages: list[Page], label_map: LabelMap) -> dict[str, int]:
    """Entities per kept label, zero where there is none."""
    counts = label_counts(replace(page, tags=label_map.apply(page.tags)) for page in pages)
    return {label: counts.get(label, 0) for label in label_map.labels}

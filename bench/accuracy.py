"""What each option does for the scores on real receipts, by a fixed protocol: mean and spread over seeds.

    python bench/accuracy.py --variants plain ratio-2 augment-all                 # options are chosen by these figures
    python bench/accuracy.py --final --variants plain augment-all+viterbi         # and scored here, once

Two protocols on the folder with train.jsonl and dev.jsonl: `merchants` trains on the one and scores on the other, and
no merchant is in both; `random` divides the pages of both, 80 to 20. Without --final nothing of the part that is
scored is read: a fifth of the training part is held out in its place, by merchant or at random as the protocol does,
the same fifth for every seed. With --final a run trains on all of the training part and is evaluated once, after its
last step. Either way the weights of the last step are scored, so that nothing is chosen by a score (the best epoch
stands beside it in the JSON). A + joins variants.

Each run is a trainer process of its own, so that its CPU time can be told. A row that stands in the JSON file is not
run again; one that was run halfway is begun anew.
"""

import argparse
import gzip
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from shutil import rmtree

from accuracy_rows import Options, Row, read_rows, table, write_rows

from receipt_layoutlm.config import ConfigError
from receipt_layoutlm.config_documents import parse_config
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import read_jsonl, sample_pages, write_snapshot
from receipt_layoutlm.data.splits import divide
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.record import RunRecord
from receipt_layoutlm.training.tasks.word_labels.scoring.fields import score_fields
from receipt_layoutlm.worker.process import start_trainer

SROIE = Path(__file__).parents[2] / "shared" / "data" / "sroie"
SPLIT_SEED = 2026  # of the division into parts, whatever the seed of the run
PROTOCOLS = {"merchants": "group", "random": "random"}
ONLY_AT_THE_END = 10**9  # steps between evaluations
BASE: Options = {"pretrained": "minilm", "epochs": 8, "batch_size": 8, "lr": 4e-4, "device": "cpu"}
SINGLE_VALUED = ["MERCHANT_NAME", "ADDRESS_LINE", "GRAND_TOTAL"]
VARIANTS: dict[str, Options] = {
    "plain": {},
    "smoothing-0.1": {"label_smoothing": 0.1},
    "focal-2": {"focal_gamma": 2.0},
    "ratio-2": {"o_entity_ratio": 2.0},
    "sqrt-inverse": {"class_weights": "sqrt-inverse"},
    "inverse": {"class_weights": "inverse"},
    "balanced": {"class_weights": "balanced"},
    "effective": {"class_weights": "effective"},
    "balanced-sampling": {"balanced_sampling": True},
    "augment-entities": {"augment": ["entities"]},
    "augment-drop": {"augment": ["drop"]},
    "augment-ocr": {"augment": ["ocr"]},
    "augment-boxes": {"augment": ["boxes"]},
    "augment-all": {"augment": ["entities", "drop", "ocr", "boxes"]},
    "pretrain-500": {"pretrain_on": "sample:500"},
    "pretrain-2000": {"pretrain_on": "sample:2000"},
    "argmax": {"decoding": "argmax"},
    "viterbi": {"decoding": "viterbi"},
    "single-valued": {"decoding": "viterbi", "single_valued_labels": SINGLE_VALUED},
    "new-lr": {"new_parameter_lr": 1e-3},
    "layer-decay": {"layer_lr_decay": 0.8},
    "cosine": {"lr_schedule": "cosine"},
    "16-epochs": {"epochs": 16},
    "lr-2e-4": {"lr": 2e-4},
    "dropout-0.2": {"dropout": 0.2},
}


def options_of(name: str, base: Options) -> Options:
    """The base with the variants joined by + in it; SystemExit for an unknown one."""
    unknown = [part for part in name.split("+") if part not in VARIANTS]
    if unknown:
        raise SystemExit(f"unknown variant {unknown[0]}: there are {', '.join(VARIANTS)}")
    merged = dict(base)
    for part in name.split("+"):
        merged |= VARIANTS[part]
    return merged


def not_available(options: Options) -> str | None:
    """Why this version cannot run these options, None if it can."""
    missing = [name for name in options if name not in WordLabelsConfig.model_fields]
    if missing:
        return f"no option {', '.join(missing)} yet"
    try:
        parse_config(options)
    except ConfigError as error:
        return str(error)
    return None


def parts(folder: Path, protocol: str, final: bool, limit: int | None) -> tuple[list[Page], list[Page]]:
    """The pages to train on and those to score. Unless `final`, both are of the training part."""
    train, held_out = read_jsonl(folder / "train.jsonl"), read_jsonl(folder / "dev.jsonl")
    if protocol == "random":
        train, held_out = _divided([*train, *held_out], "random")
    if not final:
        train, held_out = _divided(train, PROTOCOLS[protocol])
    if limit is None:
        return train, held_out
    return sample_pages(train, limit, SPLIT_SEED), sample_pages(held_out, limit, SPLIT_SEED)


def _divided(pages: list[Page], split: str) -> tuple[list[Page], list[Page]]:
    division = divide(pages, parse_config({"split": split, "val_ratio": 0.2, "seed": SPLIT_SEED}), None)
    return division.train, division.validation


def run(row: Row, pages: tuple[list[Page], list[Page]], threads: int, folder: Path) -> Row:
    """The row with its scores; SystemExit when the trainer fails."""
    run_dir = RunDir(folder)
    rhythm: Options = {"eval_every": ONLY_AT_THE_END} if row.final else {}
    config = parse_config({**row.options, **rhythm, "seed": row.seed})
    run_dir.config.write_text(config.model_dump_json())
    write_snapshot(pages[0], run_dir.dataset)
    write_snapshot(pages[1], run_dir.eval_dataset)
    began, cpu = time.monotonic(), _cpu_seconds()
    _train(run_dir, threads)
    record = RunRecord.model_validate_json(run_dir.run_json.read_bytes())
    minutes = {"cpu_minutes": (_cpu_seconds() - cpu) / 60, "wall_minutes": (time.monotonic() - began) / 60}
    return Row(**{**asdict(row), **_scores(run_dir, record), **minutes})


def _train(run_dir: RunDir, threads: int) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    with start_trainer(run_dir, environment) as trainer:
        while (code := trainer.exit_code(wait_seconds=5)) is None:
            _remove_old_checkpoints(run_dir)
    if code != 0:
        raise SystemExit(f"the trainer failed: {run_dir.train_log.read_text()[-2000:]}")


def _remove_old_checkpoints(run_dir: RunDir) -> None:
    """All but the newest two, as a worker does after it has uploaded them."""
    folders = sorted(run_dir.path.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    for folder in folders[:-2]:
        rmtree(folder)


def _cpu_seconds() -> float:
    """Of the child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _scores(run_dir: RunDir, record: RunRecord) -> dict[str, object]:
    last = record.evaluations[-1]
    best = max(record.evaluations, key=lambda evaluation: evaluation.metric_value)
    fields = field_scores(run_dir.predictions / f"eval-{last.global_step}.jsonl.gz", list(last.per_label))
    return {
        "f1": last.metric_value,
        "precision": last.scores["precision"],
        "recall": last.scores["recall"],
        "labels": {label: score.f1 for label, score in last.per_label.items()},
        "f1_by_decoding": last.breakdowns["f1_by_decoding"],
        "field_f1": fields.pop(""),
        "field_labels": fields,
        "best_epoch": best.epoch,
        "best_f1": best.metric_value,
        "epoch_f1": [evaluation.metric_value for evaluation in record.evaluations],
        "train_pages": record.dataset.train_pages,
        "scored_pages": record.dataset.eval_pages,
    }


def field_scores(predictions: Path, labels: Sequence[str]) -> dict[str, float]:
    """F1 of the pages' values by label, and of all under the empty name."""
    with gzip.open(predictions, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    words, true, predicted = ([row[name] for row in rows] for name in ("words", "true", "predicted"))
    scores = score_fields(words, true, predicted, labels)
    return {"": scores.f1, **{label: scores.per_label[label].f1 for label in labels}}


def planned(arguments: argparse.Namespace, base: Options) -> Iterator[Row]:
    """Every run that was asked for; seeds outermost, so that an interrupted bench has something of each variant."""
    for seed in range(1, arguments.seeds + 1):
        for protocol in arguments.protocols:
            for name in arguments.variants:
                yield Row(protocol, arguments.final, name, seed, arguments.pages, options_of(name, base))


def parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SROIE, help="folder with train.jsonl and dev.jsonl")
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=["merchants"], help="default: merchants")
    parser.add_argument(
        "--variants", nargs="+", default=list(VARIANTS), help=f"of {', '.join(VARIANTS)} (default: all)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant, seeds 1 to N (default 3)")
    part = parser.add_mutually_exclusive_group()
    part.add_argument(
        "--select", dest="final", action="store_false", help="score a part of the training data (default)"
    )
    part.add_argument("--final", action="store_true", help="train on all of it and score the part kept apart, once")
    parser.set_defaults(final=False)  # else that of --select, which is its opposite
    parser.add_argument(
        "--options", type=json.loads, default={}, metavar="JSON", help="of WordLabelsConfig, for every run"
    )
    parser.add_argument("--pages", type=int, help="at most so many pages in each part, to try the bench out")
    parser.add_argument("--threads", type=int, default=1, help="of each trainer (default 1)")
    parser.add_argument(
        "--json", type=Path, default=Path("accuracy.json"), help="rows, read and written (accuracy.json)"
    )
    return parser.parse_args(words)


def main(words: Sequence[str]) -> None:
    arguments = parsed(words)
    if not (arguments.data / "train.jsonl").exists():
        print(f"skipped: there is no train.jsonl in {arguments.data}; give --data")
        return
    done, missing, shown = read_rows(arguments.json), dict[str, str](), []
    for row in planned(arguments, BASE | arguments.options):
        if (reason := not_available(row.options)) is not None:
            missing[row.variant] = reason
            continue
        if row.key not in done:
            pages = parts(arguments.data, row.protocol, row.final, row.pages)
            with tempfile.TemporaryDirectory() as folder:
                done[row.key] = run(row, pages, arguments.threads, Path(folder))
            write_rows(arguments.json, list(done.values()), missing)
            print(
                f"{row.protocol} {row.variant} seed {row.seed}: F1 {done[row.key].f1:.3f}", file=sys.stderr, flush=True
            )
        shown.append(done[row.key])
    print(table(shown))
    for name, reason in missing.items():
        print(f"not available: {name} ({reason})")
    write_rows(arguments.json, list(done.values()), missing)


if __name__ == "__main__":
    main(sys.argv[1:])

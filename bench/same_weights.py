"""Trains the same configs on the same pages at two checkouts and compares the results bit for bit.

    python bench/same_weights.py BEFORE AFTER
    python bench/same_weights.py BEFORE AFTER --minilm --only plain resumed

Each case is a run directory made of files alone (config.json, dataset.jsonl.gz) in the format of commit b1c2137, which
every later commit reads. The trainer of each checkout works on a copy of it, as a child process on one thread. Compared
are all tensors of the last checkpoint (weights, optimizer, random numbers) and of best/, state.json with its config
hash, every number of every evaluation, how the run ended, the predictions, and the record of labels, pages and test
scores in run.json. Times, host and versions may differ. The exit status is 1 on any difference.

The case `resumed` begins at both checkouts from a checkpoint that BEFORE has written in mid-epoch.

Equal weights are a matter of one machine: another processor, or another build of torch, adds in another order.
"""

import argparse
import gzip
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

Document = dict[str, Any]

TRAINERS = {
    "receipt_layoutlm/training/__main__.py": "receipt_layoutlm.training",
    "receipt_layoutlm/trainer.py": "receipt_layoutlm.trainer",
}
PAGES = 30
RESUMED_AT = 5  # optimizer steps, in mid-epoch
BASIS: Document = {
    "config_version": 1,
    "device": "cpu",
    "val_ratio": 0.3,
    "epochs": 2,
    "batch_size": 4,
    "max_length": 128,
}
CASES: dict[str, Document] = {
    "plain": {},
    "losses": {
        "augment": ["entities", "drop", "ocr", "boxes"],
        "class_weights": "sqrt-inverse",
        "focal_gamma": 2.0,
        "label_smoothing": 0.1,
        "o_entity_ratio": 1.5,
    },
    "sampling": {
        "balanced_sampling": True,
        "decoding": "viterbi",
        "single_valued_labels": ["GRAND_TOTAL", "DATE"],
        "sample_size": 12,
    },
    "first_phase": {"pretrain_on": "sample:16"},
    "accumulation": {"batch_size": 2, "gradient_accumulation_steps": 3, "tokens_per_batch": 256},
    "early_stopping": {
        "epochs": 8,
        "early_stopping_patience": 2,
        "guard": "f1>=0.9*best",
        "metric_for_best": "f1_PHONE_NUMBER",
        "eval_every": 4,
    },
    "labels": {
        "merge_amounts": True,
        "allowed_labels": ["AMOUNT", "DATE", "MERCHANT_NAME"],
        "label_weight": {"DATE": 2.0},
        "max_sub_tokens": 3,
        "split": "kfold:3/2",
        "decoding": "argmax",
    },
    "optimizer": {
        "lr_schedule": "cosine",
        "layer_lr_decay": 0.8,
        "new_parameter_lr": 2e-2,
        "freeze_embeddings": True,
        "freeze_layers": 1,
        "weight_decay": 0.1,
        "class_weights": "balanced",
    },
    "two_processes": {"processes": 2},
    "test_set": {"test_ratio": 0.2, "split": "random"},
    "resumed": {"augment": ["boxes"], "o_entity_ratio": 1.5},
}
MINILM_CASES = ("plain", "losses", "resumed")
LEFT_OUT = ("seq", "time", "health")  # health: texts for people, whose words may change
RECORDED = ("label_map", "merges", "dataset", "class_weights", "comparability", "test")


@dataclass(frozen=True)
class Checkout:
    """One side of the comparison."""

    path: Path
    python: Path

    @property
    def trainer(self) -> str:
        return next(name for file, name in TRAINERS.items() if (self.path / file).exists())


@dataclass(frozen=True)
class Result:
    """One case at both checkouts."""

    case: str
    model: str
    steps: int
    tensors: int
    evaluations: int
    seconds: tuple[float, float]
    differences: list[str]


def receipts(count: int) -> Iterator[Document]:
    """Generated receipts as a snapshot holds them; always the same ones."""
    draw = random.Random(0)
    names = [
        " ".join(draw.sample(("oak", "river", "corner", "star", "green", "city", "mart", "foods"), 2)) for _ in range(8)
    ]
    for number in range(count):
        group = names[number % len(names)]
        printed = [*header(draw, group), *items(draw), *totals(draw)]
        boxes = [
            (80 + 150 * place, 20 + 30 * row, 200 + 150 * place, 42 + 30 * row)
            for row, line in enumerate(printed)
            for place in range(len(line))
        ]
        words, tags = zip(*(word for line in printed for word in line), strict=True)
        place = {"page_id": f"page-{number:03}", "group": group}
        yield place | {"words": words, "boxes": boxes, "tags": tags, "width": 600, "height": 1200, "image": None}


def header(draw: random.Random, group: str) -> list[list[tuple[str, str]]]:
    return [
        tagged(group.upper(), "MERCHANT_NAME"),
        tagged(f"{draw.randint(1, 999)} {draw.choice(('Main', 'Lake', 'Hill'))} St.", "ADDRESS_LINE"),
        [("TEL", "O"), *tagged(f"(914) {draw.randint(100, 999)}-{draw.randint(1000, 9999)}", "PHONE_NUMBER")],
        [("Date:", "O"), *tagged(f"2020-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}", "DATE")],
    ]


def items(draw: random.Random) -> list[list[tuple[str, str]]]:
    goods = ("BREAD", "FRESH MILK", "EGGS", "WHOLE APPLES", "RICE", "BABY BANANAS")
    return [
        [*tagged(draw.choice(goods), "PRODUCT_NAME"), *tagged(amount(draw), "LINE_TOTAL"), ("T", "O")]
        for _ in range(draw.randint(2, 9))
    ]


def totals(draw: random.Random) -> list[list[tuple[str, str]]]:
    named = (("SUBTOTAL", "SUBTOTAL"), ("TAX", "TAX"), ("TOTAL", "GRAND_TOTAL"))
    lines = [[(word, "O"), *tagged(amount(draw), label)] for word, label in named]
    return [*lines, [("THANK", "O"), ("YOU", "O"), (str(draw.randint(10000, 99999)), "O")]]


def amount(draw: random.Random) -> str:
    return f"${draw.randint(1, 99)}.{draw.randint(0, 99):02}"


def tagged(text: str, label: str) -> list[tuple[str, str]]:
    return [(word, f"{'I' if place else 'B'}-{label}") for place, word in enumerate(text.split())]


def write_dataset(pages: Sequence[Document], path: Path) -> None:
    lines = (json.dumps(page, ensure_ascii=False, separators=(",", ":")) + "\n" for page in pages)
    path.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))


def write_tiny_model(pages: Sequence[Document], folder: Path) -> None:
    """A LayoutLM of two layers of 32 with random weights, whose tokens are the pages' characters."""
    import torch
    from transformers import BertTokenizerFast, LayoutLMConfig, LayoutLMForTokenClassification

    characters = sorted({character for page in pages for word in page["words"] for character in word.lower()})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{each}" for each in characters)]
    BertTokenizerFast(vocab={token: number for number, token in enumerate(tokens)}).save_pretrained(folder)
    torch.manual_seed(0)
    config = LayoutLMConfig(
        vocab_size=len(tokens), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    LayoutLMForTokenClassification(config).save_pretrained(folder)


def new_run_dir(folder: Path, dataset: Path, options: Mapping[str, Any]) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**BASIS, **options}))
    shutil.copy(dataset, folder / "dataset.jsonl.gz")
    return folder


def start(checkout: Checkout, run_dir: Path, until: int | None = None) -> "subprocess.Popen[bytes]":
    """The trainer on one thread; it ends itself when its stdin is closed."""
    words = [str(checkout.python), "-m", checkout.trainer, str(run_dir), *([] if until is None else [str(until)])]
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (run_dir / "train.log").open("wb") as log:
        return subprocess.Popen(
            words, cwd=checkout.path, env={**environment, **quiet}, stdin=subprocess.PIPE, stdout=log, stderr=log
        )


def finish(process: "subprocess.Popen[bytes]", run_dir: Path) -> None:
    if process.wait() != 0:
        raise SystemExit(f"the trainer failed:\n{(run_dir / 'train.log').read_text()[-3000:]}")


def trained(checkouts: Sequence[Checkout], run_dir: Path) -> tuple[list[Path], tuple[float, float]]:
    """Copies of the run directory that each checkout has trained to the end, both at once, and their seconds."""
    folders = [shutil.copytree(run_dir, run_dir.with_name(f"{run_dir.name}-{side}")) for side in ("before", "after")]
    began = time.monotonic()
    processes = [start(checkout, folder) for checkout, folder in zip(checkouts, folders, strict=True)]
    seconds = []
    for process, folder in zip(processes, folders, strict=True):
        finish(process, folder)
        seconds.append(time.monotonic() - began)
    return folders, (seconds[0], seconds[1])


def interrupted(checkout: Checkout, run_dir: Path) -> Path:
    """The next attempt's run directory, as a worker prepares it: the same inputs and the checkpoint, nothing else."""
    finish(start(checkout, run_dir, RESUMED_AT), run_dir)
    resumed = run_dir.with_name(f"{run_dir.name}-resumed")
    resumed.mkdir()
    for name in ("config.json", "dataset.jsonl.gz"):
        shutil.copy(run_dir / name, resumed)
    checkpoint = last_checkpoint(run_dir)
    shutil.copytree(checkpoint, resumed / checkpoint.name)
    return resumed


def last_checkpoint(run_dir: Path) -> Path:
    return max(run_dir.glob("checkpoint-*"), key=lambda path: int(path.name.removeprefix("checkpoint-")))


def events_of(run_dir: Path, kind: str) -> list[Document]:
    events = (json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines())
    return [untimed(event) for event in events if event["kind"] == kind]


def untimed(event: Document) -> Document:
    return {name: value for name, value in event.items() if name not in LEFT_OUT}


def compare_tensors(before: Path, after: Path) -> Iterator[str]:
    names = [{path.name for path in folder.glob("*.safetensors")} for folder in (before, after)]
    if names[0] != names[1]:
        yield f"files of {before.name}: {sorted(names[0] ^ names[1])}"
    for name in sorted(names[0] & names[1]):
        ours, theirs = load_file(before / name), load_file(after / name)
        if ours.keys() != theirs.keys():
            yield f"{before.name}/{name}: names of tensors"
        differing = [
            key
            for key in sorted(ours.keys() & theirs.keys())
            if (ours[key].dtype, ours[key].shape, ours[key].tobytes())
            != (theirs[key].dtype, theirs[key].shape, theirs[key].tobytes())
        ]
        if differing:
            yield f"{before.name}/{name}: {len(differing)} of {len(ours)} tensors, first {differing[0]}"


def compare_documents(title: str, before: object, after: object) -> Iterator[str]:
    """The places at which two JSON documents differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            yield from compare_documents(f"{title}.{name}", before.get(name), after.get(name))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, pair in enumerate(zip(before, after, strict=True)):
            yield from compare_documents(f"{title}[{number}]", *pair)
    elif before != after:
        yield f"{title}: {str(before)[:60]} and {str(after)[:60]}"


def state_of(run_dir: Path) -> Document:
    state: Document = json.loads((last_checkpoint(run_dir) / "state.json").read_bytes())
    return {**state, "evaluations": [untimed(each) for each in state["evaluations"]]}


def record_of(run_dir: Path) -> Document:
    record: Document = json.loads((run_dir / "run.json").read_bytes())
    return {name: record.get(name) for name in RECORDED}


def predictions_of(run_dir: Path) -> dict[str, list[str]]:
    files = sorted((run_dir / "predictions").glob("*.jsonl.gz"))
    return {path.name: gzip.decompress(path.read_bytes()).decode().splitlines() for path in files}


def ends_of(run_dir: Path) -> list[Document]:
    ends = events_of(run_dir, "finished") + events_of(run_dir, "failed")
    return [{name: value for name, value in end.items() if name != "phase_seconds"} for end in ends]


def differences(before: Path, after: Path) -> Iterator[str]:
    checkpoints = last_checkpoint(before), last_checkpoint(after)
    if checkpoints[0].name != checkpoints[1].name:
        yield f"last checkpoint: {checkpoints[0].name} and {checkpoints[1].name}"
    yield from compare_tensors(*checkpoints)
    yield from compare_tensors(before / "best", after / "best")
    readers: dict[str, Callable[[Path], object]] = {
        "state.json": state_of,
        "evaluations": lambda run_dir: events_of(run_dir, "evaluation"),
        "end": ends_of,
        "predictions": predictions_of,
        "run.json": record_of,
    }
    for title, read in readers.items():
        yield from compare_documents(title, read(before), read(after))


def result_of(case: str, model: str, checkouts: Sequence[Checkout], run_dir: Path) -> Result:
    start_dir = interrupted(checkouts[0], run_dir) if case == "resumed" else run_dir
    (before, after), seconds = trained(checkouts, start_dir)
    checkpoint = last_checkpoint(before)
    return Result(
        case=case,
        model=model,
        steps=int(checkpoint.name.removeprefix("checkpoint-")),
        tensors=sum(len(load_file(path)) for path in checkpoint.glob("*.safetensors")),
        evaluations=len(events_of(before, "evaluation")),
        seconds=seconds,
        differences=list(differences(before, after)),
    )


def show(result: Result) -> None:
    found = "equal" if not result.differences else f"{len(result.differences)} differences"
    seconds = " / ".join(f"{each:.1f}" for each in result.seconds)
    columns = result.case, result.model, result.steps, result.tensors, result.evaluations, seconds, found
    print("| " + " | ".join(str(each) for each in columns) + " |", flush=True)
    for difference in result.differences[:10]:
        print(f"  {difference}", file=sys.stderr, flush=True)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="checkout")
    parser.add_argument("after", type=Path, help="checkout")
    parser.add_argument("--python", type=Path, help="interpreter for both (default: each checkout's .venv/bin/python)")
    parser.add_argument("--minilm", action="store_true", help=f"also train MiniLM: {', '.join(MINILM_CASES)}")
    parser.add_argument("--only", nargs="+", choices=CASES, help="these cases alone")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the run directories there")
    return parser.parse_args()


def main() -> int:
    arguments = parsed()
    checkouts = [
        Checkout(path.resolve(), arguments.python or path.resolve() / ".venv/bin/python")
        for path in (arguments.before, arguments.after)
    ]
    chosen = [case for case in CASES if not arguments.only or case in arguments.only]
    runs = [("tiny", case) for case in chosen]
    runs += [("minilm", case) for case in chosen if arguments.minilm and case in MINILM_CASES]
    pages = list(receipts(PAGES))
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.keep or Path(scratch)).resolve()
        write_dataset(pages, folder / "pages.jsonl.gz")
        write_tiny_model(pages, folder / "model")
        weights: dict[str, Document] = {
            "tiny": {"pretrained": str(folder / "model"), "lr": 1e-2},
            "minilm": {"pretrained": "minilm", "layers": 3, "lr": 4e-4},
        }
        print("| case | model | steps | tensors | evaluations | seconds before / after | |\n" + "|---" * 7 + "|")
        are_equal = True
        for model, case in runs:
            options = {**weights[model], **CASES[case]}
            run_dir = new_run_dir(folder / f"{case}-{model}", folder / "pages.jsonl.gz", options)
            result = result_of(case, model, checkouts, run_dir)
            show(result)
            are_equal = are_equal and not result.differences
    return 0 if are_equal else 1


if __name__ == "__main__":
    sys.exit(main())

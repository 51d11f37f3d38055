"""What train_step.py and limit.py share: pages, a model of a known size, and rounds of the project's own train_step."""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read by transformers at its import
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
import transformers
from transformers import LayoutLMConfig, LayoutLMForTokenClassification

from receipt_layoutlm.config_documents import parse_config
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.data.snapshot import read_jsonl, write_snapshot
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.training.setup import Run, prepare_run
from receipt_layoutlm.training.step import train_step
from receipt_layoutlm.training.task import SetupCallbacks
from receipt_layoutlm.training.tasks.pretrained import load_fast_tokenizer
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPages
from receipt_layoutlm.training.tasks.word_labels.inputs.epoch import plan_epoch
from receipt_layoutlm.training.tasks.word_labels.layoutlm import encoder_size
from receipt_layoutlm.training.throughput import step_flops

SROIE = Path(__file__).parents[2] / "shared" / "data" / "sroie"
GENERATED = 346  # receipts, where there are no others
SIZES = {  # layers, hidden, heads, intermediate
    "minilm": (6, 384, 12, 1536),
    "base": (12, 768, 12, 3072),  # of microsoft/layoutlm-base-uncased
    "tiny": (2, 32, 2, 64),  # to try a bench out
}


@dataclass(frozen=True)
class Round:
    """What the optimizer steps of one round took, the first one left out; slots: places in batches, padding too."""

    wall: float  # seconds
    cpu: float  # seconds, of all threads
    tokens: int
    slots: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=SROIE, help="folder with train.jsonl (else generated receipts)")
    parser.add_argument("--size", choices=SIZES, default="minilm", help="of the model (default minilm)")
    parser.add_argument("--pretrained", help="start from these weights, whatever --size (default: random ones)")
    parser.add_argument("--tokenizer", default="minilm", help="'minilm' or a folder with a tokenizer (default minilm)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default cpu")
    parser.add_argument("--precision", choices=("auto", "fp32", "fp16", "bf16"), default="auto", help="default auto")
    parser.add_argument("--threads", type=int, help="default: the CPUs that may be used")
    parser.add_argument("--batch-size", type=int, default=8, help="windows in an optimizer step (default 8)")
    parser.add_argument(
        "--tokens-per-batch", type=int, metavar="N", help="ours: pieces of a step (default: whole steps)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--steps", type=int, default=10, help="timed optimizer steps of a round (default 10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")


def prepared_apart(arguments: argparse.Namespace, **options: object) -> Run:
    """A run over all pages, before its first step; options are those of WordLabelsConfig."""
    with tempfile.TemporaryDirectory() as folder:
        return prepared(arguments, Path(folder), **options)


def prepared(arguments: argparse.Namespace, folder: Path, **options: object) -> Run:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    run_dir, pages = RunDir(folder), pages_of(arguments.data)
    values = {
        "pretrained": arguments.pretrained
        or str(random_weights(arguments.size, arguments.tokenizer, folder / "model")),
        "lr": 4e-4,
        **{
            name: getattr(arguments, name)
            for name in ("device", "precision", "threads", "batch_size", "tokens_per_batch")
        },
        **options,
    }
    config = parse_config(values)
    write_snapshot(pages, run_dir.dataset)
    write_snapshot(pages[:2], run_dir.eval_dataset)  # never evaluated: all pages are there to train on
    return prepare_run(run_dir, config, None, SetupCallbacks(nothing, nothing, nothing, say))


def nothing() -> None:
    pass


def never() -> bool:
    return False


def say(name: str, text: str) -> None:
    print(f"{name}: {text}", file=sys.stderr)


def pages_of(folder: Path) -> list[Page]:
    if (folder / "train.jsonl").exists():
        return read_jsonl(folder / "train.jsonl")
    say("notice", f"there is no train.jsonl in {folder}: {GENERATED} generated receipts instead")
    return generate_pages(GENERATED, seed=0)


def random_weights(size: str, tokenizer: str, folder: Path) -> Path:
    """A model folder of that size."""
    layers, hidden, heads, intermediate = SIZES[size]
    words = load_fast_tokenizer(parse_config({"pretrained": tokenizer}))
    config = LayoutLMConfig(
        vocab_size=len(words),
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=intermediate,
    )
    words.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LayoutLMForTokenClassification(config).save_pretrained(folder)
    return folder


def drawn_windows(part: EncodedPages, count: int, number: int) -> EncodedPages:
    """Windows of round `number`, the same for every variant."""
    return chosen_windows(part, random.Random(number).sample(range(len(part.windows)), checked(part, count)))


def longest_windows(part: EncodedPages, count: int) -> EncodedPages:
    """Those that take the most memory."""
    return chosen_windows(part, part.window_lengths.argsort()[::-1][: checked(part, count)].tolist())


def checked(part: EncodedPages, count: int) -> int:
    if count > len(part.windows):
        raise SystemExit(f"the pages make {len(part.windows)} windows, not {count}: give fewer --steps")
    return count


def chosen_windows(part: EncodedPages, places: Sequence[int]) -> EncodedPages:
    return replace(part, window_numbers=part.window_numbers[list(places)], window_pages=part.window_pages[list(places)])


def clocks(device: torch.device) -> tuple[float, float]:
    """Seconds by the wall and of the processor."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter(), time.process_time()


def our_round(run: Run, part: EncodedPages) -> Round:
    """The project's training over these windows. Its step before the first, which is not timed, repeats that one."""
    planned = plan_epoch(run.config, part, 0, len(part.windows))
    epoch = replace(planned, steps=[planned.steps[0], *planned.steps])
    run = at_beginning(run, len(epoch.steps))
    train_step(run, epoch, never)
    wall, cpu = clocks(run.compute.device)
    windows = sum(len(step) for step in planned.steps if train_step(run, epoch, never))
    ended_wall, ended_cpu = clocks(run.compute.device)
    assert windows == len(part.windows)
    tokens = int(part.window_lengths.sum())
    return Round(ended_wall - wall, ended_cpu - cpu, tokens, tokens)


def at_beginning(run: Run, steps: int) -> Run:
    """The run, with so many steps before it, all of one epoch."""
    start = {"global_step": 0, "epoch": 0, "step_in_epoch": 0, "evaluation_due": False}
    plan = replace(run.plan, steps_per_epoch=steps, total_steps=steps)
    return replace(run, plan=plan, state=run.state.model_copy(update=start))


def needed_flops(run: Run, part: EncodedPages) -> int:
    """Of forward and backward over these windows without anything that the result does not need."""
    words = sum(len(window.first) for window in part.windows)
    return step_flops(encoder_size(run.task.model.config), part.window_lengths.tolist(), words)


def surroundings(run: Run) -> dict[str, object]:
    """What the figures depend on."""
    return {
        "device": torch.cuda.get_device_name(run.compute.device) if run.compute.device.type == "cuda" else "cpu",
        "precision": run.state.precision,
        "threads": torch.get_num_threads(),
        "parameters": sum(parameter.numel() for parameter in run.task.model.parameters()),
        "layers": run.task.model.config.num_hidden_layers,
        "hidden": run.task.model.config.hidden_size,
        "batch_size": run.config.batch_size,
        "pages": len(run.task.encoded.train.pages),
        "windows": len(run.task.encoded.train.windows),
        "tokens": int(run.task.encoded.train.window_lengths.sum()),
        "torch": torch.__version__,
        "load_average": os.getloadavg()[0],
    }

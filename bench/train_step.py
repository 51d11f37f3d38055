"""Receipts a second of transformers' Trainer as people use it, of the same tuned, and of this project's training.

    python bench/train_step.py --threads 2 --memory
    python bench/train_step.py --threads 2 --memory --tokens-per-batch 2048
    python bench/train_step.py --curve 200
    python bench/train_step.py --device cuda --size base --batch-size 32 --memory

stock: `Trainer.train()`, padded to 512, dropout 0.1 (attention too), cross-entropy, AdamW as it comes. tuned: padded to
the longest of batches of like lengths, no dropout in attention, fused AdamW. ours: the project's train_step over packed
batches. All three have a model of the same size with random weights, batches of the same size, and in each round the
same windows; they take turns in one process. A round's first step is not timed. Ratios are of the same round; all
figures are medians over the rounds. On a busy machine CPU seconds say more than those of the wall. Needed operations
are those without padding, of the last layer those at words only; the same for all three.

--memory starts a process for each variant, which trains on the longest windows: the peak beyond what it had with model
and pages loaded, and in all. --curve trains stock and ours from the same weights, without dropout and with the same
rates, and prints the mean loss of each tenth of the steps.

transformers' Trainer needs accelerate, which the project itself does not: pip install accelerate==1.15.0
"""

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median

import torch
from stock_recipe import STOCK, TUNED, Stock, check_accelerate, row_of
from training_rounds import (
    Round,
    add_arguments,
    at_beginning,
    drawn_windows,
    longest_windows,
    needed_flops,
    never,
    our_round,
    prepared_apart,
    surroundings,
)

from receipt_layoutlm.training.setup import Run
from receipt_layoutlm.training.step import train_step
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPages
from receipt_layoutlm.training.tasks.word_labels.inputs.epoch import SampledWindow, plan_epoch

PROMISED = {"cpu": 4.8, "cuda": 4.0}  # times the receipts a second of stock
PROMISED_MEMORY = 1 / 3
RECIPES = {"stock": STOCK, "tuned": TUNED}
VARIANTS = (*RECIPES, "ours")
POINTS = 10  # of a loss curve
Train = Callable[[EncodedPages], Round]


def started(variant: str, run: Run) -> Train:
    """Trains on the windows of a round; holds the run only where it needs it."""
    if variant == "ours":
        return lambda part: our_round(run, part)
    return Stock.of(run, RECIPES[variant]).round


def measured(arguments: argparse.Namespace, run: Run) -> dict[str, dict[str, float]]:
    """Medians by variant."""
    trains = {variant: started(variant, run) for variant in VARIANTS}
    rounds: dict[str, list[Round]] = {variant: [] for variant in VARIANTS}
    flops = []
    for number in range(arguments.rounds):
        part = drawn_windows(run.task.encoded.train, arguments.steps * run.config.batch_size, number)
        flops.append(needed_flops(run, part))
        first = number % len(VARIANTS)
        for variant in (*VARIANTS[first:], *VARIANTS[:first]):
            rounds[variant].append(trains[variant](part))
            say_round(number, variant, rounds[variant][-1])
    receipts = (
        arguments.steps
        * run.config.batch_size
        * len(run.task.encoded.train.pages)
        / len(run.task.encoded.train.windows)
    )
    return {variant: medians(rounds[variant], rounds["stock"], receipts, flops) for variant in VARIANTS}


def say_round(number: int, variant: str, took: Round) -> None:
    print(f"round {number + 1}, {variant}: {took.wall:.2f} s, {took.cpu:.2f} CPU s", file=sys.stderr, flush=True)


def medians(rounds: Sequence[Round], stock: Sequence[Round], receipts: float, flops: Sequence[int]) -> dict[str, float]:
    """receipts: of a round, a long one being several windows. flops: that each round needs."""
    pairs = list(zip(rounds, stock, strict=True))
    return {
        "receipts_per_second": median(receipts / each.wall for each in rounds),
        "receipts_per_cpu_second": median(receipts / each.cpu for each in rounds),
        "ratio": median(other.wall / each.wall for each, other in pairs),
        "cpu_ratio": median(other.cpu / each.cpu for each, other in pairs),
        "padded_share": 1 - sum(each.tokens for each in rounds) / sum(each.slots for each in rounds),
        "needed_flops_per_second": median(count / each.wall for count, each in zip(flops, rounds, strict=True)),
    }


def memory_of(variant: str, words: Sequence[str]) -> dict[str, float]:
    """In a process of its own."""
    command = [sys.executable, __file__, *words, "--child", variant]
    told: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return told


def tell_memory(arguments: argparse.Namespace) -> None:
    run = prepared_apart(arguments)
    part, device = longest_windows(run.task.encoded.train, arguments.steps * run.config.batch_size), run.compute.device
    train = started(arguments.child, run)
    del run  # a recipe has a model of its own
    before = memory(device)
    forget_peak(device)
    train(part)
    peak = memory(device, peak=True)
    print(json.dumps({"peak_mb": peak, "growth_mb": peak - before}))


def memory(device: torch.device, peak: bool = False) -> float:
    """Megabytes, of this process alone: getrusage would count the one that started it."""
    if device.type == "cuda":
        return (torch.cuda.max_memory_allocated(device) if peak else torch.cuda.memory_allocated(device)) / 1e6
    name = "VmHWM:" if peak else "VmRSS:"
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024 / 1e6  # stands there in KiB


def forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM, by proc(5)


def curves(run: Run, steps: int, same_order: bool) -> dict[str, list[float]]:
    """Mean loss of each tenth of the steps, of stock and of ours."""
    every = max(1, steps // POINTS)
    shown = shown_steps(run, every * POINTS)
    windows = [each.window for step in shown for each in step]
    if not same_order:
        random.Random(0).shuffle(windows)
    stock = Stock.of(run, replace(STOCK, dropout=0.0, attention_dropout=0.0))
    rows = [row_of(run.task.encoded.train.windows[place]) for place in windows]
    found = {"stock": stock.losses(rows, every, run.config)}
    losses = our_losses(run, shown)
    return {**found, "ours": [fmean(losses[start : start + every]) for start in range(0, len(losses), every)]}


def shown_steps(run: Run, count: int) -> list[list[SampledWindow]]:
    """The first steps of a training; a Trainer cuts rows by number, so those that are not full are left out."""
    steps: list[list[SampledWindow]] = []
    number = 0
    while len(steps) < count:
        epoch = plan_epoch(run.config, run.task.encoded.train, number, len(run.task.encoded.train.windows))
        steps += [step for step in epoch.steps if len(step) == run.config.batch_size]
        number += 1
    return steps[:count]


def our_losses(run: Run, steps: list[list[SampledWindow]]) -> list[float]:
    epoch = replace(plan_epoch(run.config, run.task.encoded.train, 0, len(run.task.encoded.train.windows)), steps=steps)
    run = at_beginning(run, len(steps))
    losses = []
    for _ in steps:
        run.state.loss_sum = run.state.loss_count = 0.0
        train_step(run, epoch, never)
        losses.append(run.state.loss_sum / run.state.loss_count)
    return losses


def show(found: dict[str, dict[str, float]], around: dict[str, object], promised: float) -> None:
    print(", ".join(f"{name} {value}" for name, value in around.items()))
    print("| variant | receipts/s | receipts/CPU s | ratio | by CPU | padded | needed GFLOP/s | peak MB (growth) |")
    print("|---" * 8 + "|")
    for variant, row in found.items():
        peak = f"{row['peak_mb']:.0f} ({row['growth_mb']:.0f})" if "peak_mb" in row else "-"
        print(
            f"| {variant} | {row['receipts_per_second']:.2f} | {row['receipts_per_cpu_second']:.2f} "
            f"| {row['ratio']:.2f} | {row['cpu_ratio']:.2f} | {100 * row['padded_share']:.1f} % "
            f"| {row['needed_flops_per_second'] / 1e9:.1f} | {peak} |"
        )
    print(f"promised: ours at least {promised} times stock, its peak memory at most {PROMISED_MEMORY:.2f} of stock's")


def show_curves(found: dict[str, list[float]]) -> None:
    print("| tenth of the steps | " + " | ".join(found) + " |\n" + "|---" * (1 + len(found)) + "|")
    for number, losses in enumerate(zip(*found.values(), strict=True), 1):
        print(f"| {number} | " + " | ".join(f"{loss:.4f}" for loss in losses) + " |")


def parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--memory", action="store_true", help="measure the peak memory of each variant too")
    parser.add_argument("--curve", type=int, metavar="STEPS", help="no timing: losses of stock and ours, side by side")
    parser.add_argument("--same-order", action="store_true", help="with --curve: stock takes our batches, not its own")
    parser.add_argument("--child", choices=VARIANTS, help=argparse.SUPPRESS)
    return parser.parse_args(words)


def main(words: Sequence[str]) -> None:
    check_accelerate()
    arguments = parsed(words)
    if arguments.child:
        tell_memory(arguments)
        return
    run = prepared_apart(arguments, **({"dropout": 0.0} if arguments.curve else {}))
    around = surroundings(run)
    if arguments.curve:
        result: dict[str, object] = {"curve": curves(run, arguments.curve, arguments.same_order)}
        show_curves(result["curve"])  # type: ignore[arg-type]
    else:
        rows = measured(arguments, run)
        for variant in VARIANTS if arguments.memory else ():
            rows[variant] |= memory_of(variant, words)
        result = {"variants": rows}
        show(rows, around, PROMISED[run.compute.device.type])
    if arguments.json:
        arguments.json.write_text(json.dumps({**around, **result}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

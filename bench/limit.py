"""What share of the machine's matrix speed the training reaches: matrix products and training steps by turns.

    python bench/limit.py --threads 2
    python bench/limit.py --device cuda --size base --batch-size 32

The peak is the fastest of several products, square ones and those of the model's layers, in the run's precision and
with its threads; of each the best of several tries, in every round anew, because a shared machine is not always equally
fast. Achieved is what the training's steps need (forward and backward without padding, of the last layer the words
only; nothing else counts) over the time they take. The share is the median of the rounds' achieved over the best peak
of all rounds. On a GPU the share of the data sheet's peak, which is called MFU, stands beside it.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from training_rounds import (
    add_arguments,
    clocks,
    drawn_windows,
    needed_flops,
    our_round,
    prepared_apart,
    surroundings,
)

from receipt_layoutlm.training.setup import Run
from receipt_layoutlm.training.throughput import peak_flops

PROMISED_SHARE = 0.65  # of the measured peak, on a CPU
PROMISED_MFU = 0.40  # on an H200-class GPU, size base, bf16
SQUARES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192)}
TRIES = 5
SECONDS_OF_A_TRY = 0.02  # at least: one product of a GPU is too short to be timed alone
TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
Shape = tuple[int, int, int]  # rows, inner, columns


@dataclass(frozen=True)
class Speed:
    """FLOP/s by the wall, and by CPU seconds."""

    wall: float
    cpu: float


def shapes_for(run: Run) -> list[Shape]:
    """Square ones, and those of the layers over a mean batch."""
    hidden, inner = run.task.model.config.hidden_size, run.task.model.config.intermediate_size
    tokens = round(float(run.task.encoded.train.window_lengths.mean()) * run.config.batch_size)
    squares = [(side, side, side) for side in SQUARES[run.compute.device.type]]
    return [*squares, (tokens, hidden, hidden), (tokens, hidden, inner), (tokens, inner, hidden)]


def speed_of(shape: Shape, run: Run) -> Speed:
    """The best of some tries."""
    rows, inner, columns = shape
    left, right = (
        torch.randn(size, device=run.compute.device, dtype=TYPES[run.state.precision])
        for size in ((rows, inner), (inner, columns))
    )
    times = max(1, round(SECONDS_OF_A_TRY / timed(left, right, run, 1)[0]))
    tries = [timed(left, right, run, times) for _ in range(TRIES)]
    flops = 2 * rows * inner * columns * times
    return Speed(flops / min(wall for wall, _ in tries), flops / min(cpu for _, cpu in tries))


def timed(left: torch.Tensor, right: torch.Tensor, run: Run, times: int) -> tuple[float, float]:
    wall, cpu = clocks(run.compute.device)
    for _ in range(times):
        left @ right
    ended_wall, ended_cpu = clocks(run.compute.device)
    return ended_wall - wall, max(ended_cpu - cpu, 1e-9)


def measured(arguments: argparse.Namespace, run: Run) -> dict[str, object]:
    shapes = shapes_for(run)
    peaks: dict[Shape, list[Speed]] = {shape: [] for shape in shapes}
    achieved: list[Speed] = []
    for number in range(arguments.rounds):
        for shape in shapes:
            peaks[shape].append(speed_of(shape, run))
        part = drawn_windows(run.task.encoded.train, arguments.steps * run.config.batch_size, number)
        flops, took = needed_flops(run, part), our_round(run, part)
        achieved.append(Speed(flops / took.wall, flops / took.cpu))
        print(f"round {number + 1}: {achieved[-1].wall / 1e9:.1f} GFLOP/s", file=sys.stderr, flush=True)
    return figures(run, peaks, achieved)


def figures(run: Run, peaks: dict[Shape, list[Speed]], achieved: list[Speed]) -> dict[str, object]:
    best = {shape: max(speed.wall for speed in speeds) for shape, speeds in peaks.items()}
    of_rounds = [max(speeds[number].wall for speeds in peaks.values()) for number in range(len(achieved))]
    by_cpu = max(speed.cpu for speeds in peaks.values() for speed in speeds)
    middle, peak = median(speed.wall for speed in achieved), max(best.values())
    found: dict[str, object] = {
        "peak_flops_per_second": peak,
        "peak_of": "x".join(map(str, max(best, key=lambda shape: best[shape]))),
        "peaks": {"x".join(map(str, shape)): speed for shape, speed in best.items()},
        "peaks_of_rounds": of_rounds,
        "achieved_flops_per_second": middle,
        "achieved_of_rounds": [speed.wall for speed in achieved],
        "share": middle / peak,
        "share_in_the_same_round": median(speed.wall / there for speed, there in zip(achieved, of_rounds, strict=True)),
    }
    if run.compute.device.type == "cpu":
        return {**found, "share_by_cpu_seconds": median(speed.cpu for speed in achieved) / by_cpu}
    sheet = peak_flops(torch.cuda.get_device_name(run.compute.device), run.state.precision)
    return {**found, "data_sheet_flops_per_second": sheet, "mfu": None if sheet is None else middle / sheet}


def show(found: dict[str, object], around: dict[str, object]) -> None:
    print(", ".join(f"{name} {value}" for name, value in around.items()))
    print("| | |\n|---|---|")
    for name, value in found.items():
        if isinstance(value, float):
            text = f"{value / 1e9:,.1f} GFLOP/s" if name.endswith("per_second") else f"{100 * value:.1f} %"
            print(f"| {name.removesuffix('_flops_per_second').replace('_', ' ')} | {text} |")
        elif isinstance(value, str) or value is None:
            print(f"| {name.replace('_', ' ')} | {value or 'not known'} |")
    print(f"promised: a share of at least {PROMISED_SHARE:.0%} on a CPU, MFU of at least {PROMISED_MFU:.0%} on an H200")


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    arguments = parser.parse_args(words)
    run = prepared_apart(arguments)
    around, found = surroundings(run), measured(arguments, run)
    show(found, around)
    if arguments.json:
        path: Path = arguments.json
        path.write_text(json.dumps({**around, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

"""How long a person waits for the command line: wall and CPU seconds of whole processes, median of nine.

    python bench/cli_start.py

The one-query commands run against the embedded AWS in a folder of their own; the bare interpreter is timed beside
them, in turn, so that a slow machine shows.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

RUNS = 9
CLI = [sys.executable, "-m", "receipt_layoutlm.cli"]
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "layoutlm-cli --help": [*CLI, "--help"],
    "job list --status succeeded": [*CLI, "--local", "job", "list", "--status", "succeeded"],
    "dataset list": [*CLI, "--local", "dataset", "list"],
}


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of one process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "LAYOUTLM_STATE_DIR": folder}
        subprocess.run([*CLI, "local", "up"], env=environment, check=True, stdout=subprocess.DEVNULL)
        samples: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
        try:
            for _ in range(RUNS):
                for name, command in COMMANDS.items():
                    samples[name].append(timed(command, environment))
        finally:
            subprocess.run([*CLI, "local", "down"], env=environment, check=True, stdout=subprocess.DEVNULL)
    medians = {
        name: {
            "wall_seconds": statistics.median(wall for wall, _ in rows),
            "cpu_seconds": statistics.median(cpu for _, cpu in rows),
        }
        for name, rows in samples.items()
    }
    print(f"{'command':30}  wall s   CPU s   (median of {RUNS})")
    for name, row in medians.items():
        print(f"{name:30}  {row['wall_seconds']:6.3f}  {row['cpu_seconds']:6.3f}")
    print(json.dumps(medians))


if __name__ == "__main__":
    main()

"""Launches the processes of a data-parallel run through torchrun, and relays signals to rank 0. Imports no torch."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final

from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.hardware import usable_cpus

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGABRT)
START_SECONDS: Final = 120.0  # at most, until rank 0 reads signals
LOG_BYTES: Final = 4000  # of each other rank's log, shown after a failure


def processes_of(run_dir: RunDir, environment: Mapping[str, str]) -> int:
    """Processes to launch: 1 in a process that torchrun has started, and where the config cannot be read."""
    if "RANK" in environment:
        return 1
    with suppress(OSError, ValueError, AttributeError, TypeError):
        return int(json.loads(run_dir.config.read_bytes()).get("processes") or 1)
    return 1


def run_processes(run_dir: RunDir, arguments: Sequence[str], processes: int, environment: Mapping[str, str]) -> int:
    """Run the trainer in `processes` processes on this machine; returns torchrun's exit status.

    Signals go to rank 0 alone, which stops the others in order. All ranks inherit stdin and end when it closes.
    """
    pid_file, logs = _pid_file(run_dir), run_dir.path / "rank-logs"
    pid_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += ["--monitor-interval", "0.5", "--log-dir", str(logs)]
    command += ["--redirects", ",".join(f"{rank}:3" for rank in range(1, processes))]  # 3: stdout and stderr
    threads = {"OMP_NUM_THREADS": str(max(1, usable_cpus() // processes))}  # torchrun's own default is 1

    def relay(number: int, _frame: FrameType | None) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not pid_file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        with suppress(OSError, ValueError):
            os.kill(int(pid_file.read_text()), number)

    for number in SIGNALS:
        signal.signal(number, relay)
    torchrun = subprocess.Popen(
        [*command, "-m", "receipt_layoutlm.training", *arguments],
        env={**threads, **environment},
        start_new_session=True,  # a terminal's Ctrl-C would make torchrun kill the ranks
    )
    status = torchrun.wait()
    if status != 0:
        for log in sorted(logs.rglob("stderr.log")):
            sys.stderr.write(f"rank {log.parent.name}:\n{log.read_bytes()[-LOG_BYTES:].decode(errors='replace')}\n")
    return status


def announce(run_dir: RunDir) -> None:
    """Called by rank 0 once it reads signals."""
    partial = run_dir.path / ".rank-0.pid.partial"
    partial.write_text(str(os.getpid()))
    partial.replace(_pid_file(run_dir))


def _pid_file(run_dir: RunDir) -> Path:
    return run_dir.path / "rank-0.pid"

"""The trainer as a child process: its own process group, an open stdin, its output in train.log."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from receipt_layoutlm.run_dir import RunDir

LOG_TAIL_LINES = 20


class Trainer:
    """A running trainer. It stops by itself when this process dies, because its stdin closes then."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def exit_code(self, wait_seconds: float) -> int | None:
        """The exit code (negative: the signal that ended it), or None while it still runs after the wait."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(wait_seconds)
        return None

    def ask_to_stop(self) -> None:
        """SIGTERM: write a checkpoint, say why, end."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL to the whole group, so that no helper process stays."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def start_trainer(run_dir: RunDir) -> Iterator[Trainer]:
    """Start `python -m receipt_layoutlm.trainer RUN_DIR`; whatever happens in the block, it is gone after it."""
    command = [sys.executable, "-m", "receipt_layoutlm.trainer", str(run_dir.path)]
    with run_dir.train_log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True)
    trainer = Trainer(process)
    try:
        yield trainer
    finally:
        trainer.kill()
        if process.stdin is not None:
            process.stdin.close()


def tail(path: Path, lines: int = LOG_TAIL_LINES) -> str:
    """The last lines of a log file; empty when there is none."""
    if not path.exists():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def describe_exit(code: int) -> tuple[str, str]:
    """Cause and message for a trainer that ended without saying why."""
    if code >= 0:
        return "unknown", f"the trainer ended with exit code {code} and said nothing"
    name = signal.Signals(-code).name
    return ("killed" if name in ("SIGKILL", "SIGTERM") else "unknown"), f"the trainer was ended by {name}"

"""The trainer as a child process: its own process group, an open stdin, its output in train.log."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from receipt_layoutlm.redact import redacted
from receipt_layoutlm.run_dir import RunDir

LOG_TAIL_LINES = 80  # a stack inside a transformer has about 40 frames, its innermost ones come first
LINE_CHARACTERS = 500  # faulthandler lists every extension module in one line
KILL_SECONDS = 10.0
ABORT_SECONDS = 5.0  # for faulthandler to write where every thread stands
OOM_SCORE = "500"  # of 1000: when memory runs out, the kernel ends the trainer, and its worker can say so


class Trainer:
    """A running trainer. It stops by itself when this process dies, because its stdin closes then."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._is_left_behind = False

    def exit_code(self, wait_seconds: float) -> int | None:
        """The exit code (negative: the signal that ended it), or None while it still runs after the wait."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(wait_seconds)
        return -signal.SIGKILL if self._is_left_behind else None

    def ask_to_stop(self) -> None:
        """SIGTERM: write a checkpoint, say why, end."""
        self._process.terminate()

    def ask_to_save(self) -> None:
        """SIGUSR1: write a checkpoint and go on. Only once it has said something: its handler stands then."""
        self._process.send_signal(signal.SIGUSR1)

    def abort(self) -> None:
        """SIGABRT, so that the log says where it hung (a stopped process is woken for that); then as kill."""
        self._process.send_signal(signal.SIGABRT)
        self._process.send_signal(signal.SIGCONT)
        self.exit_code(ABORT_SECONDS)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the whole group, so that no helper process stays."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        try:
            self._process.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:
            self._is_left_behind = True  # a device driver holds it, and waiting would hold the lease for ever


@contextmanager
def start_trainer(run_dir: RunDir, environment: Mapping[str, str]) -> Iterator[Trainer]:
    """Start `python -m receipt_layoutlm.trainer RUN_DIR`; whatever happens in the block, it is gone after it."""
    command = [sys.executable, "-m", "receipt_layoutlm.trainer", str(run_dir.path)]
    with run_dir.train_log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=dict(environment),
            start_new_session=True,
        )
    with suppress(OSError):  # not Linux, or the trainer has ended already
        Path(f"/proc/{process.pid}/oom_score_adj").write_text(OOM_SCORE)
    trainer = Trainer(process)
    try:
        yield trainer
    finally:
        trainer.kill()
        if process.stdin is not None:
            process.stdin.close()


def tail(path: Path, secrets: tuple[str, ...] = (), lines: int = LOG_TAIL_LINES) -> str:
    """The last lines of a log file without secrets, none longer than 500 characters; empty when there is none."""
    if not path.exists():
        return ""
    last = path.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join(redacted(line, secrets)[:LINE_CHARACTERS] for line in last)

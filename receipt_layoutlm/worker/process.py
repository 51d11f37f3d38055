"""The trainer as a child process: its own process group, an open stdin, its output in train.log; why it crashed."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from receipt_layoutlm.redact import redacted
from receipt_layoutlm.run.directory import ORPHANED, RunDir
from receipt_layoutlm.worker.log_mirror import end_of

LOG_TAIL_LINES = 80  # a stack inside a transformer has about 40 frames, its innermost ones come first
LINE_CHARACTERS = 500  # faulthandler lists every extension module in one line
KILL_SECONDS = 10.0
ABORT_SECONDS = 5.0  # for faulthandler to write where every thread stands
OOM_SCORE = "500"  # of 1000: when memory runs out, the kernel ends the trainer, and its worker can say so
LONGEST_MESSAGE = 500  # characters
COUNT_FILES = ("memory.events", "memory.oom_control")  # of cgroup v2, of v1

# As torch 2.x, numpy, the C++ runtime and the system write them, e.g. "torch.OutOfMemoryError: CUDA out of memory.
# Tried to allocate", "DefaultCPUAllocator: can't allocate memory", "MPS backend out of memory (MPS allocated:",
# "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "[Errno 12] Cannot allocate memory",
# oneDNN's "RuntimeError: could not create a primitive" (with "descriptor for" behind it, it is something else).
OUT_OF_MEMORY = re.compile(
    r"\b(CUDA|HIP|MPS)\b.{0,30}\bout of memory|OutOfMemoryError|can(not|'t) allocate memory"
    r"|not enough memory: you tried|MemoryError\b|std::bad_alloc|could not create a primitive$"
    r"|CU(BLAS|DNN)_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)

# e.g. "torch.AcceleratorError: CUDA error: device-side assert triggered", "cuda runtime error (39) : uncorrectable ECC
# error encountered", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", "DistBackendError: NCCL error in: ...",
# "ncclUnhandledCudaError: Call to CUDA function failed.", "Cuda failure 999 'unknown error'",
# "MPSNDArray.mm:794: failed assertion `[MPSNDArray, initWithBuffer:descriptor:] Error: buffer is not large enough".
DEVICE_ERROR = re.compile(
    r"\b(CUDA|HIP|cuDNN|NCCL|cuBLAS)( driver| runtime| unknown)? (error|failure)\b|device-side assert|AcceleratorError"
    r"|No CUDA GPUs are available"
    r"|\bCU(DNN|BLAS|SPARSE|SOLVER)_STATUS_|\bnccl\w+Error\b|uncorrectable ECC|ECC_UNCORRECTABLE"
    r"|(MPS|MTL|Metal).{0,200}failed assertion|failed assertion.{0,80}MTL|command buffer exited with error status",
    re.IGNORECASE,
)
NO_ROOM = re.compile(r"^(?!warning: ).*(No space left on device|Disk quota exceeded|File too large)")
EXCEPTION_LINE = re.compile(r"^\s*([A-Za-z_]\w*\.)*\w*(Error|Exception|Interrupt|Exit)(:\s|$)")
CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT})


class TrainerProcess:
    """A running trainer. It ends by itself when this process dies, because its stdin closes then."""

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
        """SIGUSR1: write a checkpoint and continue. Only after its first event: earlier there is no handler."""
        self._process.send_signal(signal.SIGUSR1)

    def abort(self) -> None:
        """SIGABRT, so that the log shows where it hung (after waking a stopped process); then kill."""
        self._process.send_signal(signal.SIGABRT)
        self._process.send_signal(signal.SIGCONT)
        self.exit_code(ABORT_SECONDS)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the group and to every descendant: torchrun gives the ranks of a run groups of their own."""
        with suppress(psutil.Error):
            for child in psutil.Process(self._process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    child.kill()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        try:
            self._process.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:
            self._is_left_behind = True  # a device driver holds it, and waiting would hold the lease for ever


@contextmanager
def start_trainer(run_dir: RunDir, environment: Mapping[str, str]) -> Iterator[TrainerProcess]:
    """Run `python -m receipt_layoutlm.training RUN_DIR` inside the block; it is killed at its end."""
    command = [sys.executable, "-m", "receipt_layoutlm.training", str(run_dir.path)]
    with run_dir.open_train_log() as output:
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
    trainer = TrainerProcess(process)
    try:
        yield trainer
    finally:
        trainer.kill()
        if process.stdin is not None:
            process.stdin.close()


def tail(path: Path, secrets: tuple[str, ...] = (), lines: int = LOG_TAIL_LINES) -> str:
    """The last lines of a log file without secrets, none longer than 500 characters; empty when there is none."""
    last = end_of(path).decode(errors="replace").splitlines()[-lines:]
    return "\n".join(redacted(line, secrets)[:LINE_CHARACTERS] for line in last)


def classify_crash(code: int, log_tail: str, oom_kills: int) -> tuple[str, str]:
    """Cause and message of a trainer that wrote no `failed` or `finished`.

    `code` is negative for a signal; `oom_kills` is the increase of the kernel's count.
    """
    logged = _logged_cause(log_tail)
    if code < 0:
        signals = {number.value: number.name for number in signal.Signals}  # without the real-time ones
        name = signals.get(-code, f"signal {-code}")
        if -code == signal.SIGKILL and oom_kills > 0:
            return "out_of_memory", "the kernel killed the trainer because memory ran out: use a smaller --batch-size"
        if -code not in CRASHES:
            return "killed", f"the trainer was ended by {name}"
        cause, line = logged or ("killed", "")
        return cause, f"the trainer crashed: {name}" + (f" after {line!r}" if line else "")
    if code == ORPHANED:
        return "killed", "the trainer ended because its stdin was closed: the process that started it is gone"
    if logged is not None:
        return logged
    errors = [line.strip() for line in log_tail.splitlines() if EXCEPTION_LINE.match(line)]
    message = errors[-1][:LONGEST_MESSAGE] if errors else "without any error in its log"
    return "unknown", f"the trainer ended with exit code {code}{':' if errors else ''} {message}"


def _logged_cause(log_tail: str) -> tuple[str, str] | None:
    """Cause and line from the end of the log. Memory goes first: a CUDA error may be one of memory."""
    for cause, pattern in (("out_of_memory", OUT_OF_MEMORY), ("device_error", DEVICE_ERROR), ("storage", NO_ROOM)):
        lines = [line.strip() for line in log_tail.splitlines() if pattern.search(line) and "Warning: " not in line]
        if lines:
            return cause, lines[-1][:LONGEST_MESSAGE]
    return None


class OomCounter:
    """Counts the processes of a control group that the kernel has killed for lack of memory since this was made."""

    def __init__(self, cgroup: Path | None) -> None:
        self._cgroup = cgroup
        self._before = oom_kill_count(cgroup)

    def kills(self) -> int:
        return oom_kill_count(self._cgroup) - self._before


def oom_kill_count(cgroup: Path | None) -> int:
    """Count in memory.events (cgroup v2) or memory.oom_control (v1); 0 where there is neither."""
    lines = [] if cgroup is None else [line for name in COUNT_FILES for line in _lines(cgroup / name)]
    counts = [line.partition(" ")[2] for line in lines if line.startswith("oom_kill ")]
    return int(counts[0]) if counts and counts[0].isdigit() else 0


def find_cgroup(proc_self_cgroup: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> Path | None:
    """Folder with the count for this process; None where there is none (macOS, the root group)."""
    for line in _lines(proc_self_cgroup):
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "memory" if controllers else root
        # in a container the path may be the host's, while the mounted tree begins at one's own group
        for folder in (top / group.lstrip("/"), top):
            if any((folder / name).exists() for name in COUNT_FILES):
                return folder
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []

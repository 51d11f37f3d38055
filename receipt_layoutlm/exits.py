"""Why a trainer ended that did not say why: its exit code, the end of its log, the kernel's count of memory kills."""

import re
import signal
from pathlib import Path

from receipt_layoutlm.trainer import ORPHANED

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
EXCEPTION_LINE = re.compile(r"^\s*([A-Za-z_]\w*\.)*\w*(Error|Exception|Interrupt|Exit)(:\s|$)")
CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT})


def classify(code: int, log_tail: str, oom_kills: int) -> tuple[str, str]:
    """Cause and message. `code` is negative for a signal; `oom_kills` is how far the kernel's count rose meanwhile."""
    if code < 0:
        return _signalled(-code, log_tail, oom_kills)
    if code == ORPHANED:
        return "killed", "the trainer ended because its stdin was closed: the process that started it went away"
    return _said(log_tail) or ("unknown", _unknown(code, log_tail))


def _signalled(number: int, log_tail: str, oom_kills: int) -> tuple[str, str]:
    name = _name(number)
    if number == signal.SIGKILL and oom_kills > 0:
        return "out_of_memory", "the kernel killed the trainer because memory ran out: take a smaller --batch-size"
    if number not in CRASHES:
        return "killed", f"the trainer was ended by {name}"
    cause, line = _said(log_tail) or ("killed", "")
    return cause, f"the trainer crashed: {name}" + (f" after {line!r}" if line else "")


def _said(log_tail: str) -> tuple[str, str] | None:
    """What the end of the log shows: the cause and the line. Memory goes first: a CUDA error may be one of memory."""
    for cause, pattern in (("out_of_memory", OUT_OF_MEMORY), ("device_error", DEVICE_ERROR)):
        found = [line.strip() for line in log_tail.splitlines() if pattern.search(line) and "Warning: " not in line]
        if found:
            return cause, found[-1][:LONGEST_MESSAGE]
    return None


def _unknown(code: int, log_tail: str) -> str:
    found = [line.strip() for line in log_tail.splitlines() if EXCEPTION_LINE.match(line)]
    return f"the trainer ended with exit code {code}" + (
        f": {found[-1][:LONGEST_MESSAGE]}" if found else " and said nothing"
    )


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


class OomCounter:
    """How many processes of a control group the kernel has killed for want of memory, since this was made."""

    def __init__(self, cgroup: Path | None) -> None:
        self._cgroup = cgroup
        self._before = oom_kill_count(cgroup)

    def kills(self) -> int:
        return oom_kill_count(self._cgroup) - self._before


def oom_kill_count(cgroup: Path | None) -> int:
    """The kernel's own count: memory.events (cgroup v2) or memory.oom_control (v1); 0 where there is neither."""
    lines = [] if cgroup is None else [line for name in COUNT_FILES for line in _lines(cgroup / name)]
    counts = [line.partition(" ")[2] for line in lines if line.startswith("oom_kill ")]
    return int(counts[0]) if counts and counts[0].isdigit() else 0


def find_cgroup(proc_self_cgroup: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> Path | None:
    """The folder that counts this process's memory kills; None where there is none (macOS, the root group)."""
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

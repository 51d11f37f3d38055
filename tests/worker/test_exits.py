"""Why a trainer ended that did not say why. The texts are those of torch, numpy, CUDA, NCCL and Metal."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from receipt_layoutlm.run.directory import ORPHANED
from receipt_layoutlm.worker.process import LINE_CHARACTERS, OomCounter, classify_crash, find_cgroup, tail

# what was printed, one line each, inside a traceback
MEMORY = [
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 14.58 GiB",
    "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 14.76 GiB total capacity;",
    "torch.AcceleratorError: CUDA error: out of memory",
    "RuntimeError: CUDA driver error: out of memory",
    "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "RuntimeError: MPS backend out of memory (MPS allocated: 5.56 GB, other allocations: 1.10 GB, max allowed: 6 GB)",
    "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
    "to allocate 4000000000000000 bytes. Error code 12 (Cannot allocate memory)",
    "RuntimeError: [enforce fail at alloc_cpu.cpp:81] data. DefaultCPUAllocator: not enough memory: you tried to "
    "allocate 1981808640 bytes.",
    "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7.11 PiB for an array with shape (10,)",
    "OSError: [Errno 12] Cannot allocate memory",
    "MemoryError",
]
DEVICE = [
    "torch.AcceleratorError: CUDA error: device-side assert triggered",
    "RuntimeError: CUDA error: uncorrectable ECC error encountered",
    "RuntimeError: cuda runtime error (39) : uncorrectable ECC error encountered at THCCachingHostAllocator.cpp:265",
    "RuntimeError: CUDA error: an illegal memory access was encountered",
    "RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    "RuntimeError: CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb, m, n, k)`",
    "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1331, unhandled cuda error",
    "RuntimeError: NCCL Error 1: unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
    "ncclUnhandledCudaError: Call to CUDA function failed.",
    "RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment",
    "RuntimeError: No CUDA GPUs are available",
]
OTHER = [
    "ValueError: cannot reshape array of size 3 into shape (2,2)",
    "receipt_layoutlm.data.DataError: page 17 has no words",
    "KeyError: 'TOTAL'",
    "KeyboardInterrupt",
]


def traceback(line: str) -> str:
    return (
        f'Traceback (most recent call last):\n  File "train_step.py", line 61, in step\n    loss.backward()\n{line}\n'
    )


@pytest.mark.parametrize("line", MEMORY)
def test_memory_that_ran_out_is_seen_in_the_log(line: str) -> None:
    assert classify_crash(1, traceback(line), 0) == ("out_of_memory", line)


@pytest.mark.parametrize("line", DEVICE)
def test_a_failing_device_is_seen_in_the_log(line: str) -> None:
    assert classify_crash(1, traceback(line), 0) == ("device_error", line)


@pytest.mark.parametrize("line", OTHER)
def test_any_other_exception_is_named_with_the_exit_code(line: str) -> None:
    assert classify_crash(1, traceback(line), 0) == ("unknown", f"the trainer ended with exit code 1: {line}")


def test_the_explanations_below_a_cuda_error_hide_it_not() -> None:
    log = (
        traceback(DEVICE[0]) + "Search for `cudaErrorAssert' in the documentation.\nFor debugging consider passing 1\n"
    )

    assert classify_crash(1, log, 0) == ("device_error", DEVICE[0])


def test_a_warning_about_the_device_is_no_device_error() -> None:
    log = "UserWarning: CUDA initialization: CUDA unknown error - this may be due to a driver\n" + traceback(OTHER[0])

    assert classify_crash(1, log, 0)[0] == "unknown"


@pytest.mark.parametrize("code", [0, 2, 137])
def test_a_trainer_that_printed_nothing_is_told_by_its_exit_code(code: int) -> None:
    assert classify_crash(code, "", 0) == (
        "unknown",
        f"the trainer ended with exit code {code} without any error in its log",
    )


def test_an_endless_line_is_cut() -> None:
    assert len(classify_crash(1, "ValueError: " + "x" * 100_000, 0)[1]) < 1000


# signals


def test_a_kill_while_the_kernel_counted_one_is_memory_that_ran_out() -> None:
    cause, message = classify_crash(-signal.SIGKILL, "", 1)

    assert cause == "out_of_memory"
    assert "--batch-size" in message


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_any_other_kill_is_a_kill(number: signal.Signals) -> None:
    assert classify_crash(-number, "", 0) == ("killed", f"the trainer was ended by {number.name}")


def test_a_terminated_trainer_is_no_victim_of_the_kernel() -> None:
    assert classify_crash(-signal.SIGTERM, "", 1)[0] == "killed"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT])
@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("Fatal Python error: Segmentation fault", "killed"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "out_of_memory"),
        ("terminate called after throwing an instance of 'c10::AcceleratorError'", "device_error"),
        ("  what():  CUDA error: an illegal memory access was encountered", "device_error"),
        ("MPSNDArray.mm:794: failed assertion `[MPSNDArray, initWithBuffer:descriptor:] Error: small", "device_error"),
        ("-[_MTLCommandBuffer addCompletedHandler:]:1011: failed assertion `after commit call'", "device_error"),
        ("failed assertion _status < MTLCommandBufferStatusCommitted at line 323", "device_error"),
    ],
)
def test_a_crash_is_the_devices_or_memorys_only_when_the_log_says_so(
    number: signal.Signals, log: str, cause: str
) -> None:
    found, message = classify_crash(-number, log, 0)

    assert found == cause
    assert message.startswith(f"the trainer crashed: {number.name}")


def test_a_signal_without_a_name_has_a_number() -> None:
    assert classify_crash(-40, "", 0) == ("killed", "the trainer was ended by signal 40")


def test_a_trainer_whose_starter_went_away_was_killed() -> None:
    cause, message = classify_crash(ORPHANED, "stdin was closed: ending\n", 0)

    assert (cause, "stdin" in message) == ("killed", True)


@pytest.mark.engine
@pytest.mark.parametrize(
    ("program", "cause", "said"),
    [
        ("bytearray(10**18)", "out_of_memory", "MemoryError"),
        ("import os; os.abort()", "killed", "SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "killed", "SIGSEGV"),
        ("raise RuntimeError('no such layer')", "unknown", "RuntimeError: no such layer"),
    ],
)
def test_real_processes_are_told_apart(program: str, cause: str, said: str) -> None:
    ended = subprocess.run([sys.executable, "-X", "faulthandler", "-c", program], capture_output=True, text=True)

    found, message = classify_crash(ended.returncode, ended.stderr, 0)

    assert (found, said in message) == (cause, True)


# the kernel's count


def test_the_counter_counts_from_where_it_began(tmp_path: Path) -> None:
    events = tmp_path / "memory.events"
    events.write_text("low 0\nhigh 0\nmax 9\noom 7\noom_kill 5\noom_group_kill 0\n")
    counter = OomCounter(tmp_path)
    assert counter.kills() == 0

    events.write_text("low 0\nhigh 0\nmax 9\noom 9\noom_kill 6\noom_group_kill 0\n")

    assert counter.kills() == 1


def test_the_older_control_groups_are_read_too(tmp_path: Path) -> None:
    control = tmp_path / "memory.oom_control"
    control.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
    counter = OomCounter(tmp_path)

    control.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")

    assert counter.kills() == 2


@pytest.mark.parametrize("text", [None, "", "oom_kill\n", "oom_kill many\n", "nothing of the kind\n"])
def test_a_count_that_is_not_there_is_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "memory.events").write_text(text)

    assert OomCounter(tmp_path).kills() == 0
    assert OomCounter(None).kills() == 0


def make(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True)
    (folder / name).write_text("oom_kill 0\n")
    return folder


def test_the_group_of_a_service_is_found(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("0::/system.slice/worker.service\n")
    group = make(tmp_path / "root/system.slice/worker.service", "memory.events")

    assert find_cgroup(tmp_path / "cgroup", tmp_path / "root") == group


def test_the_group_of_an_older_kernel_is_found_among_its_controllers(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("8:pids:/a\n4:memory:/docker/abc\n1:cpu,cpuacct:/a\n0::/\n")
    group = make(tmp_path / "root/memory/docker/abc", "memory.oom_control")

    assert find_cgroup(tmp_path / "cgroup", tmp_path / "root") == group


def test_inside_a_container_the_group_is_the_top_of_what_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("0::/kubepods/pod1/abc\n")
    group = make(tmp_path / "root", "memory.events")

    assert find_cgroup(tmp_path / "cgroup", tmp_path / "root") == group


@pytest.mark.parametrize("text", [None, "", "0::/\n", "garbage\n", "4:memory:/gone\n"])
def test_without_a_group_there_is_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "cgroup").write_text(text)

    assert find_cgroup(tmp_path / "cgroup", tmp_path / "root") is None


def test_the_end_of_a_log_has_no_secret_and_no_endless_line(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text("first\n" + "x" * 10 * LINE_CHARACTERS + "\nBearer hush-hush-1\n")

    shown = tail(tmp_path / "train.log", ("hush-hush-1",), lines=2)

    assert shown.splitlines() == ["x" * LINE_CHARACTERS, "Bearer [secret]"]


@pytest.mark.parametrize("reason", ["No space left on device", "Disk quota exceeded", "File too large"])
def test_a_trainer_without_room_for_its_last_event_is_told_by_its_log(reason: str) -> None:
    line = f"storage: the disk of /work/1 is full ({reason}): free some of it, or use another --work-dir"
    assert classify_crash(1, f"warning: cannot store the encoded pages: {reason}\n{line}\n", 0) == ("storage", line)
    assert classify_crash(1, f"warning: cannot store the encoded pages: {reason}\nKeyError: 3\n", 0)[0] == "unknown"

"""Starts, recognises and stops the server processes behind --local, which outlive the command that starts them."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from receipt_layoutlm.paths import private

LOOPBACK = "127.0.0.1"
GRPC_OFFSET = 10_000  # SeaweedFS listens for its own gRPC calls on each port plus this
PF_EXITING = 0x4  # include/linux/sched.h
EXEC_SECONDS = 5.0
PROBE_SECONDS = 2.0
STOP_SECONDS = 15.0  # SeaweedFS takes 2 s to end


def free_ports(count: int) -> tuple[int, ...]:
    """Distinct ports that are free now, with their gRPC twins."""
    with contextlib.ExitStack() as stack:  # all are held until the end, so that none comes twice
        ports: list[int] = []
        while len(ports) < count:
            twin = stack.enter_context(socket.socket())
            twin.bind((LOOPBACK, 0))
            port = twin.getsockname()[1] - GRPC_OFFSET  # the kernel gives 32768 and above
            if _hold(stack, port):
                ports.append(port)
        return tuple(ports)


def are_free(ports: Sequence[int]) -> bool:
    """Whether all of these ports and their gRPC twins are free."""
    with contextlib.ExitStack() as stack:
        return all(_hold(stack, number) for port in ports for number in (port, port + GRPC_OFFSET))


def _hold(stack: contextlib.ExitStack, port: int) -> bool:
    holder = stack.enter_context(socket.socket())
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: ignores TIME_WAIT
    try:
        holder.bind((LOOPBACK, port))
    except OSError:
        return False
    return True


def start_process(command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> int:
    """Start a program in a session of its own, with its output appended to `log`; returns its pid.

    Its environment is only PATH and `environment`: the user's AWS settings and HOME would affect the engines. What it
    writes is its user's alone.
    """
    with open(log, "ab", opener=private) as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={"PATH": os.defpath, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
        )
    # Linux shows an empty command line for a moment, which looks like a dead process
    wait_until(lambda: is_running(process.pid, command) or process.poll() is not None, EXEC_SECONDS)
    return process.pid


def is_running(pid: int, command: Sequence[str]) -> bool:
    """Whether `pid` is a live process with exactly this command line; pids are reused, so the number proves little.

    A process that is exiting counts as live for as long as it holds its ports and files.
    """
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.ZombieProcess:
        words = []
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    return words == list(command) or (not words and _is_exiting(pid))


def _is_exiting(pid: int) -> bool:
    """Whether a Linux process has lost its memory, and with it its command line, but not yet its last thread.

    psutil does not have the kernel's flags, and kernel threads have no command line either.
    """
    try:
        # proc(5): after the name in parentheses, field 3 is the state, 9 the kernel's flags, 20 the count of threads
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    state, flags, threads = fields[0], int(fields[6]), int(fields[17])
    return bool(flags & PF_EXITING) and (state not in "ZX" or threads > 1)


def answers(port: int, path: str, signature: str) -> bool:
    """Whether the server on the port has this signature in its Server header or its response, whatever the status."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(4096).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return signature in (response.getheader("Server") or "") + body


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll every 20 ms until the condition holds; returns whether it did before the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def stop_process(pid: int, command: Sequence[str]) -> None:
    """SIGTERM, then SIGKILL. A pid that belongs to another process by now is left alone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not is_running(pid, command):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if wait_until(lambda: not is_running(pid, command), STOP_SECONDS):
            return


def last_lines(log: Path, count: int = 8) -> str:
    """The end of a log, indented for an error text; empty without one."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8192))
            lines = file.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return ""
    return "".join(f"\n  {line}" for line in lines)

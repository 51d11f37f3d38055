"""Trainers forked from one process that has imported torch and transformers, instead of 4 CPU seconds of imports each.

`ForkingPopen` stands for `subprocess.Popen`: `python -m receipt_layoutlm.training …` is forked, anything else starts
as usual (`env python -m …` is a cold start). A forked trainer is a child of the caller like any other, with its own
pid, session, wait status, signals and streams: the process between it and the server ends at once, and Linux gives the
orphan to the nearest ancestor that asked for orphans. The server ends when its caller does.
"""

import ctypes
import functools
import inspect
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TRAINER = [sys.executable, "-m", "receipt_layoutlm.training"]
NAME = "forked-trainer"  # in /proc/PID/comm
SET_CHILD_SUBREAPER = 36  # of prctl(2)
MESSAGE_BYTES = 1 << 17


class ForkingPopen(subprocess.Popen):  # type: ignore[type-arg]
    """A Popen that forks trainers."""

    def _execute_child(self, *given: Any) -> None:
        start = super()._execute_child  # type: ignore[misc]
        named = dict(zip(inspect.signature(start).parameters, given, strict=True))
        if not is_trainer(named["args"]):
            return start(*given)
        streams = [named[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        request = {
            "arguments": named["args"][len(TRAINER) :],
            "environment": dict(os.environ if named["env"] is None else named["env"]),
            "folder": str(named["cwd"] or Path.cwd()),
            "new_session": named["start_new_session"],
        }
        self.pid = _server().fork(request, [own if fd == -1 else fd for own, fd in enumerate(streams)])
        self._child_created = True
        pipes = (named[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"))
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]
        return None


def is_trainer(command: object) -> bool:
    """Whether a command starts a trainer in the plain way, on a system that can give a fork to its grandparent."""
    return sys.platform == "linux" and isinstance(command, Sequence) and list(command[: len(TRAINER)]) == TRAINER


class _Server:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", __name__, str(other.fileno())]
        self._process = subprocess.Popen(command, cwd=ROOT, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL)
        other.close()

    def fork(self, request: dict[str, Any], streams: Sequence[int]) -> int:
        """The pid of a trainer with these streams, which is a child of this process."""
        with self._lock:
            adopt_orphans(True)
            try:
                socket.send_fds(self._connection, [json.dumps(request).encode()], list(streams))
                return int(self._connection.recv(MESSAGE_BYTES))
            finally:
                adopt_orphans(False)


_server = functools.cache(_Server)


def adopt_orphans(flag: bool) -> None:
    ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, int(flag), 0, 0, 0)


def serve(connection: socket.socket) -> dict[str, Any] | None:
    """Fork for each request. Returns the request in the trainer, and None in the server when its caller has ended."""
    while True:
        message, streams, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, 3)
        if not message:
            return None
        request: dict[str, Any] = json.loads(message)
        reading, writing = os.pipe()
        if (between := os.fork()) == 0:
            if os.fork() != 0:
                os._exit(0)
            connection.close()
            become_trainer(request, streams)
            os.write(writing, str(os.getpid()).encode())
            os.close(reading)
            os.close(writing)
            return request
        os.waitpid(between, 0)
        connection.send(os.read(reading, 16))
        for fd in (reading, writing, *streams):
            os.close(fd)


def become_trainer(request: dict[str, Any], streams: list[int]) -> None:
    """Take on what the start of a process would have set."""
    if request["new_session"]:
        os.setsid()
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
        os.close(fd)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    Path("/proc/self/comm").write_text(NAME)


def main(connection: socket.socket) -> int:
    import gc

    import transformers.models.auto.modeling_auto
    import transformers.models.bert.tokenization_bert
    import transformers.models.layoutlm.modeling_layoutlm  # noqa: F401

    import receipt_layoutlm.training.distributed
    import receipt_layoutlm.training.loop
    import receipt_layoutlm.training.tasks.word_labels  # noqa: F401
    from receipt_layoutlm.training.__main__ import run_trainer as train

    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page
    request = serve(connection)
    return 0 if request is None else train(request["arguments"])


if __name__ == "__main__":
    sys.exit(main(socket.socket(fileno=int(sys.argv[1]))))

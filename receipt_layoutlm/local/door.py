"""The door of a server that checks no keys: a process that passes on requests signed with the keys of the state folder.

`python -m receipt_layoutlm.local.door PORT KEYS PROGRAM ...` listens on loopback and starts the program, whose
arguments have PORT in place of its own port, in a network of its own, which no other process reaches. Where the kernel
refuses that (`isolation_problem`), the program listens on a port of loopback that other users can reach.
"""

import contextlib
import ctypes
import fcntl
import hmac
import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"
MODULE = "receipt_layoutlm.local.door"
PROBE = "--probe"
PLACE = "{port}"  # of the program's own port in its arguments
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # include/uapi/linux/sched.h
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1  # include/uapi/linux/sockios.h, if.h
PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
CLOCK_SECONDS = 15 * 60  # as AWS: a signature of another time is refused
START_SECONDS = 30.0
MOST_BYTES = 32 << 20  # DynamoDB takes 16 MB
REFUSAL = "sign with the keys of keys.json in the state folder, as DynamoClient.local() does"


def command(port: int, keys: Path, program: Sequence[str]) -> tuple[str, ...]:
    """Command that runs a program behind a door. PLACE in its arguments becomes its own port."""
    return (sys.executable, "-m", MODULE, str(port), str(keys), *program)


def isolation_problem() -> str | None:
    """Why this kernel gives a process no network of its own; None if it does."""
    done = subprocess.run([sys.executable, "-m", MODULE, PROBE], capture_output=True, text=True, cwd="/")
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it failed"])[-1]


def is_isolated(pid: int) -> bool:
    """Whether a process has a network of its own."""
    try:
        return Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    except OSError:
        return False


def isolate() -> None:
    """Move this process, which has one thread, into a network of its own. Sockets that are open stay where they are.

    Raises OSError.
    """
    user, group = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")  # files belong to whom they did
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


class Lock:
    """Whether a request is signed with the keys."""

    def __init__(self, access_key: str, secret_key: str) -> None:
        from botocore.credentials import Credentials  # here: who only starts a door does without

        self._access_key = access_key
        self._credentials = Credentials(access_key, secret_key)

    def opens(self, method: str, path: str, headers: Message, body: bytes) -> bool:
        """Signature Version 4, over the headers that it names; the body's digest is part of it."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        try:
            given = _parts(headers["Authorization"])
            access_key, day, region, service, _ = given["Credential"].split("/")
            stamp = headers["X-Amz-Date"]
            sent = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            names = given["SignedHeaders"].split(";")
            signed = {name: headers[name] for name in names}
            signature = given["Signature"]
        except (KeyError, ValueError, TypeError, AttributeError):
            return False
        if access_key != self._access_key or None in signed.values() or "host" not in names or day != stamp[:8]:
            return False
        if abs((datetime.now(UTC) - sent).total_seconds()) > CLOCK_SECONDS or "x-amz-date" not in names:
            return False
        request = AWSRequest(method, f"http://{headers['Host']}{path}", signed, body)
        request.context["timestamp"] = stamp
        auth = SigV4Auth(self._credentials, service, region)
        canonical = auth.canonical_request(request)
        return hmac.compare_digest(auth.signature(auth.string_to_sign(request, canonical), request), signature)


def _parts(authorization: str) -> dict[str, str]:
    kind, _, rest = authorization.partition(" ")
    if kind != "AWS4-HMAC-SHA256":
        raise ValueError(kind)
    return dict(part.strip().split("=", 1) for part in rest.split(",") if "=" in part)


class Door(ThreadingHTTPServer):
    """Listens for clients, and passes their requests on to a port."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, listener: socket.socket, lock: Lock, inner_port: int) -> None:
        super().__init__((LOOPBACK, 0), Passage, bind_and_activate=False)
        self.socket.close()
        self.socket, self.lock, self.inner_port = listener, lock, inner_port
        self.server_address = listener.getsockname()


class Passage(BaseHTTPRequestHandler):
    """One connection of a client, with one to the server behind the door."""

    protocol_version, server_version, sys_version = "HTTP/1.1", "Dynoxide-door", ""
    disable_nagle_algorithm = True
    wbufsize = -1  # a reply leaves in one piece
    server: Door
    _inner: http.client.HTTPConnection | None = None

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            self._refuse(413, "RequestEntityTooLarge")
            return
        body = self.rfile.read(int(length))
        if self.server.lock.opens("POST", self.path, self.headers, body):
            self._pass_on(body)
        else:
            self._refuse(403, "UnrecognizedClientException")

    def do_GET(self) -> None:
        self._refuse(403, "MissingAuthenticationTokenException")

    do_PUT = do_DELETE = do_HEAD = do_OPTIONS = do_PATCH = do_GET

    def _pass_on(self, body: bytes) -> None:
        kept = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "expect")}
        try:
            if self._inner is None:
                self._inner = http.client.HTTPConnection(LOOPBACK, self.server.inner_port)
            self._inner.request("POST", self.path, body, kept)
            reply = self._inner.getresponse()
            document = reply.read()
        except (OSError, http.client.HTTPException):
            self._inner = None
            self.close_connection = True  # a client sees a lost reply, and knows what to do
            return
        headers = {name: value for name, value in reply.getheaders() if name.lower() not in _OWN_HEADERS}
        self._answer(reply.status, headers, document)

    def _refuse(self, status: int, code: str) -> None:
        self.close_connection = True  # its body was not read
        document = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": REFUSAL})
        headers = {"Content-Type": "application/x-amz-json-1.0", "Connection": "close"}
        # by which clients tell an answer of AWS, which is final, from a gateway's, which they wait for
        headers["x-amzn-RequestId"] = uuid.uuid4().hex
        self._answer(status, headers, document.encode())

    def _answer(self, status: int, headers: dict[str, str], document: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(document)))
        self.end_headers()
        self.wfile.write(document)

    def finish(self) -> None:
        super().finish()
        if self._inner is not None:
            self._inner.close()

    def log_message(self, *_: Any) -> None:
        """Requests are not logged."""


_OWN_HEADERS = frozenset({"content-length", "connection", "server", "date", "transfer-encoding"})


def _start(program: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Killed with this process, however that ends."""
    libc = ctypes.CDLL(None)
    return subprocess.Popen(program, preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))


def _waits_for(port: int, program: "subprocess.Popen[bytes]") -> bool:
    """Whether the program listens, before it ends or START_SECONDS are over."""
    deadline = time.monotonic() + START_SECONDS
    while program.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 1):
            return True
        time.sleep(0.01)
    return False


def open_door(port: int, keys: Path, arguments: Sequence[str]) -> int:
    """Serve until the program behind the door ends; returns its exit status."""
    stored = json.loads(keys.read_bytes())
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((LOOPBACK, port))
    with contextlib.suppress(OSError):
        isolate()
    with socket.socket() as any_socket:
        any_socket.bind((LOOPBACK, 0))
        inner_port = any_socket.getsockname()[1]
    program = _start([each.replace(PLACE, str(inner_port)) for each in arguments])
    signal.signal(signal.SIGTERM, lambda *_: program.terminate())
    if _waits_for(inner_port, program):
        listener.listen(Door.request_queue_size)
        door = Door(listener, Lock(stored["access_key"], stored["secret_key"]), inner_port)
        threading.Thread(target=door.serve_forever, daemon=True).start()
    return program.wait()


if __name__ == "__main__":
    if sys.argv[1:] == [PROBE]:
        isolate()
        sys.exit()
    sys.exit(open_door(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))

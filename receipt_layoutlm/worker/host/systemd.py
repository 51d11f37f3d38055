"""Notifies systemd of readiness, liveness and status (sd_notify(3)).

These are datagrams to a socket, so no library is used: the existing ones wrap libsystemd or predate Python 3.
"""

import contextlib
import socket
import time
from collections.abc import Callable, MutableMapping

SOCKET_VARIABLE = "NOTIFY_SOCKET"
SECONDS_BETWEEN = 1.0  # of liveness: loops may come round more often


class Notifier:
    """Sends to a service manager, if there is an address. A message that cannot be sent is dropped.

    `alive` is called by the loops of the main thread, never by a thread of its own: a hanging worker must fall silent.
    """

    def __init__(self, address: str | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._address: str | None = None
        if address and address[0] in "@/":  # other kinds, such as vsock, are ignored
            self._address = "\0" + address[1:] if address[0] == "@" else address  # @ marks an abstract address
        self._monotonic = monotonic
        self._sent_at = float("-inf")

    def ready(self) -> None:
        """The worker is about to claim for the first time."""
        self._sent_at = self._monotonic()
        self._send("READY=1", "WATCHDOG=1")

    def alive(self) -> None:
        """A loop has come round."""
        now = self._monotonic()
        if now - self._sent_at >= SECONDS_BETWEEN:
            self._sent_at = now
            self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send("STATUS=" + text.replace("\n", " "))

    def stopping(self) -> None:
        """The worker takes no more jobs and is about to end."""
        self._send("STOPPING=1")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)  # a manager that does not read must not delay the work
            sender.sendto("\n".join(lines).encode(), self._address)


SILENT = Notifier()


def take_notifier(environ: MutableMapping[str, str]) -> Notifier:
    """Notifier for the environment's socket. Removes the variable: a trainer must not notify for its worker."""
    return Notifier(environ.pop(SOCKET_VARIABLE, None))

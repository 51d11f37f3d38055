"""Tells systemd that a worker is ready, that its loops still come round, and what it does (sd_notify(3)).

Nothing but datagrams to a socket, so no library: the ones there are either wrap libsystemd or are older than Python 3.
"""

import contextlib
import socket
import time
from collections.abc import Callable, MutableMapping

SOCKET_VARIABLE = "NOTIFY_SOCKET"
SECONDS_BETWEEN = 1.0  # loops may come round more often than anybody needs to hear


def _bindable(address: str | None) -> str | None:
    """An address that begins with @ is abstract: its first byte is 0. No other kind than these two is a socket here."""
    if not address or address[0] not in "@/":
        return None
    return "\0" + address[1:] if address[0] == "@" else address


class Notifier:
    """Speaks to a service manager; without an address to nobody. What cannot be said is not said: work goes on.

    `alive` is called by the loops of the main thread, never by a thread of its own: a worker that hangs has to fall
    silent.
    """

    def __init__(self, address: str | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._address = _bindable(address)
        self._monotonic = monotonic
        self._said_at = float("-inf")

    def ready(self) -> None:
        """The worker is about to claim for the first time."""
        self._said_at = self._monotonic()
        self._send("READY=1", "WATCHDOG=1")

    def alive(self) -> None:
        """A loop has come round."""
        now = self._monotonic()
        if now - self._said_at >= SECONDS_BETWEEN:
            self._said_at = now
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
            sender.setblocking(False)  # a manager that does not read must not hold up the work
            sender.sendto("\n".join(lines).encode(), self._address)


SILENT = Notifier()


def take_notifier(environ: MutableMapping[str, str]) -> Notifier:
    """The manager that the environment names. The name is taken out of it: a trainer must not speak for its worker."""
    return Notifier(environ.pop(SOCKET_VARIABLE, None))

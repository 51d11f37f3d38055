"""Connections that belong to one process, and the check that a reply answers its request.

A forked process that uses its parent's connection reads the replies to its parent's and its siblings' requests.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

from receipt_dynamo.errors import WrongReply
from receipt_dynamo.items import RawItem

C = TypeVar("C")


class _PerProcess:
    """Stands for a botocore client; in a forked process, for one that `connect` opens there."""

    def __init__(self, connect: Callable[[], object]) -> None:
        self._connect = connect
        self._client, self._pid = connect(), os.getpid()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copy and pickle ask an object without attributes
            raise AttributeError(name)
        if self._pid != os.getpid():
            # no lock: a thread of the parent may have held it. Two threads at once open two, and one of them stays
            self._client, self._pid = self._connect(), os.getpid()
        return getattr(self._client, name)


def per_process(connect: Callable[[], C]) -> C:
    """The client that `connect` opens, now and again in each process that is forked from this one.

    Whatever holds the client is thereby safe to use after a fork.
    """
    return cast(C, _PerProcess(connect))


def check_row(raw: RawItem, key: RawItem) -> None:
    """Raise WrongReply unless the row has these key attributes, as far as it has them at all."""
    for name, value in key.items():
        if name in raw and raw[name] != value:
            raise WrongReply(
                f"asked for {_text(key)}, got {_text({each: raw.get(each, {}) for each in key})}: the connection is "
                "shared with another process; open a DynamoClient in each"
            )


def _text(key: RawItem) -> str:
    return " / ".join(str(next(iter(value.values()), "nothing")) for value in key.values())

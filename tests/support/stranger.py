"""Another user of this machine: a forked process that has given up its rights. Only root can play one."""

import os
from collections.abc import Callable

import pytest

from receipt_layoutlm.errors import UserError

STRANGER = 12345

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


def as_stranger(act: Callable[[], object]) -> str:
    """The text of the result of `act`, or of its error, in a process of another user."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        text = "it broke"
        try:
            os.setgroups([])
            os.setgid(STRANGER)
            os.setuid(STRANGER)
            text = str(act())
        except (OSError, UserError) as error:
            text = f"{type(error).__name__}: {error}"
        finally:
            os.write(writer, text.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as result:
        text = result.read()
    os.waitpid(child, 0)
    return text

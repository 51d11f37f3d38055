"""A worker stops on a signal even when nobody reads its stderr any more."""

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.engine

WORKER = """
import os, signal, sys
from receipt_layoutlm.cli.run_here import {handler}
asked = {handler}()
os.read(0, 1)
os.kill(os.getpid(), signal.{signal})
os.write(1, b"asked" if asked.wait(10) else b"ignored")
os._exit(0)
"""


@pytest.mark.parametrize(
    ("handler", "number"),
    [("stop_on_signal", "SIGINT"), ("stop_on_signal", "SIGTERM"), ("stop_on_signal", "SIGHUP"),
     ("drain_on_signal", "SIGUSR1")],
)  # fmt: skip
def test_a_broken_stderr_swallows_no_signal(handler: str, number: str) -> None:
    assert hasattr(signal, number)
    reader, writer = os.pipe()
    source = WORKER.format(handler=handler, signal=number)
    with subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=writer
    ) as process:
        os.close(writer)
        os.close(reader)  # as when the other end of a pipe is gone
        said, _ = process.communicate(b"x")
    assert said == b"asked"

"""The trainer as a process: `python -m receipt_layoutlm.training RUN_DIR [UNTIL_STEP]`. The loop is in loop.py.

SIGTERM, SIGINT: write a checkpoint and end. SIGUSR1: write a checkpoint and continue. SIGABRT: print the stack of
every thread and abort. torch is imported after the handlers are installed: that takes seconds, and a SIGTERM in that
time has to end the run in order too.
"""

import faulthandler
import os
import signal
import sys
import threading
import time
from pathlib import Path

from receipt_layoutlm.run.directory import FULL_DISK, ORPHANED, RunDir, full_disk
from receipt_layoutlm.training.launch import announce, processes_of, run_processes

USAGE = (
    "usage: python -m receipt_layoutlm.training RUN_DIR [UNTIL_STEP]\n"
    "RUN_DIR is a folder with config.json and dataset.jsonl.gz, as `layoutlm-cli worker run` makes it for a job"
)


def run_trainer(arguments: list[str]) -> int:
    """Train in the given run directory.

    Returns 0 when the run finished (stopped on request included), 1 when it failed, 2 for a usage error.
    """
    began = time.monotonic()
    if not 1 <= len(arguments) <= 2 or not all(argument.isdecimal() for argument in arguments[1:]):
        print(USAGE, file=sys.stderr)
        return 2
    faulthandler.enable()
    run_dir, until = RunDir(Path(arguments[0])), int(arguments[1]) if len(arguments) > 1 else None
    if (processes := processes_of(run_dir, os.environ)) > 1:
        return run_processes(run_dir, arguments, processes, os.environ)
    stop, save = threading.Event(), threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: save.set())
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    if os.environ.get("RANK") == "0":
        announce(run_dir)

    from transformers.utils import logging

    from receipt_layoutlm.run.events import Finished
    from receipt_layoutlm.training.distributed import process_group
    from receipt_layoutlm.training.loop import train

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # its load report lists every weight that --layers leaves out

    def save_now() -> bool:
        is_requested = save.is_set()
        save.clear()
        return is_requested

    try:
        with process_group(os.environ) as group:
            end = train(run_dir, stop.is_set, save_now=save_now, until=until, began=began, group=group)
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        print(f"storage: {full_disk(run_dir.path, error)}", file=sys.stderr)  # the last event may have no room either
        return 1
    return 0 if isinstance(end, Finished) else 1


def _end_with_stdin() -> None:
    # os.read, not sys.stdin, whose lock this thread would hold when the interpreter ends
    while os.read(0, 4096):
        continue
    os.write(2, b"stdin was closed: ending\n")
    os._exit(ORPHANED)


if __name__ == "__main__":
    sys.exit(run_trainer(sys.argv[1:]))

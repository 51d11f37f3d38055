"""The files behind `layoutlm-cli train`, from the flag to the first metric row, as one real run goes through them.

    python scripts/path_files.py [CHECKOUT] [--lists] [--json]

One `layoutlm-cli --local train --run-here` runs on generated receipts with a profile function in every process. The
path begins with the command and ends when the table acknowledges a write that holds a METRIC# key; in the trainer it
ends at the time that the first evaluation event states. Three counts, each smaller than the one before:

entered    files of the two packages in which a function is entered on the path
passed     of these, files from which a call leads on into another file of the packages
leading    of these, files from which calls lead, through files of the packages, to the write of the metric row, or in
           the trainer to a write to events.jsonl

Counted are the main thread of each process and the thread that stores the row; calls made while a module is imported do
not count. Dataset and engines are made before, unprofiled.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

PACKAGES = ("receipt_dynamo", "receipt_layoutlm")
CHECKOUT, FOLDER = "PATH_FILES_CHECKOUT", "PATH_FILES_FOLDER"
SITE = """import sys
sys.path.append({scripts!r})
import path_files
sys.path.remove({scripts!r})
path_files.record_this_process()
"""
MODEL = ("--pretrained", "minilm", "--layers", "1", "--max-length", "128")
RUN = ("--device", "cpu", "--epochs", "1", "--batch-size", "4")


@dataclass(frozen=True)
class Step:
    """A call from one file into another, or into the outside when `callee` is "row" or "events"."""

    time: float
    thread: int
    is_main: bool
    caller: str  # empty at the bottom of a thread
    callee: str


def record_this_process() -> None:
    """Write each new step into a file of this process."""
    recorder = Recorder(Path(os.environ[CHECKOUT]), Path(os.environ[FOLDER]) / str(os.getpid()))
    threading.setprofile(recorder)
    sys.setprofile(recorder)


class Recorder:
    """A profile function that notes the first call between each two files, by thread."""

    def __init__(self, checkout: Path, target: Path) -> None:
        self._checkout = f"{checkout}{os.sep}"
        self._prefixes = tuple(f"{checkout / package}{os.sep}" for package in PACKAGES)
        self._target = target.open("a", buffering=1)
        self._noted: set[tuple[int, str, str]] = set()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(self._prefixes):
            self._note(frame.f_back, code.co_filename, frame)
        elif event == "c_call" and argument.__name__ == "write" and is_events_file(argument):
            self._note(frame, "events", frame)
        elif event == "return" and code.co_name == "send" and code.co_filename.endswith("botocore/httpsession.py"):
            self._note_stored(frame, argument)

    def _note_stored(self, frame: FrameType, response: Any) -> None:
        if getattr(response, "status_code", None) == 200 and is_metric_write(frame.f_locals["request"]):
            self._note(frame, "row", frame)

    def _note(self, caller: FrameType | None, callee: str, frame: FrameType) -> None:
        while caller is not None and not caller.f_code.co_filename.startswith(self._prefixes):
            caller = caller.f_back
        name = "" if caller is None else caller.f_code.co_filename
        key = threading.get_ident(), name, callee
        if name == callee or key in self._noted or is_importing(frame, self._prefixes):
            return
        self._noted.add(key)
        is_main = threading.current_thread() is threading.main_thread()
        places = [each.removeprefix(self._checkout) for each in (name, callee)]
        self._target.write(json.dumps([time.time(), key[0], is_main, *places]) + "\n")


def is_importing(frame: FrameType | None, prefixes: tuple[str, ...]) -> bool:
    """Whether a module of the packages is being imported further up the stack; `__main__` is no import."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == "<module>" and code.co_filename.startswith(prefixes):
            return str(frame.f_globals["__name__"]) != "__main__"
        frame = frame.f_back
    return False


def is_events_file(method: Any) -> bool:
    name = getattr(getattr(method, "__self__", None), "name", "")
    return str(name).endswith("events.jsonl")


def is_metric_write(request: Any) -> bool:
    action = str(request.headers.get("X-Amz-Target", ""))
    is_write = "Write" in action or "PutItem" in action
    return is_write and isinstance(request.body, bytes) and b'"METRIC#' in request.body


@dataclass(frozen=True)
class Part:
    """The steps of one process, up to where its part of the path ends."""

    steps: list[Step]
    end: str

    @property
    def entered(self) -> set[str]:
        return {step.callee for step in self.steps} - {"row", "events"}

    @property
    def passed(self) -> set[str]:
        return {step.caller for step in self.steps} & self.entered

    @property
    def leading(self) -> set[str]:
        found, grows = {self.end}, True
        while grows:
            new = {step.caller for step in self.steps if step.callee in found} - found
            found, grows = found | new, bool(new)
        return found & self.passed


def run_once(checkout: Path, python: Path, folder: Path) -> tuple[Part, Part]:
    """The parts of the command's process and of the trainer's."""
    cli, environment = [str(python), "-m", "receipt_layoutlm.cli", "--local"], quiet_environment(folder)
    train = ["train", *MODEL, *RUN, "--work-dir", str(folder / "work"), "--run-here"]
    try:
        for words in (["dataset", "import", "sample", "--pages", "12"], ["local", "up"]):
            subprocess.run([*cli, *words], cwd=checkout, env=environment, stdout=2, check=True)
        subprocess.run([*cli, *train], cwd=checkout, env=profiled(environment, checkout, folder), stdout=2, check=True)
    finally:
        subprocess.run([*cli, "local", "down"], cwd=checkout, env=environment, stdout=2, check=True)
    return parts_of(folder / "steps", first_evaluation(folder / "work"))


def quiet_environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "LAYOUTLM_STATE_DIR": str(folder / "state"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def profiled(environment: dict[str, str], checkout: Path, folder: Path) -> dict[str, str]:
    """The same with a sitecustomize module, which every Python process imports at its start."""
    site, steps = folder / "site", folder / "steps"
    site.mkdir()
    steps.mkdir()
    (site / "sitecustomize.py").write_text(SITE.format(scripts=str(Path(__file__).parent.resolve())))
    return {**environment, "PYTHONPATH": str(site), CHECKOUT: str(checkout), FOLDER: str(steps)}


def first_evaluation(work_dir: Path) -> float:
    (events,) = work_dir.glob(".attempts/*/*/events.jsonl")
    found = (json.loads(line) for line in events.read_text().splitlines())
    return next(datetime.fromisoformat(each["time"]).timestamp() for each in found if each["kind"] == "evaluation")


def parts_of(folder: Path, evaluated_at: float) -> tuple[Part, Part]:
    processes = [
        steps
        for path in folder.iterdir()
        if (steps := [Step(*json.loads(line)) for line in path.read_text().splitlines()])
    ]
    command = next(steps for steps in processes if any(step.callee == "row" for step in steps))
    trainer = next(steps for steps in processes if any(step.callee == "events" for step in steps))
    stored = next(step for step in command if step.callee == "row")
    counted = (step for step in command if step.is_main or step.thread == stored.thread)
    return (
        Part([step for step in counted if step.time <= stored.time], "row"),
        Part([step for step in trainer if step.is_main and step.time < evaluated_at], "events"),
    )


def listed(title: str, files: Iterable[str]) -> str:
    return "\n".join([f"\n{title}:", *(f"  {name}" for name in sorted(files))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", nargs="?", type=Path, default=Path(__file__).parents[1], help="default: this one")
    parser.add_argument("--python", type=Path, help="interpreter (default: the checkout's .venv/bin/python)")
    parser.add_argument("--lists", action="store_true", help="also list the files")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    checkout = arguments.checkout.resolve()
    with tempfile.TemporaryDirectory() as folder:
        parts = run_once(checkout, arguments.python or checkout / ".venv/bin/python", Path(folder).resolve())
    counts = {
        "entered": [part.entered for part in parts],
        "passed": [part.passed for part in parts],
        "leading": [part.leading for part in parts],
    }
    if arguments.json:
        print(json.dumps({name: sorted(set().union(*sets)) for name, sets in counts.items()}, indent=1))
        return
    print("| files | command | trainer | together |\n" + "|---" * 4 + "|")
    for name, sets in counts.items():
        print(f"| {name} | {len(sets[0])} | {len(sets[1])} | {len(set().union(*sets))} |")
    if arguments.lists:
        entered, passed, leading = (set().union(*sets) for sets in counts.values())
        print(listed("leading", leading), listed("passed only", passed - leading), sep="\n")
        print(listed("entered only", entered - passed))


if __name__ == "__main__":
    main()

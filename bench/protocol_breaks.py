"""Breaks each safety rule of the protocol on purpose and counts the schedules in which the model notices.

    python bench/protocol_breaks.py [--schedules 1000] [--seed 1] [--engine]

Prints a table and writes it to docs/protocol-breaks.md. Needs the dev extra, with --engine the local one too: the
schedules run on the local engine instead of in memory, where each takes four times as long.
"""

import argparse
import contextlib
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3

from receipt_layoutlm.local import process as local_process
from receipt_layoutlm.local.engines import ACCESS_KEY, DYNOXIDE, SECRET_KEY, platform_key, programs_dir

if TYPE_CHECKING:
    from tests.receipt_dynamo.protocol_model import Laboratory

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "protocol-breaks.md"
START_SECONDS = 30.0
INTRODUCTION = """# Breaking the protocol on purpose

    python bench/protocol_breaks.py --schedules {schedules} --seed {seed}{option}

Each rule of docs/protocol.md that keeps jobs safe was broken in the code, one at a time, and the model of
`tests/receipt_dynamo/protocol_model.py` ran {schedules} schedules {where}. The table shows in how many of them the
rules of `protocol_rules.py` noticed, which schedule was the first, and the violated rule. Unbroken, none does. The
breaks are in `protocol_breaks.py`; those of the recorder and of the resume point are made in the model's worker,
because these two rules live there. The suite runs each break until it is noticed first.

"""


@contextlib.contextmanager
def engine() -> Iterator[str]:
    """Address of a DynamoDB in memory."""
    (port,) = local_process.free_ports(1)
    command = [*DYNOXIDE.find(platform_key(), programs_dir())[0], "serve", "-p", str(port)]
    with tempfile.TemporaryDirectory() as folder:
        environment = DYNOXIDE.environment((port,), Path(folder))
        pid = local_process.start_process(command, environment, Path(folder), Path(folder) / "engine.log")
        try:
            local_process.wait_until(
                lambda: local_process.answers(port, DYNOXIDE.health_path, DYNOXIDE.signature), START_SECONDS
            )
            yield f"http://{local_process.LOOPBACK}:{port}"
        finally:
            local_process.stop_process(pid, command)


def measured(opened: "Laboratory", schedules: int, seed: int) -> Iterator[str]:
    """The lines of the table, each when it is known."""
    from tests.receipt_dynamo.protocol_breaks import BREAKS, catches
    from tests.receipt_dynamo.protocol_model import broken_among

    yield "| broken | how | noticed in | first | what was noticed |"
    yield "|---|---|---|---|---|"
    for rule, how, broken in [
        ("nothing", "the code as it is", broken_among(opened, schedules, seed)),
        *((each.rule, each.how, catches(opened, each, schedules, seed)) for each in BREAKS),
    ]:
        began = time.process_time()
        found = list(broken)
        first = found[0][0] if found else "-"
        said = Counter(text.partition(":")[0] for _, text in found)
        words = "; ".join(f"{text} ({count})" for text, count in said.most_common(3)) or "-"
        yield f"| {rule} | {how} | {len(found)} of {schedules} | {first} | {words} |"
        took = time.process_time() - began
        print(f"{rule}: {took / schedules * 1000:.0f} ms of CPU time a schedule", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", action="store_true")
    given = parser.parse_args()
    os.environ.update(AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY, AWS_DEFAULT_REGION="us-east-1")
    sys.path.insert(0, str(ROOT))
    logging.disable(logging.CRITICAL)  # of the scaler, whose requests the schedules let fail
    from tests.receipt_dynamo.protocol_model import in_memory, on_engine

    lines = []
    with contextlib.ExitStack() as stack:
        opened = in_memory()
        if given.engine:
            endpoint = stack.enter_context(engine())
            opened = stack.enter_context(on_engine(endpoint, boto3.client("dynamodb", endpoint_url=endpoint)))
        for line in measured(opened, given.schedules, given.seed):
            print(line, flush=True)
            lines.append(line)
    where, option = ("on the real local engine", " --engine") if given.engine else ("in memory", "")
    introduction = INTRODUCTION.format(schedules=given.schedules, seed=given.seed, where=where, option=option)
    DOCUMENT.write_text(introduction + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

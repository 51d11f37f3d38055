"""Breaks each safety rule of the protocol on purpose and counts the schedules in which the state machine notices.

    python bench/protocol_breaks.py [--schedules 1000] [--seed 1]

Prints a table and writes it to docs/protocol-breaks.md. Needs the dev and local extras; each rule takes minutes.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3

from receipt_layoutlm.local import process as local_process
from receipt_layoutlm.local.engines import ACCESS_KEY, DYNOXIDE, SECRET_KEY, platform_key, programs_dir

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "protocol-breaks.md"
START_SECONDS = 30.0
INTRODUCTION = """# Breaking the protocol on purpose

    python bench/protocol_breaks.py --schedules {schedules} --seed {seed}

Each rule of docs/protocol.md that keeps jobs safe was broken in the code, one at a time, and the state machine of
`tests/receipt_dynamo/protocol_model.py` ran {schedules} schedules on the real local engine. The table shows in how many
of them the rules of `protocol_rules.py` noticed, which schedule was the first, and the violated rule. Unbroken, none
does. The breaks are in `protocol_breaks.py`; those of the recorder and of the resume point are made in the model's
worker, because these two rules live there. The suite runs each break for its first schedules only.

"""


@contextmanager
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


def measured(schedules: int, seed: int) -> Iterator[str]:
    """The lines of the table, each when it is known."""
    sys.path.insert(0, str(ROOT))
    from tests.receipt_dynamo.protocol_breaks import BREAKS, catches
    from tests.receipt_dynamo.protocol_model import counted, laboratory

    yield "| broken | how | noticed in | first | what was noticed |"
    yield "|---|---|---|---|---|"
    with engine() as endpoint, laboratory(endpoint, boto3.client("dynamodb", endpoint_url=endpoint)) as opened:
        began = time.perf_counter()
        for rule, how, run in [
            ("nothing", "the code as it is", lambda: counted(opened, schedules, seed)),
            *((each.rule, each.how, lambda each=each: catches(opened, each, schedules, seed)) for each in BREAKS),
        ]:
            found = run()
            first = found[0][0] if found else "-"
            said = Counter(text.partition(":")[0] for _, text in found)
            words = "; ".join(f"{text} ({count})" for text, count in said.most_common(3)) or "-"
            yield f"| {rule} | {how} | {len(found)} of {opened.count} | {first} | {words} |"
            took = time.perf_counter() - began
            print(f"{rule}: {took / opened.count * 1000:.0f} ms a schedule", file=sys.stderr, flush=True)
            began = time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    os.environ.update(AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY, AWS_DEFAULT_REGION="us-east-1")
    lines = []
    for line in measured(given.schedules, given.seed):
        print(line, flush=True)
        lines.append(line)
    DOCUMENT.write_text(INTRODUCTION.format(schedules=given.schedules, seed=given.seed) + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

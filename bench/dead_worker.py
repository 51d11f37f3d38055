"""How long a job stays with a worker that was killed, with the protocol's default timing.

    python bench/dead_worker.py

Two real worker processes on the embedded AWS, in a folder of their own. The one that trains is killed with SIGKILL
right after it renewed its lease; the other one is idle and has nothing but its defaults (lease 90 s, grace 30 s, a look
for dead workers every 20 s between looks for work every 5 s). Measured from the last renewal that is stored
(expires_at - 90 s) to the moments that the table shows: the attempt's end by the rescue, and the next claim. The
trainer of the killed worker is watched too: it has to end by itself. Takes three minutes of waiting.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

from receipt_dynamo import Attempt, DynamoClient, Timing
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.local import aws as local_aws
from receipt_layoutlm.worker.host.registry import process_start
from tests.support.tiny import tiny_layoutlm

CLI = [sys.executable, "-m", "receipt_layoutlm.cli", "--local"]
LONGEST_SECONDS = 150.0  # what the default timing promises
PAGES = 12
LEASE = timedelta(seconds=Timing().lease_seconds)


def wait_for(what: str, is_so: Callable[[], bool], seconds: float, every: float = 0.1) -> float:
    """When it was seen, by time.monotonic."""
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            raise SystemExit(f"after {seconds:.0f} s still not: {what}")
        time.sleep(every)
    return time.monotonic()


def submit(environment: dict[str, str], folder: Path) -> None:
    """A job that trains a tiny model for longer than this measurement takes."""
    model = tiny_layoutlm(folder / "tiny", generate_pages(PAGES, seed=0))
    train = ["train", "--dataset", "sample", "--pretrained", str(model), "--device", "cpu", "--batch-size", "4"]
    rhythm = ["--epochs", "1000000", "--eval-every", "2000", "--checkpoint-every", "10"]
    for words in (["dataset", "import", "sample", "--pages", str(PAGES)], [*train, *rhythm]):
        subprocess.run([*CLI, *words], env=environment, check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def worker(environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process with default settings; SIGTERM at the end of the block."""
    with log.open("wb") as output:
        words = [*CLI, "worker", "run", "--work-dir", str(log.parent / "work")]
        process = subprocess.Popen(words, env=environment, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def trainer_of(worker: subprocess.Popen[bytes]) -> int:
    found = subprocess.run(["pgrep", "-P", str(worker.pid)], capture_output=True, text=True, check=True)
    return int(found.stdout.split()[0])


def measured(environment: dict[str, str], client: DynamoClient, folder: Path) -> dict[str, float | str]:
    (job,) = client.list_jobs()

    def renewals() -> int:
        return client.get_lease(job.job_id).renewals

    def attempts() -> list[Attempt]:
        return client.list_attempts(job.job_id)

    with worker(environment, folder / "holder.log") as holder:
        wait_for("the job is held and trained", lambda: client.get_lease(job.job_id).checkpoint is not None, 120)
        with worker(environment, folder / "idle.log"):
            before = renewals()
            wait_for("two renewals", lambda: renewals() >= before + 2, 60, every=0.05)
            trainer = trainer_of(holder)
            holder.kill()
            killed = time.monotonic()
            lease = client.get_lease(job.job_id)
            trainer_gone = wait_for("the trainer ended by itself", lambda: process_start(trainer) is None, 60) - killed
            wait_for("the next claim", lambda: len(attempts()) > 1, 300, every=0.5)
            first, second = attempts()
    assert lease.expires_at is not None and first.ended_at is not None
    renewed_at = lease.expires_at - LEASE
    return {
        "last_renewal_to_rescue_seconds": (first.ended_at - renewed_at).total_seconds(),
        "last_renewal_to_next_claim_seconds": (second.started_at - renewed_at).total_seconds(),
        "trainer_outlived_its_worker_seconds": trainer_gone,
        "outcome": first.outcome or "",
        "resumed_at_step": second.resume_step,
        "load_average": os.getloadavg()[0],
    }


def one_run(folder: Path) -> dict[str, float | str]:
    state = folder / "state"
    environment = {**os.environ, "LAYOUTLM_STATE_DIR": str(state), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    state.mkdir()
    try:
        submit(environment, folder)
        endpoint = local_aws.up(state).dynamodb_endpoint
        os.environ.update(local_aws.environment(state, os.environ))
        return measured(environment, DynamoClient(local_aws.LOCAL_TABLE, endpoint_url=endpoint), folder)
    finally:
        local_aws.down(state)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1, help="repetitions, one after the other (default 1)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there too")
    options = parser.parse_args()
    rows = []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(one_run(Path(folder)))
    print("rescued after  claimed after  trainer gone after   (seconds; the first two from the last renewal)")
    for row in rows:
        print(
            f"{row['last_renewal_to_rescue_seconds']:13.1f}  {row['last_renewal_to_next_claim_seconds']:13.1f}  "
            f"{row['trainer_outlived_its_worker_seconds']:18.1f}   "
            f"{row['outcome']}, on from step {row['resumed_at_step']}, load {row['load_average']:.1f}"
        )
    print(f"promised: rescued at most {LONGEST_SECONDS:.0f} s after the last renewal")
    if options.json:
        options.json.write_text(json.dumps({"promised_seconds": LONGEST_SECONDS, "runs": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

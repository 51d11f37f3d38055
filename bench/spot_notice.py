"""Time from a spot notice to a committed checkpoint and a job that another worker can claim.

    python bench/spot_notice.py

A real worker with its spot watch (one poll every 5 s) and a real trainer run on the embedded AWS in a temporary folder,
with a fake of EC2's instance metadata. The model is a LayoutLM of 8.6 M random parameters, so that a checkpoint with
weights and optimizer takes about 100 MB; it trains on the CPU. The notice appears two minutes before the end and right
after a poll, which is the worst case. All rounds resume the same job. In the last round the notice comes too late for a
checkpoint: the worker relies on the last committed one, and the table shows how much training is lost. The time ends
when the transaction that makes the job `interrupted` is acknowledged.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from receipt_dynamo import DynamoClient, Job, JobQueue, JobStatus, Machine, Storage
from receipt_layoutlm.config_documents import to_document
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset, pinned
from receipt_layoutlm.local import aws as local_aws
from receipt_layoutlm.run.events import Checkpoint, Event, Progress
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.worker.admission import ANY_BUCKET, JobPolicy
from receipt_layoutlm.worker.context import Host, WorkerContext, WorkerIdentity
from receipt_layoutlm.worker.host.spot import InstanceMetadata, SpotWatch
from receipt_layoutlm.worker.worker import ClaimOptions, run_worker
from tests.support.imds import Imds, serve
from tests.support.tiny import SPECIAL

PROMISED_SECONDS = 20.0
NOTICE_SECONDS = 120.0  # as EC2 gives
LATE_NOTICE_SECONDS = 9.0  # seen 5 s later, when a checkpoint and its upload do not fit any more
TIMEOUT_SECONDS = 300.0
VOCABULARY = 30_522  # as LayoutLM's

Row = dict[str, float | str | None]


def model_of_100_mb(folder: Path, pages: list[Page]) -> Path:
    """Four layers of width 192 and LayoutLM's vocabulary size, most of it unused."""
    from transformers import BertTokenizerFast, LayoutLMConfig, LayoutLMForTokenClassification, logging

    logging.disable_progress_bar()
    words = sorted({word.lower() for page in pages for word in page.words})
    characters = sorted({character for word in words for character in word})
    known = dict.fromkeys([*SPECIAL, *characters, *(f"##{character}" for character in characters), *words])
    tokens = [*known, *(f"[unused{number}]" for number in range(VOCABULARY - len(known)))]
    config = LayoutLMConfig(
        vocab_size=VOCABULARY, hidden_size=192, num_hidden_layers=4, num_attention_heads=3, intermediate_size=768
    )
    BertTokenizerFast(vocab={token: number for number, token in enumerate(tokens)}).save_pretrained(folder)
    LayoutLMForTokenClassification(config).save_pretrained(folder)
    return folder


class RecordedEvents:
    """Events that the worker recorded of the current attempt, with the time when each was stored."""

    def __init__(self) -> None:
        self.checkpoints: list[tuple[Checkpoint, datetime]] = []
        self.step = 0

    def __call__(self, _job: Job, event: Event) -> None:
        if isinstance(event, Checkpoint):
            self.checkpoints.append((event, datetime.now(UTC)))
        if isinstance(event, Progress) and event.phase == "train":
            self.step = event.global_step

    @property
    def has_more_to_lose(self) -> bool:
        """Whether a checkpoint is committed and training has continued since."""
        return bool(self.checkpoints) and self.step > self.checkpoints[-1][0].global_step + 5


def wait_for(what: str, is_so: Callable[[], bool], worker: threading.Thread) -> datetime:
    until = time.monotonic() + TIMEOUT_SECONDS
    while not is_so():
        if time.monotonic() > until or not worker.is_alive():
            raise SystemExit(f"the worker ended, or {TIMEOUT_SECONDS:.0f} s passed, before {what}")
        time.sleep(0.01)
    return datetime.now(UTC)


def one_round(context: WorkerContext, job: Job, imds: Imds, notice_seconds: float) -> Row:
    """Let the worker train, send the notice, and measure how it releases the job."""
    imds.paths.pop("spot/instance-action", None)
    events = RecordedEvents()
    with SpotWatch(InstanceMetadata(imds.endpoint)) as watch:
        placed = replace(context, host=Host(spot=watch), observe=events)
        worker = threading.Thread(
            target=run_worker, args=(placed, ClaimOptions(max_jobs=1, idle_timeout=5.0)), daemon=True
        )
        worker.start()
        wait_for("a checkpoint was committed", lambda: events.has_more_to_lose, worker)
        imds.asked.clear()
        imds.asked.wait()
        noticed_at = datetime.now(UTC)
        imds.interrupt(noticed_at + timedelta(seconds=notice_seconds))
        seen_at = wait_for("the notice was seen", lambda: watch.interruption is not None, worker)
        worker.join()
        released_at = datetime.now(UTC)
    return row_of(context.queue.client, job, events, [noticed_at, seen_at, released_at])


def row_of(client: DynamoClient, job: Job, events: RecordedEvents, times: list[datetime]) -> Row:
    noticed_at, seen_at, released_at = times
    stored, lease = client.get_job(job.job_id, consistent=True), client.get_lease(job.job_id)
    attempt = client.get_attempt(job.job_id, stored.attempt)
    if stored.status is not JobStatus.INTERRUPTED or lease.checkpoint is None:
        raise SystemExit(f"the job is {stored.status}, not interrupted: {stored.error}")
    last, committed_at = events.checkpoints[-1]
    assert lease.checkpoint.global_step == last.global_step
    saved = last.time > seen_at
    copied_at = last.time - timedelta(seconds=last.write_seconds)
    (decision,) = [log.message for log in client.iter_job_logs(job.job_id) if is_notice(log.event, log.attempt, stored)]
    return {
        "megabytes": last.size / 1e6,
        "seen_seconds": (seen_at - noticed_at).total_seconds(),
        "written_seconds": (last.time - noticed_at).total_seconds() if saved else None,
        "uploaded_seconds": (committed_at - noticed_at).total_seconds() if saved else None,
        "released_seconds": (released_at - noticed_at).total_seconds(),
        "lost_steps": attempt.lost_steps or 0,
        "lost_training_seconds": 0.0 if saved else (seen_at - copied_at).total_seconds(),
        "pointer_step": lease.checkpoint.global_step,
        "last_step": attempt.last_step or 0,
        "decision": decision,
        "load_average": os.getloadavg()[0],
    }


def is_notice(event: str, attempt: int | None, job: Job) -> bool:
    return event == "spot_notice" and attempt == job.attempt


def measured(folder: Path, rounds: int) -> list[Row]:
    aws = local_aws.up(folder / "state")
    os.environ.update(local_aws.environment(folder / "state", os.environ))
    queue = JobQueue(DynamoClient(local_aws.LOCAL_TABLE, endpoint_url=aws.dynamodb_endpoint))
    bucket = Bucket(local_aws.LOCAL_BUCKET, endpoint_url=aws.s3_endpoint)
    pages = generate_pages(60, seed=0)
    dataset = add_snapshot(
        queue.client, bucket, describe_dataset("sample", pages, "generated", datetime.now(UTC)), pages
    )
    options = {"dataset": pinned(dataset), "pretrained": str(model_of_100_mb(folder / "model", pages)), "device": "cpu"}
    rhythm = {"epochs": 10_000, "eval_every": 100_000, "checkpoint_every": 20}
    config = WordLabelsConfig.model_validate({**options, **rhythm})
    context = WorkerContext(
        queue=queue,
        open_bucket=lambda _name: bucket,
        stop=threading.Event(),
        identity=WorkerIdentity("bench", Machine(instance_type="bench")),
        policy=JobPolicy.of_this_machine([ANY_BUCKET], folder / "work"),
        host=Host(),
        environment=os.environ,
    )
    job = queue.submit(
        name="bench", config=to_document(config, {}), created_by="bench", storage=Storage(bucket=bucket.name)
    )
    with serve() as imds:
        notices = [*[NOTICE_SECONDS] * rounds, LATE_NOTICE_SECONDS]
        return [one_round(context, job, imds, seconds) for seconds in notices]


def show(rows: list[Row]) -> None:
    print("seconds after the notice appeared")
    print("    MB   seen  written  uploaded  released   last step  resume from   load")
    for row in rows:
        print(
            f"{row['megabytes']:6.1f} {row['seen_seconds']:6.1f} {in_time(row['written_seconds'], 8)} "
            f"{in_time(row['uploaded_seconds'], 9)} {row['released_seconds']:9.1f} {row['last_step']:11} "
            f"{row['pointer_step']:12} {row['load_average']:6.1f}\n       {row['decision']}"
        )
    print(f"the last round lost {rows[-1]['lost_training_seconds']:.1f} s of training")
    print(f"promised: released at most {PROMISED_SECONDS:.0f} s after the notice")


def in_time(seconds: float | str | None, width: int) -> str:
    return "-".rjust(width) if seconds is None else f"{seconds:{width}.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds with a notice in time; one with a late notice follows (default 3)"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "state").mkdir()
        try:
            rows = measured(folder, options.rounds)
        finally:
            local_aws.down(folder / "state")
    show(rows)
    if options.json:
        options.json.write_text(json.dumps({"promised_seconds": PROMISED_SECONDS, "rounds": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

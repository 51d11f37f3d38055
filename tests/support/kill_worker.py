"""A real worker process of the kill proof: `python -m tests.support.kill_worker TABLE DYNAMO BUCKET S3 WORK_DIR`."""

import logging
import os
import signal
import sys
import threading
from pathlib import Path

from receipt_dynamo import DynamoClient, JobQueue, Machine, Timing
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.worker.admission import ANY_BUCKET, JobPolicy
from receipt_layoutlm.worker.context import Host, WorkerContext, WorkerIdentity
from receipt_layoutlm.worker.worker import ClaimOptions, new_worker_id, run_worker

# short, so that a dead worker is missed after seconds; the relations are those of the defaults
TIMING = Timing(
    lease_seconds=9,
    renew_seconds=1,
    stop_before_seconds=2,
    rescue_grace_seconds=2,
    first_backoff_seconds=0.2,
    longest_backoff_seconds=1,
)


def open_queue(table_name: str, endpoint: str) -> JobQueue:
    return JobQueue(DynamoClient(table_name, endpoint_url=endpoint), timing=TIMING)


def main(table_name: str, dynamo: str, bucket: str, s3: str, work_dir: str) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    context = WorkerContext(
        queue=open_queue(table_name, dynamo),
        open_bucket=lambda _name: Bucket(bucket, endpoint_url=s3),
        stop=stop,
        identity=WorkerIdentity(new_worker_id(), Machine(instance_type="test")),
        policy=JobPolicy.of_this_machine([ANY_BUCKET], Path(work_dir)),
        host=Host(),
        environment=os.environ,
    )
    run_worker(context, ClaimOptions(poll_seconds=0.2, rescue_seconds=1.0))


if __name__ == "__main__":
    main(*sys.argv[1:])

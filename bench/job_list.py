"""Requests, bytes and CPU time of `job list` in a table of many jobs.

    LAYOUTLM_STATE_DIR=/tmp/bench-state layoutlm-cli --local local up
    LAYOUTLM_STATE_DIR=/tmp/bench-state python bench/job_list.py [--jobs 5000]

Fills the embedded table up to so many jobs; half of them have succeeded, with the results of a real run's size. Bytes
are those of the items in the replies, as JSON.
"""

import argparse
import json
import time
from datetime import UTC, datetime, timedelta

from botocore.client import BaseClient
from click.testing import CliRunner

from receipt_dynamo import DynamoClient, JobQueue
from receipt_dynamo.entities import JobLog
from receipt_layoutlm.cli import cli
from receipt_layoutlm.config_documents import to_document
from receipt_layoutlm.configs.word_labels import WordLabelsConfig

ROW = {"precision": 0.9123, "recall": 0.8912, "f1": 0.9016, "support": 213}
COMMANDS = (
    (),
    ("--columns", "id,name,status,best"),
    ("--limit", "5000", "--columns", "id,name,best"),
    ("--where", "f1 > 0.8 and lr < 1e-4"),
    ("--sort", "f1"),
    ("--since", "1h"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=5000)
    count = parser.parse_args().jobs
    client = DynamoClient.local()
    fill(client, len(client.list_jobs()), count)
    print(f"{count} jobs\n{'requests':>9} {'kB':>8} {'CPU s':>6}  command")
    original = BaseClient._make_api_call
    for arguments in COMMANDS:
        replies = list[int]()

        def counted(self: BaseClient, name: str, params: object, replies: list[int] = replies) -> object:
            reply = original(self, name, params)
            replies.append(len(json.dumps(reply.get("Items", []))))
            return reply

        BaseClient._make_api_call = counted
        began = time.process_time()
        result = CliRunner().invoke(cli, ["--local", "job", "list", *arguments])
        spent = time.process_time() - began
        assert result.exit_code == 0, result.output
        shown = " ".join(("job list", *arguments))
        print(f"{len(replies):>9} {sum(replies) / 1000:>8.0f} {spent:>6.2f}  {shown}", flush=True)


def fill(client: DynamoClient, have: int, count: int) -> None:
    """Jobs submitted ten seconds apart, the newest now; every second one has succeeded."""
    start = datetime.now(UTC) - timedelta(seconds=10 * count)
    for number in range(have, count):
        now = start + timedelta(seconds=10 * number)
        queue = JobQueue(client, now=lambda now=now: now)
        config = to_document(WordLabelsConfig.model_validate({"lr": 6e-5 if number % 3 else 2e-4}), {})
        job = queue.submit(name=f"job-{number}", config=config, created_by="bench", queue=f"queue-{number % 2}")
        if number % 2:
            lease = queue.claim_job(job.job_id, "w")
            assert lease is not None
            labels = {f"LABEL_{each}": ROW for each in range(12)}
            results = {"metric_name": "eval_f1", "metric_value": number / count, "per_label": labels}
            end = JobLog(job_id=job.job_id, timestamp=now, level="info", event="run_summary", message="done", attempt=1)
            queue.complete(lease, results=results, summary=end)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()

"""Exit codes of real processes: 0 done, 1 failed, 2 usage error, 130 after Ctrl-C, with one line on stderr."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset
from tests.support.stores import Store
from tests.support.tiny import tiny_pages

pytestmark = pytest.mark.engine

CLI = (sys.executable, "-m", "receipt_layoutlm.cli")


def hear_sigint() -> None:
    """A suite that a shell has started in the background ignores SIGINT, and its children would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--version"], 0, ""),
        (["train", "--config", "."], 2, "Error: Invalid value for '--config': File '.' is a directory."),
        (["train", "--epoch", "3"], 2, "Error: No such option"),
        (
            ["dataset", "import", "jsonl", "no-pages.jsonl", "--dynamo-table", "t", "--bucket", "b"],
            1,
            "Error: no page in",
        ),
    ],
)
def test_a_command_ends_with_its_exit_code_and_without_a_traceback(
    tmp_path: Path, arguments: list[str], code: int, line: str
) -> None:
    (tmp_path / "no-pages.jsonl").touch()

    done = subprocess.run([*CLI, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert any(text.startswith(line) for text in done.stderr.splitlines() or [""]), done.stderr


def test_ctrl_c_ends_a_command_with_one_line(tmp_path: Path) -> None:
    pipe = tmp_path / "options.yaml"
    os.mkfifo(pipe)
    arguments = ("train", "--dry-run", "--json", "--config", str(pipe))
    command = subprocess.Popen(
        [*CLI, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_sigint
    )
    with command as process, pipe.open("w"):  # which opens once the command reads
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)

    assert (process.returncode, output, errors) == (130, "", "Interrupted.\n")


def test_ctrl_c_while_waiting_leaves_the_job_alone(store: Store, dynamo_endpoint: str, s3_endpoint: str) -> None:
    client, pages = store.queue.client, tiny_pages(12)
    add_snapshot(client, store.bucket, describe_dataset("tiny", pages, "test", store.clock()), pages)
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL_DYNAMODB": dynamo_endpoint,
        "AWS_ENDPOINT_URL_S3": s3_endpoint,
        "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9",
        "DYNAMO_TABLE_NAME": client.table_name,
        "LAYOUTLM_TRAINING_BUCKET": store.bucket.name,
    }
    command = [*CLI, "train", "--wait", "--split", "random"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_sigint
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "job metrics" in line:  # the last line before it waits
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)

    (job,) = client.list_jobs()
    assert (process.returncode, job.status) == (130, "pending")
    assert len(errors.splitlines()) == 1, errors

"""Breaks rules of the code one at a time, in a copy, and runs the tests that guard them: each has to be noticed.

    python bench/mutations.py [--only WORD]

A mutation is the exact text of the code and what stands there instead. One whose text is gone ends the run: give it
the new text. Writes docs/mutations.md when all were run. Needs the dev extra; takes minutes.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "mutations.md"
COPIED = ("receipt_dynamo", "receipt_layoutlm", "infra", "tests", "bench", "pyproject.toml")
INTRODUCTION = """# Breaking rules of the code on purpose

    python bench/mutations.py

Each rule was broken in a copy of the code, one at a time, and the tests that guard it were run; unbroken they pass.
The rules of the queue's protocol are broken in [another way](protocol-breaks.md): by schedules of a state machine.

| rule | broken in | how | first test that noticed |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Mutation:
    """One rule that the copy no longer keeps."""

    rule: str
    file: str
    old: str
    new: str
    tests: str  # arguments of pytest

    def apply(self, root: Path) -> None:
        path = root / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            sys.exit(f"{self.file}: {text.count(self.old)} times, not once, in the code: {self.old!r} ({self.rule})")
        path.write_text(text.replace(self.old, self.new))


STORE, PRODUCT = "receipt_dynamo", "receipt_layoutlm"
CONDITIONS = "tests/receipt_dynamo/test_conditions.py"
WORD_LABELS = f"{PRODUCT}/training/tasks/word_labels"
MUTATIONS = (
    Mutation(
        "a retry by a person resets the budgets",
        f"{STORE}/transitions.py",
        "job.budgets.unused()",
        "job.budgets",
        "tests/receipt_dynamo/test_queue_recovery.py",
    ),
    Mutation(
        "an evaluation past a later attempt's resume point is hidden",
        f"{STORE}/metrics_view.py",
        "metric.global_step <= attempt.resume_step",
        "metric.global_step <= attempt.resume_step + 1",
        "tests/receipt_dynamo/test_metrics_view.py",
    ),
    Mutation(
        "running out of memory twice fails the job",
        f"{STORE}/entities.py",
        "if self.out_of_memory >= 2:",
        "if self.out_of_memory >= 3:",
        "tests/receipt_dynamo/test_queue.py tests/receipt_dynamo/test_queue_recovery.py",
    ),
    Mutation(
        "a dead worker's attempt ends when its lease expired, not when that was noticed",
        f"{STORE}/transitions.py",
        "lease.expires_at or now",
        "now",
        "tests/receipt_dynamo/test_queue_recovery.py",
    ),
    Mutation(
        "uploads that lag skip no best checkpoint for a later one that is not the best",
        f"{PRODUCT}/worker/recorder.py",
        "any(other.is_best or not event.is_best for other in later)",
        "bool(later)",
        "tests/worker/test_recorder.py",
    ),
    Mutation(
        "a worker's trainer stops before its lease runs out",
        f"{PRODUCT}/worker/heartbeat.py",
        "self.seconds_left() < self._queue.timing.stop_before_seconds",
        "self.seconds_left() < 0",
        "tests/worker/test_heartbeat.py",
    ),
    Mutation(
        "a renewal counts from its sending, not from its reply",
        f"{PRODUCT}/worker/heartbeat.py",
        "self.deadline = sent + ",
        "self.deadline = self._monotonic() + ",
        "tests/worker/test_heartbeat.py",
    ),
    Mutation(
        "a spot notice leaves a margin for the last save",
        f"{PRODUCT}/worker/supervisor.py",
        "needed = SAFETY_FACTOR * expected",
        "needed = expected",
        "tests/worker/test_notice.py",
    ),
    Mutation(
        "no secret of the log's end is stored",
        f"{PRODUCT}/worker/process.py",
        "redacted(line, secrets)[:LINE_CHARACTERS]",
        "line[:LINE_CHARACTERS]",
        "tests/worker/test_exits.py",
    ),
    Mutation(
        "a job's files go to accepted buckets only",
        f"{PRODUCT}/worker/admission.py",
        "if not any(_holds(accepted, place) for accepted in self.buckets):",
        "if not self.buckets:",
        "tests/worker/test_admission.py",
    ),
    Mutation(
        "a checkpoint that is being uploaded is not pruned",
        f"{PRODUCT}/storage/retention.py",
        "if checkpoint not in kept | uploading",
        "if checkpoint not in kept",
        "tests/storage/test_retention.py",
    ),
    Mutation(
        "a file that changed after its manifest was written is not uploaded",
        f"{PRODUCT}/storage/upload.py",
        "if self._left == 0 and self._digest.hexdigest() != self._sha256:",
        "if False:",
        "tests/storage/test_upload.py tests/storage/test_bucket.py",
    ),
    Mutation(
        "a folder counts when its files have the manifest's hashes, not only its sizes",
        f"{PRODUCT}/run/manifest.py",
        " and sha256_of(path) == expected.sha256",
        "",
        "tests/run/test_manifest.py",
    ),
    Mutation(
        "of two equal evaluations the earlier one is the best",
        f"{PRODUCT}/run/state.py",
        "metric_value > self.best_metric_value",
        "metric_value >= self.best_metric_value",
        "tests/run/test_state.py",
    ),
    Mutation(
        "a stop within an evaluation leaves it due",
        f"{PRODUCT}/training/loop.py",
        "    except StopRequested:\n        return False\n",
        "    except StopRequested:\n        run.state.evaluation_due = False\n        return False\n",
        "tests/training/test_trainer.py",
    ),
    Mutation(
        "a checkpoint has a copy of the weights, which training goes on to change",
        f"{PRODUCT}/training/checkpoint.py",
        'tensor.detach().to("cpu", copy=True)',
        'tensor.detach().to("cpu")',
        "tests/training/test_checkpoint.py -k a_copy_stays",
    ),
    Mutation(
        "biases do not decay",
        f"{PRODUCT}/training/optimizer.py",
        'isinstance(module, NORMS) or name == "bias"',
        "isinstance(module, NORMS)",
        "tests/training/test_optimizer.py",
    ),
    Mutation(
        "each epoch has an order of its own",
        f"{WORD_LABELS}/inputs/sampling.py",
        'draw = generator(seed, epoch, "order")',
        'draw = generator(seed, 0, "order")',
        "tests/training/word_labels/test_sampling.py",
    ),
    Mutation(
        "a continued job keeps the options that its checkpoint's state comes from",
        f"{PRODUCT}/jobs/continuation.py",
        "    if changed:\n",
        "    if False:\n",
        "tests/jobs/test_continuation.py",
    ),
    Mutation(
        "@best looks only at jobs that may be compared with the newest one",
        f"{PRODUCT}/jobs/find.py",
        "for job_id, results in scored if stamp_of(results) == stamp]",
        "for job_id, results in scored]",
        "tests/cli/test_job_compare.py",
    ),
    Mutation(
        "a page that was forgotten goes into no snapshot",
        f"{PRODUCT}/datasets/exclusions.py",
        "if page.page_id not in excluded]",
        "]",
        "tests/datasets/test_exclusions.py",
    ),
    Mutation(
        "a page forgotten while a snapshot is made keeps it from being stored",
        f"{PRODUCT}/datasets/exclusions.py",
        "if page_id := next((page.page_id for page in pages if page.page_id in excluded), None):",
        "if page_id := None:",
        "tests/datasets/test_exclusions.py tests/datasets/test_snapshots.py",
    ),
    Mutation(
        "a group of pages is on one side of a split",
        f"{PRODUCT}/data/splits.py",
        'page.page_id if config.split == "random" else page.group',
        "page.page_id",
        "tests/data/test_splits.py",
    ),
    Mutation(
        "a claim asks for the job's attempt",
        f"{STORE}/transitions.py",
        "        & (JobItem.attempt == seen.attempt)\n        & (JobItem.not_before",
        "        & (JobItem.not_before",
        CONDITIONS,
    ),
    Mutation(
        "a claim overwrites no attempt",
        f"{STORE}/transitions.py",
        "put(items.attempt_item(attempt), AttemptItem.pk.does_not_exist())",
        "put(items.attempt_item(attempt))",
        CONDITIONS,
    ),
    Mutation(
        "an end asks for the job's status",
        f"{STORE}/transitions.py",
        "condition = (JobItem.status == JobStatus.RUNNING.value) & (JobItem.attempt == lease.attempt)",
        "condition = JobItem.attempt == lease.attempt",
        CONDITIONS,
    ),
    Mutation(
        "a retry asks whether a cancel was requested",
        f"{STORE}/transitions.py",
        "does_not_exist() & ~WANTS_CANCEL\n    return [update(items.job_key(job.job_id), actions, failed)",
        "does_not_exist()\n    return [update(items.job_key(job.job_id), actions, failed)",
        CONDITIONS,
    ),
    Mutation(
        "a retry asks for the job's attempt",
        f"{STORE}/transitions.py",
        "failed = (JobItem.status == JobStatus.FAILED.value) & (JobItem.attempt == job.attempt)",
        "failed = JobItem.status == JobStatus.FAILED.value",
        CONDITIONS,
    ),
    Mutation(
        "a cancel of a running job asks for the lease's attempt",
        f"{STORE}/transitions.py",
        "(LeaseItem.attempt == job.attempt) & LeaseItem.lease_token.exists()",
        "LeaseItem.lease_token.exists()",
        CONDITIONS,
    ),
    Mutation(
        "a cancel of a running job asks for its status",
        f"{STORE}/transitions.py",
        "check(items.job_key(job.job_id), JobItem.status == JobStatus.RUNNING.value)",
        "check(items.job_key(job.job_id), JobItem.pk.exists())",
        CONDITIONS,
    ),
    Mutation(
        "a cancel of a free job asks for its attempt",
        f"{STORE}/transitions.py",
        "unheld = (JobItem.status == job.status.value) & (JobItem.attempt == job.attempt)\n    actions = [*_status",
        "unheld = JobItem.status == job.status.value\n    actions = [*_status",
        CONDITIONS,
    ),
    Mutation(
        "a cancel of a free job asks for the lease's attempt",
        f"{STORE}/transitions.py",
        "(LeaseItem.attempt == lease.attempt) & LeaseItem.lease_token.does_not_exist(),\n        ),\n    ]",
        "LeaseItem.lease_token.does_not_exist(),\n        ),\n    ]",
        CONDITIONS,
    ),
    Mutation(
        "a pointer is as it was read when its attempt is, too",
        f"{STORE}/transitions.py",
        "        LeaseItem.checkpoint.attempt == pointer.attempt  # two attempts may write the same bytes\n",
        "        LeaseItem.checkpoint.exists()\n",
        CONDITIONS,
    ),
    Mutation(
        "the first deadline of a lease counts from the sending of the claim",
        f"{PRODUCT}/worker/heartbeat.py",
        "self.deadline = monotonic() + self._left_of_claim()",
        "self.deadline = monotonic() + queue.timing.lease_seconds",
        "tests/worker/test_heartbeat.py",
    ),
    Mutation(
        "a finished trainer is not believed before all its events are stored",
        f"{PRODUCT}/worker/outcome.py",
        'end.reason != "stop_requested" and report.is_stored',
        'end.reason != "stop_requested"',
        "tests/worker/test_recorder.py",
    ),
    Mutation(
        "a lease is taken only after it was seen to stand still",
        f"{STORE}/queue.py",
        "return self.watch.still_seconds(lease) >= seconds",
        "return True",
        "tests/receipt_dynamo/test_clocks.py",
    ),
    Mutation(
        "a deletion is decided before anything is deleted",
        f"{STORE}/transitions.py",
        "actions = [LeaseItem.cancel_requested.set(True), LeaseItem.deleting_at",
        "actions = [LeaseItem.deleting_at",
        "tests/receipt_dynamo/test_decisions.py",
    ),
    Mutation(
        "a job that was retried is not pruned",
        f"{STORE}/transitions.py",
        "check(items.job_key(job.job_id), ended & is_final()),\n        update(lease_key(job.job_id), pointers,",
        "check(items.job_key(job.job_id), JobItem.pk.exists()),\n        update(lease_key(job.job_id), pointers,",
        "tests/receipt_dynamo/test_decisions.py",
    ),
)


def first_failure(root: Path, tests: str) -> str | None:
    """The first test that fails in the copy, None when all pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-n", "0", "-p", "no:cacheprovider", *tests.split()]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode == 0:
        return None
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if done.returncode != 1 or not failed:
        sys.exit(f"{tests} could not be run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return failed[0].split()[1].partition("[")[0]


def row(mutation: Mutation, noticed: str | None) -> str:
    """A line of the table."""
    how = " -> ".join(f"`{' '.join(text.split())}`" if text else "left out" for text in (mutation.old, mutation.new))
    return f"| {mutation.rule} | `{mutation.file}` | {how.replace('|', '&#124;')} | `{noticed}` |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rules with this text in them")
    only = parser.parse_args().only
    chosen = [mutation for mutation in MUTATIONS if only in mutation.rule]
    rows, unnoticed, passing = [], [], set[str]()
    with tempfile.TemporaryDirectory() as folder:
        for number, mutation in enumerate(chosen):
            root = Path(folder) / str(number)
            for name in COPIED:
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
                copy(ROOT / name, root / name)
            if mutation.tests not in passing and (broken := first_failure(root, mutation.tests)) is not None:
                sys.exit(f"{broken} fails without any mutation")
            passing.add(mutation.tests)
            mutation.apply(root)
            noticed = first_failure(root, mutation.tests)
            print(f"{mutation.rule}: {noticed or 'NOT NOTICED'}", flush=True)
            if noticed is None:
                unnoticed.append(mutation.rule)
            rows.append(row(mutation, noticed))
            shutil.rmtree(root)
    if not only:
        DOCUMENT.write_text(INTRODUCTION + "\n".join(rows) + "\n")
    if unnoticed:
        sys.exit(f"not noticed: {', '.join(unnoticed)}")


if __name__ == "__main__":
    main()

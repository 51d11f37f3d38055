"""layoutlm-cli model promote, list, show and rollback, as a person runs them."""

import json
from pathlib import Path

import pytest

from receipt_dynamo import DynamoClient, JobQueue
from receipt_layoutlm.run.manifest import MANIFEST
from receipt_layoutlm.storage.bucket import Bucket
from receipt_layoutlm.storage.keys import RunKeys
from tests.support.commands import ok, run
from tests.support.judged_jobs import JudgedJobs
from tests.support.stores import Clock, Store
from tests.support.tiny import tiny_pages

PAGES = tiny_pages(24)


@pytest.fixture(autouse=True)
def jobs(cloud: DynamoClient, tmp_path: Path) -> JudgedJobs:
    """Two jobs with a published model: good has every page right, worse 20 of 24."""
    found = JudgedJobs(Store(JobQueue(cloud), Bucket("the-bucket"), Clock()), PAGES, tmp_path)
    for name, right in (("good", 24), ("worse", 20)):
        job = found.end(name, set(range(right)))
        assert job.storage is not None
        (tmp_path / MANIFEST).write_text('{"global_step": 3, "files": {}}')
        found.store.bucket.put_file(tmp_path / MANIFEST, RunKeys(job.storage, job.job_id).best(1) + MANIFEST)
    return found


def in_use() -> str:
    return str(json.loads(ok("job", "show", "@production", "--json"))["name"])


def test_a_promoted_model_is_named_by_its_stage_wherever_a_job_is() -> None:
    text = ok("model", "promote", "good", "--reason", "the first one")

    assert "@production is good" in text and "version 1" in text and "the first one" in text
    assert in_use() == "good"
    assert "the first one" in ok("model", "list") and "version 1" in ok("model", "show")


def test_a_gate_refuses_with_its_figure_unless_it_is_off_or_forced() -> None:
    ok("model", "promote", "good", "--reason", "first")

    refused = run("model", "promote", "worse", "--reason", "smaller")
    assert refused.exit_code == 1
    assert "worse is not promoted: F1 goes from 1.0000 to 0.9" in refused.stderr and in_use() == "good"

    gates = ("--max-loss", "0.5", "--max-label-loss", "none", "--max-slice-loss", "none")
    ok("model", "promote", "worse", "--reason", "smaller", *gates)
    assert in_use() == "worse"
    ok("model", "rollback", "--reason", "no")
    ok("model", "promote", "worse", "--reason", "smaller", "--force")

    newest, *_ = json.loads(ok("model", "list", "--json"))
    assert newest["job_name"] == "worse" and newest["evidence"]["f1"]["is_met"] is False


def test_a_dry_run_asks_the_gates_and_changes_nothing() -> None:
    result = run("model", "promote", "good", "--reason", "?", "--dry-run")

    assert result.exit_code == 0 and "good would be in use as @production" in result.stdout
    assert "no model is in use as @production" in ok("model", "list")


def test_stages_are_apart() -> None:
    ok("model", "promote", "good", "--reason", "a trial", "--stage", "trial")

    assert json.loads(ok("job", "show", "@trial", "--json"))["name"] == "good"
    missing = run("job", "show", "@production")
    assert (
        missing.exit_code == 1 and "no model is in use as @production: `layoutlm-cli model promote`" in missing.stderr
    )


def test_a_job_whose_model_was_in_use_is_not_deleted() -> None:
    ok("model", "promote", "good", "--reason", "first")

    refused = run("job", "delete", "good", "--yes")

    assert refused.exit_code == 1 and "was promoted, and models that were in use are kept" in refused.stderr
    assert in_use() == "good"


@pytest.mark.parametrize("bound", ["a lot", "-"])
def test_a_bound_is_a_number_or_none(bound: str) -> None:
    refused = run("model", "promote", "good", "--reason", "?", "--max-loss", bound)

    assert refused.exit_code == 2 and "--max-loss" in refused.stderr

"""train --notify, --max-cost and --not-before, job alerts, and what why and retry say about them."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from receipt_dynamo import Alert, AlertRows, DynamoClient, Job, JobError, JobQueue, Machine
from tests.support.commands import Shell, ok, run
from tests.support.jobs import claim, submit

LATER = datetime(2090, 1, 2, 22, 0, tzinfo=UTC)


def raised(client: DynamoClient, job: Job, kind: str, level: str, at: datetime) -> None:
    alert = Alert.model_validate(
        {
            "job_id": job.job_id,
            "job_name": job.name,
            "kind": kind,
            "level": level,
            "message": f"{job.name} {kind}",
            "attempt": 0,
            "raised_at": at,
            "raised_by": "worker-1",
        }
    )
    assert AlertRows(client).raise_in_state(job, alert)


def test_the_three_options_stand_on_the_job(shell: Shell, pages: str) -> None:
    shell_options = ("--max-cost", "1.5", "--not-before", "2090-01-02T23:00+01:00", "--notify", "/layoutlm/team")
    job = shell.train("--data", pages, *shell_options)
    assert (job.max_cost, job.not_before, job.notify) == (1.5, LATER, "/layoutlm/team")
    assert JobQueue(shell.client).claim("worker-1") is None
    plain = shell.train("--data", pages)
    assert (plain.max_cost, plain.not_before, plain.notify) == (None, None, None)


def test_a_time_in_a_file_of_options_counts(shell: Shell, pages: str, tmp_path: Path) -> None:
    (tmp_path / "night.yaml").write_text("not-before: 2090-01-02T23:00:00+01:00\n")
    assert shell.train("--data", pages, "--config", str(tmp_path / "night.yaml")).not_before == LATER


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--not-before", "2020-01-01T00:00Z"), "--not-before 2020-01-01T00:00:00+00:00 has passed"),
        (("--not-before", "2090-01-01T00:00"), "the zone is missing: write 2090-01-01T00:00+01:00"),
        (("--not-before", "2090-01-01"), "the zone is missing"),
        (("--not-before", "tomorrow"), "--not-before tomorrow: not a time: write it as 2026-12-01T22:00+01:00"),
        (("--not-before", "9999-12-31T23:59Z"), "after 9000"),
        (("--not-before", "2020-01-01T00:00Z", "--dry-run"), "has passed"),
        (("--max-cost", "0"), "--max-cost 0"),
        (("--max-cost", "-1"), "--max-cost -1"),
        (("--max-cost", "nan"), "--max-cost nan"),
        (("--max-cost", "2", "--run-here"), "--run-here does not know the price of this machine"),
        (("--not-before", "2090-01-01T00:00Z", "--run-here"), "--run-here starts now"),
    ],
)
def test_what_cannot_be_kept_is_refused(shell: Shell, pages: str, options: tuple[str, ...], text: str) -> None:
    assert text in shell.refused("--data", pages, *options)


@pytest.mark.parametrize("url", ["https://hooks.example.com/services/s3cr3t", "hooks.example.com/services/s3cr3t"])
def test_a_url_is_refused_with_the_way_out_and_never_repeated(
    shell: Shell, pages: str, tmp_path: Path, url: str
) -> None:
    (tmp_path / "options.yaml").write_text(f"notify: {url}\n")
    for options in (("--notify", url), ("--config", str(tmp_path / "options.yaml"))):
        refusal = shell.refused("--data", pages, *options)
        assert "aws ssm put-parameter" in refusal and "s3cr3t" not in refusal
    assert "s3cr3t" not in json.dumps(shell.client.raw.scan(TableName=shell.client.table_name)["Items"])


def test_a_key_with_another_limit_is_another_job(shell: Shell, pages: str) -> None:
    given = ("--data", pages, "--unique-key", "night", "--not-before", "2090-01-02T22:00Z")
    first = shell.train(*given, "--max-cost", "1")
    assert shell.train(*given, "--max-cost", "1") == first
    refusal = run("train", *given, "--max-cost", "2").stderr
    assert "--max-cost 1.0, now 2.0" in refusal


def test_why_names_the_time_the_limit_and_the_price(shell: Shell, pages: str) -> None:
    job = shell.train("--data", pages, "--max-cost", "1.5", "--not-before", "2090-01-02T22:00Z")
    text = ok("job", "why", job.job_id)
    assert "It waits for its --not-before, 2090-01-02 22:00:00 UTC" in text
    assert "cost 0.00 of at most 1.5 dollars" in text and "--price-per-hour" in text


def test_alerts_are_listed_by_job_age_and_level(cloud: DynamoClient, queue: JobQueue) -> None:
    one, other, now = submit(queue, "one"), submit(queue, "other"), queue.now()
    raised(cloud, one, "collapsed", "warning", now - timedelta(days=3))
    raised(cloud, one, "failed", "error", now - timedelta(hours=1))
    raised(cloud, other, "succeeded", "info", now - timedelta(minutes=1))

    def kinds(*options: str) -> list[str]:
        return [each["kind"] for each in json.loads(ok("job", "alerts", *options, "--json"))]

    assert kinds() == ["succeeded", "failed", "collapsed"]
    assert kinds("one") == ["failed", "collapsed"]
    assert kinds("--since", "2h") == kinds("--since", "1d") == ["succeeded", "failed"]
    assert kinds("--since", "999999999d") == kinds()
    assert kinds("one", "--since", "2d") == ["failed"]
    assert kinds("--since", (now - timedelta(minutes=5)).isoformat()) == ["succeeded"]
    assert kinds("--level", "warning") == ["failed", "collapsed"]
    assert kinds("--level", "error") == ["failed"]
    assert "one collapsed" in ok("job", "alerts")
    assert "no alerts" in ok("job", "alerts", "other", "--level", "error")
    assert "Its newest alert, error," in ok("job", "why", "one")


@pytest.mark.parametrize("since", ["yesterday", "-1d", "1y", "٣d", "2026-13-01", "", "9" * 30 + "d"])
def test_an_age_that_is_none_is_refused(cloud: DynamoClient, since: str) -> None:
    refused = run("job", "alerts", "--since", since)
    assert refused.exit_code == 2 and "--since" in refused.stderr


def test_a_job_at_its_limit_is_retried_with_a_higher_one_alone(cloud: DynamoClient, queue: JobQueue) -> None:
    job = submit(queue, max_cost=0.000001)
    lease = queue.claim("worker-1", machine=Machine(price_per_hour=100.0))
    assert lease is not None
    queue.fail(lease, JobError(cause="cost_limit", message="its attempts cost more"))
    refused = run("job", "retry", job.job_id)
    assert refused.exit_code == 1 and f"job retry {job.job_id[:8]} --max-cost" in refused.stderr
    assert f"job retry {job.job_id} --max-cost" in ok("job", "why", job.job_id)
    ok("job", "retry", job.job_id, "--max-cost", "5")
    assert (cloud.get_job(job.job_id).status, cloud.get_job(job.job_id).max_cost) == ("pending", 5.0)


def test_a_cancelled_job_that_nobody_holds_is_told_by_the_command(cloud: DynamoClient, queue: JobQueue) -> None:
    job = submit(queue)
    ok("job", "cancel", job.job_id)
    assert [each.kind for each in cloud.list_job_alerts(job.job_id)] == ["cancelled"]
    held = submit(queue, "held")
    claim(queue)
    ok("job", "cancel", held.job_id)
    assert cloud.list_job_alerts(held.job_id) == []

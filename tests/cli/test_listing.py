"""layoutlm-cli job list and cost: which jobs are chosen, in which order, and what stands in the table."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from receipt_dynamo import Job, JobMetric, JobQueue, Machine
from tests.support.commands import ok, on_terminal, run
from tests.support.jobs import summary


def submit(queue: JobQueue, name: str, lr: float = 1e-4, user: str = "me", **more: object) -> Job:
    return queue.submit(name=name, config={"lr": lr, "epochs": 3}, created_by=user, **more)  # type: ignore[arg-type]


def succeed(queue: JobQueue, f1: float, machine: Machine = Machine(), evaluations: tuple[float, ...] = ()) -> None:  # noqa: B008
    """Claim the job that waits, store its evaluations, and end it with the last one as its best."""
    lease = queue.claim("w", machine=machine)
    assert lease is not None
    for seq, value in enumerate(evaluations):
        metric = JobMetric(
            job_id=lease.job_id,
            timestamp=queue.now(),
            metric_name="eval_f1",
            metric_value=value,
            global_step=seq,
            attempt=1,
            seq=seq,
        )
        queue.client.add_job_metric(lease, metric)
    results = {"metric_name": "eval_f1", "metric_value": f1, "per_label": {"DATE": {"f1": f1 / 2}}, "eval_loss": 1 - f1}
    queue.complete(lease, results=results, summary=summary(lease, queue.now()))  # type: ignore[arg-type]


def listed(*arguments: str) -> list[str]:
    return [job["name"] for job in json.loads(ok("job", "list", "--json", *arguments))]


@pytest.fixture
def three(queue: JobQueue) -> JobQueue:
    """weak (0.6, lr 1e-4), strong (0.9, lr 1e-5, team a, experiment e), waiting."""
    submit(queue, "weak")
    succeed(queue, 0.6, evaluations=(0.2, 0.4, 0.6))
    submit(queue, "strong", 1e-5, "ada", tags={"team": "a", "experiment": "e"})
    succeed(queue, 0.9, Machine(price_per_hour=3600.0))
    submit(queue, "waiting")
    return queue


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("f1 > 0.8", ["strong"]),
        ("f1 > 0.5 and lr < 1e-4", ["strong"]),
        ("f1_DATE <= 0.3", ["weak"]),
        ("not f1 > 0.8", ["waiting", "weak"]),
        ("0.5 < f1 < 0.8 or status == 'pending'", ["waiting", "weak"]),
        ("tags.team == 'a'", ["strong"]),
        ("tags['team'] != None", ["strong"]),
        ("name in ['weak', 'waiting']", ["waiting", "weak"]),
        ("'eak' in name", ["weak"]),
        ("eval_loss < 0.2", ["strong"]),
        ("best == None", ["waiting"]),
        ("lr < -1", []),
    ],
)
def test_a_condition_chooses_by_scores_options_facts_and_tags(
    three: JobQueue, condition: str, names: list[str]
) -> None:
    assert listed("--where", condition) == names


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("f1 >", "a condition reads like f1 > 0.8"),
        ("f1 = 0.8", "== for equal"),
        ("__import__('os').system('true')", "only names, numbers, texts"),
        ("f1.real > 1", "only names, numbers, texts"),
        ("f1 is 1", "compare with <"),
        ("f1_DAT > 0.8", "did you mean f1_DATE?"),
        ("learning_rat < 1", "did you mean"),
        ("lr < 'x'", "are a number and a text"),
        ("(" * 999, "a condition reads like"),
        ("1" * 2000, "use at most 1000"),
    ],
)
def test_a_condition_that_cannot_be_read_is_refused_in_one_line(three: JobQueue, condition: str, reason: str) -> None:
    result = run("job", "list", "--where", condition)

    assert result.exit_code == 1 and reason in result.stderr and result.stderr.count("\n") < 4, result.output


def test_jobs_are_chosen_by_tag_experiment_and_submitter(three: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    assert listed("--tag", "team=a") == listed("--experiment", "e") == ["strong"]
    assert listed("--tag", "team=b") == []
    assert listed("--status", "succeeded", "--name", "weak") == ["weak"]
    assert listed("--status", "pending", "--name", "weak") == []
    assert "give one" in run("job", "list", "--tag", "experiment=x", "--experiment", "e").stderr


def test_mine_are_those_of_these_credentials(queue: JobQueue, shell: object, pages: str) -> None:
    submit(queue, "of another", user="ada")
    ok("train", "--json", "--data", pages, "--job-name", "my-own")

    assert listed("--mine") == ["my-own"] and len(listed()) == 2


def test_times_bound_the_submission(three: JobQueue) -> None:
    jobs = {job.name: job for job in three.client.list_jobs()}
    at = jobs["strong"].created_at

    assert listed("--since", at.isoformat()) == ["waiting", "strong"]
    assert listed("--until", at.isoformat()) == ["strong", "weak"]
    assert listed("--name", "weak", "--since", at.isoformat()) == []
    assert listed("--since", (at + timedelta(days=1)).isoformat()) == []
    assert listed("--since", "100w") == listed("--since", "99999999w") == ["waiting", "strong", "weak"]
    assert "neither an age" in run("job", "list", "--since", "yesterday-ish").stderr


def test_sorting_puts_the_greatest_or_the_smallest_first_and_jobs_without_a_value_last(three: JobQueue) -> None:
    assert listed("--sort", "f1") == listed("--sort", "best_f1") == ["strong", "weak", "waiting"]
    assert listed("--sort", "-f1") == ["weak", "strong", "waiting"]
    assert listed("--sort", "name") == ["weak", "waiting", "strong"]
    assert listed("--sort", "f1", "--limit", "1") == ["strong"]
    assert "did you mean f1_DATE?" in run("job", "list", "--sort", "f1_DAT").stderr


def test_columns_are_scores_options_and_facts(three: JobQueue) -> None:
    chosen = ("--columns", "name,lr,f1,tags.team,cost")

    first, *_ = json.loads(ok("job", "list", "--json", "--status", "succeeded", *chosen))
    assert first["name"] == "strong" and first["f1"] == 0.9 and first["tags.team"] == "a" and first["cost"] > 0
    header, _, line, *_ = ok("job", "list", *chosen, "--where", "f1 > 0.8").splitlines()
    assert header.split() == ["name", "lr", "f1", "tags.team", "cost"]
    assert line.split()[:4] == ["strong", "1e-05", "0.9000", "a"]
    assert "did you mean f1_DATE" in run("job", "list", "--columns", "name,f1_DAT").stderr
    assert "names no column" in run("job", "list", "--columns", ",").stderr


def test_the_table_shows_the_trend_of_the_score_and_the_cost(three: JobQueue) -> None:
    lines = {line.split()[1]: line for line in ok("job", "list").splitlines()[2:]}

    assert "▁▄█" in lines["weak"] or "▁▅█" in lines["weak"]
    assert "▁" not in lines["strong"] + lines["waiting"]
    assert "no job matches" in ok("job", "list", "--where", "f1 > 0.95")


def test_a_narrow_table_keeps_id_name_and_status(three: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")

    header, *_ = on_terminal("job", "list").splitlines()

    assert header.split() == ["id", "name", "status", "best"]


def test_cost_is_summed_by_group_and_unknown_prices_are_counted_apart(three: JobQueue) -> None:
    by_user = {row["group"]: row for row in json.loads(ok("cost", "--json"))}
    seconds = three.client.list_attempts(by_user["ada"]["jobs"][0])[0]
    assert seconds.ended_at is not None
    assert by_user["ada"]["cost"] == pytest.approx((seconds.ended_at - seconds.started_at).total_seconds())
    assert by_user["me"]["cost"] == 0 and by_user["me"]["unpriced_seconds"] == by_user["me"]["seconds"] > 0

    by_team = {row["group"]: row["cost"] for row in json.loads(ok("cost", "--json", "--by", "tag:team"))}
    assert by_team.keys() == {"a", "(none)"}
    assert {row["group"] for row in json.loads(ok("cost", "--json", "--by", "experiment"))} == {"e", "(none)"}
    assert {row["group"] for row in json.loads(ok("cost", "--json", "--by", "lr"))} == {"0.0001", "1e-05"}
    assert "without a known price" in ok("cost")
    assert "did you mean --by user?" in run("cost", "--by", "usr").stderr


def test_cost_before_the_given_time_is_not_counted(three: JobQueue) -> None:
    later = three.client.list_jobs()[0].created_at + timedelta(days=1)

    assert json.loads(ok("cost", "--json", "--since", later.isoformat())) == []
    assert "no job ran in this time" in ok("cost", "--since", later.isoformat())


def test_the_time_of_a_list_reaches_the_index(three: JobQueue, tmp_path: Path) -> None:
    asked = list[str]()
    three.client.raw.meta.events.register(
        "before-parameter-build.dynamodb.Query", lambda params, **_: asked.append(params["KeyConditionExpression"])
    )
    jobs = three.client.list_jobs()
    asked.clear()
    list(three.client.iter_jobs_by_status("pending", created=(jobs[0].created_at, None)))

    assert asked == ["#p = :p AND #s BETWEEN :from AND :to"]

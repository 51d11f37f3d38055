"""job compare ranks runs measured by one rule, and says why it does not rank others; @best keeps to it too."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from receipt_dynamo import DynamoClient, Job, JobLog, JobQueue, JsonObject, Machine, Storage, utcnow
from receipt_layoutlm.cli import cli
from receipt_layoutlm.run.comparability import FIELDS, make_stamp
from receipt_layoutlm.storage.bucket import Bucket
from tests.support.judged_jobs import JudgedJobs
from tests.support.stores import Clock, Store
from tests.support.tiny import tiny_pages

STAMP = {name: f"some {name}" for name in FIELDS}


class Shell:
    def __init__(self, client: DynamoClient) -> None:
        self.queue = JobQueue(client)

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["job", *arguments])

    def succeeded(
        self,
        name: str,
        value: float | None,
        beside: JsonObject | None = None,
        config: JsonObject | None = None,
        tags: dict[str, str] | None = None,
        **fields: str,
    ) -> Job:
        """A job that has ended with this score; fields of its stamp that are not as in the others'."""
        job = self.queue.submit(
            name=name,
            config=config or {"config_version": 1},
            created_by="tests",
            storage=Storage(bucket="the-bucket"),
            tags=tags or {},
        )
        lease = self.queue.claim_job(job.job_id, "worker-1", machine=Machine(price_per_hour=3600.0))
        assert lease is not None
        results: JsonObject = {"global_step": 30}
        if value is not None:
            results |= {"metric_name": "eval_f1", "metric_value": value, "per_label": {"DATE": {"f1": value / 2}}}
            results |= {"comparability": make_stamp({**STAMP, **fields}).model_dump(mode="json")}
        results |= beside or {}
        row = JobLog(
            job_id=job.job_id, timestamp=utcnow(), level="info", event="run_summary", message="", attempt=1, seq=9
        )
        return self.queue.complete(lease, results=results, summary=row) and self.queue.client.get_job(job.job_id)


@pytest.fixture
def shell(cloud: DynamoClient) -> Shell:
    return Shell(cloud)


def test_runs_with_one_stamp_are_ranked_by_score_with_labels_steps_cost_and_time(shell: Shell) -> None:
    shell.succeeded("weak", 0.5)
    shell.succeeded("strong", 0.75)

    text = shell.run("compare", "weak", "strong").stdout
    rows = json.loads(shell.run("compare", "weak", "strong", "--json").stdout)["runs"]

    assert [(row["rank"], row["name"], row["metric_value"]) for row in rows] == [(1, "strong", 0.75), (2, "weak", 0.5)]
    assert rows[0]["per_label"] == {"DATE": 0.375} and rows[0]["global_step"] == 30
    assert rows[0]["cost"] == pytest.approx(rows[0]["wall_seconds"], rel=0.2)
    assert text.index("strong") < text.index("weak") and "DATE" in text.splitlines()[0]


@pytest.mark.parametrize(
    ("field", "title"),
    [
        ("dataset", "dataset"),
        ("split", "split"),
        ("labels", "label map"),
        ("windows", "window rule"),
        ("scorer", "scorer"),
        ("evaluation", "validation set"),
    ],
)
def test_runs_with_other_stamps_are_refused_with_the_field_that_differs(shell: Shell, field: str, title: str) -> None:
    shell.succeeded("one", 0.5)
    shell.succeeded("other", 0.9, **{field: "otherwise"})

    result = shell.run("compare", "one", "other")

    assert result.exit_code == 1 and result.stdout == ""
    assert f"{title}: some {field} against otherwise" in result.stderr and "--force" in result.stderr


def test_by_force_they_are_shown_but_marked_and_without_a_rank(shell: Shell) -> None:
    for name, value, split in (("one", 0.5, "some split"), ("other", 0.9, "random"), ("two", 0.6, "some split")):
        shell.succeeded(name, value, split=split)

    rows = json.loads(shell.run("compare", "one", "other", "two", "--force", "--json").stdout)["runs"]
    text = shell.run("compare", "one", "other", "two", "--force").stdout

    assert [(row["name"], row["rank"]) for row in rows] == [("two", 1), ("one", 2), ("other", None)]
    assert rows[-1]["not_comparable"] == ["split: some split against random"]
    assert "\n! other" in text


def test_macro_and_field_scores_stand_beside_the_headline(shell: Shell) -> None:
    shell.succeeded("measured", 0.75, {"macro_f1": 0.625, "field_f1": 0.875})
    shell.succeeded("earlier version", 0.5)

    rows = json.loads(shell.run("compare", "measured", "earlier version", "--json").stdout)["runs"]
    header, _, one, other = shell.run("compare", "measured", "earlier version").stdout.splitlines()[:4]

    assert [(row["macro_f1"], row["field_f1"]) for row in rows] == [(0.625, 0.875), (None, None)]
    assert re.search(r"eval_f1 +macro F1 +field F1 +DATE", header)
    assert re.search(r"0\.7500 +0\.6250 +0\.8750 ", one)
    assert re.search(r"0\.5000 +- +- ", other)


def test_a_job_of_an_earlier_version_stands_first_only_by_force(shell: Shell) -> None:
    shell.succeeded("earlier", 0.5, {"comparability": None})
    shell.succeeded("now", 0.75)

    refused = shell.run("compare", "earlier", "now")
    rows = json.loads(shell.run("compare", "earlier", "now", "--force", "--json").stdout)["runs"]

    assert refused.exit_code == 1 and "earlier has no comparability stamp" in refused.stderr
    assert [(row["name"], row["rank"]) for row in rows] == [("earlier", None), ("now", None)]


def test_a_job_without_a_score_is_not_compared(shell: Shell) -> None:
    shell.succeeded("one", 0.5)
    shell.queue.submit(name="waiting", config={"config_version": 1}, created_by="tests")

    assert "waiting is pending and has no score" in shell.run("compare", "one", "waiting").stderr


def test_one_job_is_nothing_to_compare(shell: Shell) -> None:
    shell.succeeded("one", 0.5)

    assert shell.run("compare", "one", "one").exit_code == 2


def test_jobs_selected_by_different_metrics_are_ranked_by_one_that_both_have(shell: Shell) -> None:
    of_loss = {"metric_name": "negative_eval_loss", "metric_value": -0.1, "f1": 0.8}
    shell.succeeded("by loss", 0.5, of_loss)
    shell.succeeded("by f1", 0.75, {"f1": 0.75})

    found = json.loads(shell.run("compare", "by f1", "by loss", "--json").stdout)
    best = shell.run("show", "@best", "--json")

    assert found["metric"] == "eval_f1"
    assert [(run["name"], run["metric_value"]) for run in found["runs"]] == [("by loss", 0.8), ("by f1", 0.75)]
    assert json.loads(best.stdout)["name"] == "by loss"
    assert ": eval_f1 0.8000, the best of 2 comparable jobs" in best.stderr


def test_only_the_options_that_differ_are_shown(shell: Shell) -> None:
    config: JsonObject = {"config_version": 1, "lr": 5e-5, "epochs": 3, "given": {"lr": "flag"}}
    shell.succeeded("slow", 0.5, config=config)
    shell.succeeded("fast", 0.75, config={**config, "lr": 1e-4, "given": {}})

    text = shell.run("compare", "slow", "fast").stdout
    options = json.loads(shell.run("compare", "slow", "fast", "--json").stdout)["options"]

    assert [sorted(values.values()) for values in options.values()] == [[5e-5, 1e-4]] and list(options) == ["lr"]
    assert re.search(r"differs +fast +slow\n.*\nlr +0.0001 +5e-05", text) and "epochs" not in text


def test_seeds_of_a_recipe_are_one_row_with_mean_and_deviation(shell: Shell) -> None:
    for seed, score in ((1, 0.5), (2, 0.75)):
        shell.succeeded(f"slow-{seed}", score, config={"config_version": 1, "lr": 5e-5, "seed": seed})
    shell.succeeded("fast", 0.75, config={"config_version": 1, "lr": 1e-4, "seed": 1})

    by_recipe = json.loads(shell.run("compare", "slow-1", "slow-2", "fast", "--group-by", "recipe", "--json").stdout)[
        "groups"
    ]
    text = shell.run("compare", "slow-1", "slow-2", "fast", "--group-by", "recipe").stdout

    assert [(group["name"], len(group["job_ids"]), group["mean"]) for group in by_recipe] == [
        ("fast", 1, 0.75),
        ("slow-1", 2, 0.625),
    ]
    assert by_recipe[0]["deviation"] is None and by_recipe[1]["deviation"] == pytest.approx(0.25 / 2**0.5)
    assert re.search(r"2 +slow-1 +2 +0\.6250 +0\.1768", text)


def test_jobs_of_one_tag_value_are_one_group(shell: Shell) -> None:
    for name, study in (("one", "a"), ("two", "b"), ("three", "a")):
        shell.succeeded(name, 0.5, tags={"experiment": study})

    found = json.loads(shell.run("compare", "one", "two", "three", "--group-by", "experiment", "--json").stdout)[
        "groups"
    ]

    assert [(group["name"], len(group["job_ids"])) for group in found] == [("a", 2), ("b", 1)]


def test_without_stored_predictions_the_reason_stands_in_place_of_the_interval(shell: Shell) -> None:
    shell.succeeded("one", 0.5)
    shell.succeeded("two", 0.75)

    result = shell.run("compare", "one", "two")

    assert result.exit_code == 0 and "two against one: not compared page by page: " in result.stdout


def test_best_is_the_highest_score_among_those_comparable_with_the_newest(shell: Shell) -> None:
    shell.succeeded("elsewhere", 0.99, split="another")
    shell.succeeded("best", 0.8)
    shell.succeeded("as good but later", 0.8)
    shell.succeeded("newest", 0.7)

    result = shell.run("show", "@best", "--json")
    assert json.loads(result.stdout)["name"] == "best"
    assert ": eval_f1 0.8000, the best of 3 comparable jobs; 1 more with a score are not comparable" in result.stderr


def test_best_of_one_job_says_so(shell: Shell) -> None:
    shell.succeeded("alone", 0.8)

    assert shell.run("show", "@best").stderr.rstrip().endswith("eval_f1 0.8000, the only comparable job")


def test_without_a_scored_job_or_a_stamp_best_says_what_to_do(shell: Shell) -> None:
    assert "job list" in shell.run("show", "@best").stderr
    shell.succeeded("unscored", None)
    assert "job list" in shell.run("show", "@best").stderr


def test_a_page_shows_the_differences_and_the_receipts_that_flipped(shell: Shell, tmp_path: Path) -> None:
    pages, file = tiny_pages(6), tmp_path / "compared.html"
    jobs = JudgedJobs(Store(shell.queue, Bucket("the-bucket"), Clock()), pages, tmp_path)
    jobs.end("one", {0, 1})
    jobs.end("two", {1, 2, 3})

    result = shell.run("compare", "one", "two", "--html", str(file))
    text = file.read_text()

    assert "1 page that became wrong, 2 that became right" in result.stderr
    assert all(pages[number].page_id in text for number in (0, 2, 3)) and pages[4].page_id not in text
    assert "Content-Security-Policy" in text


def test_a_page_of_three_jobs_or_without_predictions_is_refused(shell: Shell, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        shell.succeeded(name, 0.5)
    file = tmp_path / "compared.html"

    three = shell.run("compare", "one", "two", "three", "--html", str(file))
    without = shell.run("compare", "one", "two", "--html", str(file))

    assert three.exit_code == 2 and "--html shows two jobs" in three.stderr
    assert without.exit_code == 1 and "no stored predictions" in without.stderr and not file.exists()

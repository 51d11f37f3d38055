"""layoutlm-cli dataset forget: every command that makes a snapshot leaves the page out from then on."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from receipt_dynamo import DynamoClient
from tests.support.commands import ok, run
from tests.support.tiny import tiny_pages

GONE = "page-003"


def ids_of(cloud: DynamoClient, name: str, folder: Path) -> list[str]:
    """Of the newest snapshot of a name, as it is stored."""
    from receipt_layoutlm.data.snapshot import read_snapshot

    ok("dataset", "snapshot", name, "--to", str(folder / "out.jsonl.gz"))
    return [page.page_id for page in read_snapshot(folder / "out.jsonl.gz")]


MAKERS: dict[str, tuple[str, Callable[[str], list[str]]]] = {
    "import jsonl": ("pages", lambda file: ["dataset", "import", "jsonl", file]),
    "import dynamo": ("receipts", lambda file: ["dataset", "import", "dynamo"]),
    "train --data": ("pages", lambda file: ["train", "--split", "random", "--data", file]),
    "train": ("receipts", lambda file: ["train", "--split", "random"]),
    "select": ("old-subset", lambda file: ["dataset", "select", "old"]),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_every_way_to_a_snapshot_leaves_the_page_out_and_says_so(
    cloud: DynamoClient, pages: str, tmp_path: Path, maker: str
) -> None:
    name, command = MAKERS[maker]
    ok("dataset", "load", pages)
    if maker == "select":
        ok("dataset", "import", "jsonl", pages, "--name", "old")
    ok("dataset", "forget", GONE)

    result = run(*command(pages))

    assert result.exit_code == 0, result.output
    assert "forgotten page" in result.output and "excluded" in result.output
    assert cloud.get_dataset(name).counts["forgotten"] == 1
    assert sorted(ids_of(cloud, name, tmp_path)) == [page.page_id for page in tiny_pages(12) if page.page_id != GONE]


@pytest.mark.parametrize("maker", ["import jsonl", "import dynamo", "select"])
def test_a_dry_run_counts_without_it_too(cloud: DynamoClient, pages: str, maker: str) -> None:
    ok("dataset", "load", pages)
    ok("dataset", "import", "jsonl", pages, "--name", "old")
    ok("dataset", "forget", GONE)

    told = json.loads(ok(*MAKERS[maker][1](pages), "--dry-run", "--json"))

    assert told["counts"]["pages"] == 11


def test_the_snapshots_that_hold_it_are_named_and_stay_as_they_are(
    cloud: DynamoClient, pages: str, tmp_path: Path
) -> None:
    ok("dataset", "import", "jsonl", pages, "--name", "old")
    old = cloud.get_dataset("old")

    told = json.loads(ok("dataset", "forget", GONE, GONE, "--json"))

    name = f"old@{old.fingerprint}"
    assert told == {"forgotten": [GONE], "already": [], "held_by": {GONE: [name]}, "unreadable_snapshots": []}
    assert GONE in ids_of(cloud, "old", tmp_path)
    again = ok("dataset", "forget", GONE, "page-004")
    assert "1 page forgotten, 1 already forgotten" in again
    assert f"{GONE}  still in old@{old.fingerprint[:12]}" in again and "jobs pinned to them" in again


def test_a_dry_run_forgets_nothing(cloud: DynamoClient, pages: str) -> None:
    ok("dataset", "import", "jsonl", pages, "--name", "old")

    result = run("dataset", "forget", GONE, "--dry-run")

    assert "still in old@" in result.stdout and "nothing was written" in result.stderr
    assert cloud.list_forgotten() == []
    ok("dataset", "forget", GONE)
    ok("dataset", "forget", "--undo", GONE, "--dry-run")
    assert [page.page_id for page in cloud.list_forgotten()] == [GONE]


def test_undo_takes_it_back_and_list_shows_what_is_left(cloud: DynamoClient, pages: str, tmp_path: Path) -> None:
    ok("dataset", "load", pages)
    ok("dataset", "forget", GONE, "page-004")
    assert GONE in ok("dataset", "forget", "--list")

    assert json.loads(ok("dataset", "forget", "--undo", GONE, "--json")) == {"taken_back": [GONE]}

    assert [each["page_id"] for each in json.loads(ok("dataset", "forget", "--list", "--json"))] == ["page-004"]
    ok("dataset", "import", "dynamo")
    assert GONE in ids_of(cloud, "receipts", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["page-03"], 1, "did you mean 'page-003'"),
        (["--undo", GONE], 1, "'page-003' is not forgotten"),
        ([], 2, "give page ids"),
        (["--list", GONE], 2, "--list alone"),
        (["--list", "--undo"], 2, "--list alone"),
    ],
)
def test_what_makes_no_sense_is_an_error_with_the_way_out(
    cloud: DynamoClient, pages: str, arguments: list[str], code: int, text: str
) -> None:
    ok("dataset", "import", "jsonl", pages, "--name", "old")

    result = run("dataset", "forget", *arguments)

    assert (result.exit_code, text in result.stderr, "Traceback" in result.output) == (code, True, False)
    assert cloud.list_forgotten() == []

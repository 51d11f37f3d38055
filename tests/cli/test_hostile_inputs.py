"""Files and option texts that no program of ours writes: one line of error, no traceback, no control character."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from receipt_dynamo import DynamoClient, JobQueue, Storage
from receipt_layoutlm.data.page import page_to_line
from receipt_layoutlm.storage.bucket import Bucket
from tests.support.commands import run
from tests.support.hostile import complaint, damaged
from tests.support.paths import FIXTURES
from tests.support.tiny import tiny_pages

SEED: Final = 20261128
QUICK: Final = 8
LONG: Final = 3_500
"""Inputs of each kind."""

CONFIG: Final = b"""\
epochs: 3
lr: 5e-5
job_name: shop
tags: {when: 2026-05-01, by: me}
allowed_labels: [DATE, GRAND_TOTAL]
label_merges: {AMOUNT: [TAX, SUBTOTAL]}
description: |
  two
  lines
split: random
max_runtime: 3600.5
warmup_ratio: .1
"""
YAML_TOKENS: Final = (
    b"2026-99-99",
    b"2026-02-30T25:61:00Z",
    b"0000-01-01",
    b"!!timestamp x",
    b"!!python/object/apply:os.system [id]",
    b"!!python/name:os.system",
    b"!!binary /w==",
    b"!!binary x",
    b"!!set {a, b}",
    b"!!omap [a: 1]",
    b"!!pairs [a]",
    b"!!int x",
    b"!!int ''",
    b"!!float x",
    b"!!bool x",
    b"!!null x",
    b"!!str [a]",
    b"!!map [a]",
    b"!!seq {a: b}",
    b"!x y",
    b"!<tag:yaml.org,2002:int> 1_",
    b"1:60:99",
    b"0x_",
    b"0b",
    b"_1_",
    b"+.inf",
    b".nan",
    b"1" * 400,
    b"1" * 5000,
    b"&a [*a]",
    b"&a {b: *a}",
    b"*nowhere",
    b"<<: *a",
    b"<<: [1]",
    b"<<: {epochs: 2}",
    b"? [a, b]\n: c",
    b"? {a: b}\n: c",
    b"? !!binary YQ==\n: c",
    b"- ",
    b"---\n---\n",
    b"%YAML 9.9\n---\n",
    b"%TAG ! !\n---\n",
    b"@x",
    b"`x",
    b"\t",
    b"\x00",
    b"\x85",
    b"\xff",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b'"\\x1b[2J"',
    b'"\\u202e"',
    b'"\\ud800"',
    b'"\\U00110000"',
    b"\xe2\x80\xae",
    b"\x1b[2J",
    b"[" * 1_200,
    b"{a: " * 1_200,
    b"- " * 1_200,
    b"a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
    b"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
    b"g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: &h [*g,*g,*g,*g,*g,*g,*g,*g,*g]\nlabel_merges: *h\n",
)


@dataclass(frozen=True)
class Input:
    """Files of one kind below a folder, and the command that reads them."""

    files: Mapping[str, bytes]
    command: Sequence[str]
    tokens: Sequence[bytes] = ()

    def hostile(self, folder: Path, rng: random.Random) -> list[str]:
        """Write the files with one of them damaged, in an order of bytes that the generator decides."""
        target = rng.choice(sorted(self.files))
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(damaged(content, rng, self.tokens) if name == target else content)
        return [word.replace("FOLDER", str(folder)) for word in self.command]


def _files(*names: str) -> dict[str, bytes]:
    return {
        name.rpartition("/")[2] if name.endswith("jsonl") else name: (FIXTURES / name).read_bytes() for name in names
    }


def _below(folder: str) -> dict[str, bytes]:
    root = FIXTURES / folder
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


PAGES: Final = "".join(f"{page_to_line(page)}\n" for page in tiny_pages(4)).encode()
ROWS: Final = b"id,word,box,label\n" + b"".join(
    f'1,{word},"[{at}, 10, {at + 20}, 30]",{label}\n'.encode()
    for at, (word, label) in enumerate([("Corner", "B-MERCHANT_NAME"), ("2.50", "B-GRAND_TOTAL"), ("Tea", "O")])
)
SPLIT: Final = b'{"by": "page", "train": ["page-000"], "validation": ["page-001"], "test": []}'
LABEL_MAP: Final = b'{"DATE": "DATE", "GRAND_TOTAL": "O"}'


def _import(kind: str, *more: str) -> list[str]:
    return ["dataset", "import", kind, *more, "--dry-run"]


INPUTS: Final[Mapping[str, Input]] = {
    "config": Input({"c.yaml": CONFIG}, ["train", "--config", "FOLDER/c.yaml", "--dry-run", "--json"], YAML_TOKENS),
    "recipe": Input({"r.yaml": CONFIG}, ["train", "--recipe", "FOLDER/r.yaml", "--dry-run", "--json"], YAML_TOKENS),
    "cord": Input(_below("cord"), _import("cord", "FOLDER")),
    "cord_v2": Input(_below("cord_v2"), _import("cord", "FOLDER", "--keep-labels")),
    "funsd": Input(_below("funsd"), _import("funsd", "FOLDER", "--skip-bad")),
    "sroie": Input(_below("sroie"), _import("sroie", "FOLDER")),
    "wildreceipt": Input(_below("wildreceipt"), _import("wildreceipt", "FOLDER", "--skip-bad")),
    "jsonl": Input({"p.jsonl": PAGES}, _import("jsonl", "FOLDER/p.jsonl")),
    "jsonl_json": Input({"p.jsonl": PAGES}, [*_import("jsonl", "FOLDER/p.jsonl", "--skip-bad"), "--json"]),
    "csv": Input({"p.csv": ROWS}, _import("jsonl", "FOLDER/p.csv", "--skip-bad")),
    "label_map": Input(
        {"m.json": LABEL_MAP, "p.jsonl": PAGES}, _import("jsonl", "FOLDER/p.jsonl", "--label-map", "FOLDER/m.json")
    ),
    "id2label": Input(
        {"i.json": b'{"0": "O", "1": "B-DATE"}', "p.jsonl": PAGES},
        _import("jsonl", "FOLDER/p.jsonl", "--id2label", "FOLDER/i.json"),
    ),
    "split": Input(
        {"s.json": SPLIT, "p.jsonl": PAGES},
        ["dataset", "check", "FOLDER/p.jsonl", "--split", "frozen:FOLDER/s.json"],
    ),
}


def check_inputs(kind: str, folder: Path, rng: random.Random, many: int) -> None:
    for _ in range(many):
        words = INPUTS[kind].hostile(folder, rng)
        fault = complaint(run(*words))
        assert fault is None, f"{words}: {fault}"


@pytest.mark.parametrize("kind", INPUTS)
def test_no_file_ends_a_command_in_a_traceback_or_steers_the_terminal(kind: str, tmp_path: Path) -> None:
    check_inputs(kind, tmp_path, random.Random(f"{SEED} {kind}"), QUICK)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", INPUTS)
def test_no_file_does_so_in_the_long_run(kind: str, tmp_path: Path) -> None:
    check_inputs(kind, tmp_path, random.Random(f"{SEED + 1} {kind}"), LONG)


ODD_CONFIGS: Final = {
    "a date of no calendar": (b"tags: {when: 2026-99-99}", "month must be in 1..12"),
    "no UTF-8": (b"job_name: \xff", "is not in the encoding utf-8"),
    "nested too deeply": (b"tags: " + b"[" * 1_000, "nested too deeply"),
    "within itself": (b"tags: &a [*a]", "nested too deeply, or within itself"),
    "a tag that runs code": (b"tags: !!python/object/apply:os.system [id]", "could not determine a constructor"),
    "a tag that does not fit": (b"epochs: !!int x", "invalid literal"),
    "aliases of aliases": (
        b"".join(
            b"%c: &%c [%s]\n" % (97 + at, 97 + at, b",".join([b"*%c" % (96 + at) if at else b"1"] * 9))
            for at in range(9)
        ),
        "aliases stand for more than 10,000 values",
    ),
}


@pytest.mark.parametrize("odd", ODD_CONFIGS)
def test_a_config_that_cannot_be_read_is_one_line_with_the_reason(odd: str, tmp_path: Path) -> None:
    content, reason = ODD_CONFIGS[odd]
    (tmp_path / "c.yaml").write_bytes(content)
    result = run("train", "--config", str(tmp_path / "c.yaml"), "--dry-run", "--json")
    assert (result.exit_code, complaint(result)) == (2, None)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
    assert reason in line and "c.yaml" in line


@pytest.mark.parametrize("value", [b"!!binary aGk=", b"{2026-01-01: b}", b"{[a]: b}"])
def test_a_value_that_json_lacks_is_shown_with_the_option_that_refuses_it(value: bytes, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"label_merges: {A: " + value + b"}")
    result = run("train", "--config", str(tmp_path / "c.yaml"), "--dry-run", "--json")
    assert (result.exit_code, complaint(result)) == (2, None)
    assert "label-merges" in result.stderr or "c.yaml" in result.stderr


HOSTILE: Final = "a\x1b[2J\u202eb\x9b31m\u2066"


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--job-name", HOSTILE],
        ["train", "--tag", HOSTILE],
        ["train", "--guard", HOSTILE],
        ["train", f"--{HOSTILE}"],
        ["train", "--pretrained", HOSTILE, "--dry-run", "--json"],
        ["train", "--split", f"frozen:{HOSTILE}", "--dry-run", "--json"],
        ["dataset", "import", "cord", HOSTILE],
        ["job", "list", "--limit", HOSTILE],
        ["job", HOSTILE],
        [HOSTILE],
        [f"--{HOSTILE}"],
        ["job", "show", "\udcff"],
        ["train", "--label-merges", "[" * 3_000],
        ["train", "--epochs", "9" * 400, "--dry-run", "--json"],
        ["job", "prune", "--older-than", "9" * 400 + "d", "--dynamo-table", "none"],
    ],
)
def test_option_texts_are_shown_without_their_control_characters(words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code in (1, 2)
    assert complaint(result) is None


@pytest.mark.parametrize("name", ["a@b", "a b", "../up", ".hidden", "a\x1b[2Jb", "a/b", "n" * 300])
def test_names_of_datasets_are_checked_like_those_of_jobs(cloud: DynamoClient, pages: str, name: str) -> None:
    result = run("dataset", "import", "jsonl", pages, "--name", name)
    assert (result.exit_code, complaint(result)) == (2, None)
    assert "dataset name" in result.stderr and cloud.list_datasets() == []


def test_a_file_of_any_name_becomes_a_dataset_of_a_safe_one(cloud: DynamoClient, pages: str, tmp_path: Path) -> None:
    odd = Path(pages).rename(tmp_path / "my shop@2.jsonl")
    assert run("dataset", "import", "jsonl", str(odd)).exit_code == 0
    assert [dataset.name for dataset in cloud.list_datasets()] == ["my-shop-2"]


def test_a_pull_into_a_file_or_past_foreign_objects_is_one_line(cloud: DynamoClient, tmp_path: Path) -> None:
    job = JobQueue(cloud).submit(name="a", config={}, created_by="me", storage=Storage(bucket="the-bucket"))
    bucket = Bucket("the-bucket")
    for place in ("checkpoint-x/manifest.json", "checkpoint-/manifest.json", f"checkpoint-{'9' * 400}/manifest.json"):
        bucket.put_new(b"{}", f"runs/{job.job_id}/attempt-001/{place}")
    (tmp_path / "file").write_text("")
    into_file = run("job", "pull", "a", "--checkpoint", "1", "--to", str(tmp_path / "file"))
    assert into_file.exit_code == 1 and "is a file: name a new folder" in into_file.stderr
    past = run("job", "pull", "a", "--checkpoint", "1", "--to", str(tmp_path / "new"))
    assert (past.exit_code, complaint(past)) == (1, None)
    assert "no checkpoint of step 1" in past.stderr
    damaged_one = run("job", "pull", "a", "--checkpoint", "9" * 400, "--to", str(tmp_path / "new"))
    assert (damaged_one.exit_code, complaint(damaged_one)) == (1, None)

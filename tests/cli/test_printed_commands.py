"""Commands that are printed run as they are printed: with --local, table, region and bucket of the call."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from receipt_dynamo import DynamoClient, Job, JobError, JobQueue, Lease
from receipt_layoutlm.cli import cli
from receipt_layoutlm.cli.output import pasteable
from tests.support.commands import ok, run

ROOT = Path(__file__).parents[2]
PLACES = ("--dynamo-table", "the-table", "--region", "us-east-1", "--bucket", "the-bucket")
QUOTED = re.compile(r"[`']layoutlm-cli ([^`']+)[`']")
LINE = re.compile(r"^ *layoutlm-cli (.+)$", re.MULTILINE)


@pytest.fixture
def store(cloud: DynamoClient, monkeypatch: pytest.MonkeyPatch) -> JobQueue:
    """A table and a bucket that only flags name."""
    monkeypatch.delenv("DYNAMO_TABLE_NAME")
    monkeypatch.delenv("LAYOUTLM_TRAINING_BUCKET")
    return JobQueue(cloud)


def submit(store: JobQueue, name: str, queue: str = "default") -> Job:
    config = {"config_version": 1, "epochs": 3, "dataset": "shop@abc", "given": {"epochs": "flag"}}
    return store.submit(name=name, config=config, created_by="me", queue=queue)  # type: ignore[arg-type]


def claimed(queue: JobQueue, name: str) -> Lease:
    lease = queue.claim_job(submit(queue, name).job_id, "worker-1")
    assert lease is not None
    return lease


def printed(text: str) -> list[list[str]]:
    """The words of each command in a text, after the program's name."""
    return [shlex.split(command) for command in (*QUOTED.findall(text), *LINE.findall(text))]


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    command, rest = click.Command("none"), [word for word in words if word != "--local"]
    group: click.Command = cli
    while isinstance(group, click.Group) and rest and not rest[0].startswith("-"):
        inner = group.get_command(click.Context(group), rest[0])
        assert inner is not None, f"no such command: {words}"
        group = command = inner
        rest = rest[1:]
    return command, rest


def test_every_command_that_is_printed_runs_as_printed(
    store: JobQueue, pages: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nothing = [run("job", "show", "@last", *PLACES), run("train", *PLACES), run("job", "show", "gone", *PLACES)]
    nothing += [run("job", "show", "@best", *PLACES), run("dataset", "snapshot", "gone", *PLACES)]
    imported = [run("dataset", "import", "jsonl", pages, "--name", "tiny", *PLACES)]
    dry = [run("train", "--dataset", "tiny", "--split", "random", "--dry-run", *PLACES)]
    trained = [run("train", "--dataset", "tiny", "--split", "random", "--job-name", "new", *PLACES)]
    submit(store, "waiting", queue="slow")
    store.cancel(submit(store, "cancelled").job_id)
    store.fail(claimed(store, "failed"), JobError(cause="bad_data", message="no words"))
    store.fail(claimed(store, "again"), JobError(cause="killed", message="SIGSEGV"))
    store.release(claimed(store, "interrupted"), "asked to stop")
    claimed(store, "running")
    names = ("new", "waiting", "cancelled", "failed", "again", "interrupted", "running")
    told = [run("job", "wait", name, *PLACES) for name in ("cancelled", "failed")]
    told += [run("job", verb, name, *PLACES) for verb in ("why", "metrics", "logs", "retry") for name in names]
    told += [run("dataset", "forget", "page-1", *PLACES), run("train", "--dataset", "tiny", *PLACES)]

    texts = [result.output for result in (*nothing, *imported, *dry, *trained, *told)]
    commands = [words for text in texts for words in printed(text)]

    assert len(commands) > 20
    for words in commands:
        command, _ = command_of(words)
        given = {flag for param in command.params for flag in param.opts} & set(PLACES)
        assert {flag: words[words.index(flag) + 1] for flag in given} == {
            flag: value for flag, value in zip(PLACES[::2], PLACES[1::2], strict=True) if flag in given
        }
        if words[0] == "worker":  # which would wait for jobs, and train them
            continue
        result = run(*words, *(["--yes"] if "prune" in words else []))
        assert result.exit_code == 0, (words, result.output)


def test_local_may_stand_anywhere_and_printed_commands_have_it(cloud: DynamoClient) -> None:
    def root(*arguments: str) -> click.Context:
        return cli.make_context("layoutlm-cli", list(arguments))

    for arguments in (["--local", "job", "list"], ["job", "--local", "list"], ["job", "list", "--local"]):
        assert root(*arguments).params["is_local"] is True
    assert root("job", "list").params["is_local"] is False
    assert root("job", "show", "--", "--local").params["is_local"] is False

    context = root("job", "list")
    context.obj = True
    text = "`layoutlm-cli job why x`, `layoutlm-cli --local job list` and `layoutlm-cli fleet resume`; layoutlm-cli's"
    assert pasteable(text, context) == (
        "`layoutlm-cli --local job why x`, `layoutlm-cli --local job list` and `layoutlm-cli fleet resume`; "
        "layoutlm-cli's"
    )
    context.obj = False
    assert pasteable(text, context) == text


def test_a_command_in_an_error_keeps_the_table_of_the_call(store: JobQueue) -> None:
    error = run("job", "show", "gone", *PLACES).stderr

    assert "`layoutlm-cli job list --dynamo-table the-table --region us-east-1 --bucket the-bucket`" in error
    assert ok("job", "list", "--dynamo-table", "the-table", "--region", "us-east-1", "--bucket", "the-bucket")


def test_a_table_of_the_environment_is_not_repeated(cloud: DynamoClient) -> None:
    assert "`layoutlm-cli job list` shows" in run("job", "show", "gone").stderr


# texts of the source


def texts() -> Iterator[tuple[Path, str]]:
    """Literals of both packages without docstrings and help texts; a value of an f-string reads `X`."""
    for path in sorted((*(ROOT / "receipt_layoutlm").rglob("*.py"), *(ROOT / "receipt_dynamo").rglob("*.py"))):
        module = ast.parse(path.read_text())
        skipped = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
        skipped |= {
            id(inner)
            for node in ast.walk(module)
            if isinstance(node, ast.keyword) and node.arg in ("help", "short_help")
            for inner in ast.walk(node.value)
        }
        for node in ast.walk(module):
            if id(node) in skipped:
                continue
            if isinstance(node, ast.JoinedStr):
                skipped |= {id(inner) for inner in ast.walk(node)}
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
                yield path, re.sub(r"(?<=\w)\0", "", text).replace("\0", "X")
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield path, node.value


def test_each_command_of_a_text_exists_with_its_options_and_has_no_placeholder() -> None:
    found = []
    for path, text in texts():
        for match in re.finditer(r"\blayoutlm-cli ((?:--local )?[a-z][^`'\n]*)", text):
            words = match[1].split()
            if match.start() and text[match.start() - 1] in "`'":
                words = shlex.split(match[1])
            command, rest = command_of([word for word in words if word != "X"])
            flags = {flag for param in command.params for flag in param.opts} | {"--help"}
            unknown = [word for word in rest if word.startswith("--") and word not in flags]
            if unknown or any(re.fullmatch(r"(?!X+$)[A-Z]{2,}", word) for word in rest):
                found.append((path.name, text))

    assert found == []


def test_no_text_names_a_command_without_the_program() -> None:
    verbs = "job|dataset|fleet|worker|local|storage|weights|train|rescue|doctor"
    bare = re.compile(rf"[`'](?:{verbs}) [a-z-]+")

    assert [(path.name, text) for path, text in texts() if bare.search(text)] == []

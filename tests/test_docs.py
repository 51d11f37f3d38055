"""Documentation: links lead somewhere, commands exist, runnable blocks run, generated pages are current."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from receipt_layoutlm.cli import cli
from tests.support.frozen_queries import SNIPPET, STATUS_QUERY

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
REFERENCE = DOCS / "cli.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
README_LINES = 150
END_OF_COMMAND = (";", "|", "&", "<", ">", "`", "…", "...")

FENCE = re.compile(r"^(?P<marker><!-- run -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
REPOSITORY_PATH = re.compile(
    r"(?<![\w/.-])(?:receipt_dynamo|receipt_layoutlm|tests|bench|scripts|infra|docs|requirements|examples)/[\w./@-]*[\w/]"
)

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


class Block(NamedTuple):
    """A fenced block of a document."""

    language: str
    text: str
    is_runnable: bool


def blocks(path: Path) -> list[Block]:
    matches = FENCE.finditer(path.read_text())
    return [Block(match["language"], match["text"], match["marker"] is not None) for match in matches]


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text())


# --- links ---


@cache
def anchors(path: Path) -> set[str]:
    """Anchors of a document's headings, by the rule that GitHub and Python-Markdown share."""
    titles = [re.sub(r"[^\w\s-]", "", title).strip().lower() for title in HEADING.findall(prose(path))]
    return {re.sub(r"[\s-]+", "-", title) for title in titles}


def is_broken(link: str, path: Path) -> bool:
    file, _, anchor = link.partition("#")
    target = (path.parent / file).resolve() if file else path
    return not target.exists() or (anchor != "" and anchor not in anchors(target))


@each_document
def test_links_lead_to_a_file_and_a_heading(path: Path) -> None:
    links = [link for link in LINK.findall(prose(path)) if not link.startswith(("http:", "https:", "mailto:"))]

    assert [link for link in links if is_broken(link, path)] == []


@each_document
def test_headings_are_unique_within_a_document(path: Path) -> None:
    titles = Counter(HEADING.findall(prose(path)))

    assert [title for title, number in titles.items() if number > 1] == []


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_of_the_site_link_within_the_site(path: Path) -> None:
    files = [link.partition("#")[0] for link in LINK.findall(prose(path)) if not link.startswith(("http", "#"))]

    assert [file for file in files if not (path.parent / file).resolve().is_relative_to(DOCS)] == []


@each_document
def test_paths_of_the_repository_exist(path: Path) -> None:
    named = set(REPOSITORY_PATH.findall(re.sub(r"https?://\S+", "", path.read_text())))

    assert sorted(name for name in named if not (ROOT / name).exists()) == []


# --- commands ---


def commands(text: str) -> Iterator[list[str]]:
    """The words of each layoutlm-cli command in a text, up to a comment, a redirection or the next command."""
    for line in text.replace("\\\n", " ").splitlines():
        for match in re.finditer(r"(?<![\w/-])layoutlm-cli (?!\d)", line):
            if not line.lstrip().startswith("Usage:"):
                lexer = shlex.shlex(line[match.end() :], posix=True, punctuation_chars=";|&<>`")
                lexer.whitespace_split = True
                yield list(takewhile(lambda word: not word.startswith(END_OF_COMMAND), lexer))


def shown_commands() -> list[str]:
    """The commands of all blocks and of all code spans."""
    found: dict[str, None] = {}
    for path in DOCUMENTS:
        texts = [block.text for block in blocks(path)]
        texts += [span for span in re.findall(r"`([^`\n]+)`", prose(path)) if span.startswith("layoutlm-cli ")]
        found |= dict.fromkeys(shlex.join(words) for text in texts for words in commands(text))
    return [command for command in found if "COMMAND" not in command]


@pytest.mark.parametrize("line", shown_commands())
def test_a_shown_command_exists_with_its_options(line: str) -> None:
    words = [word for word in shlex.split(line) if word != "--local" and not word.startswith("$")]
    command: click.Command = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        command = command.get_command(click.Context(command), words.pop(0)) or pytest.fail(f"no such command: {line}")
    context = click.Context(command, info_name=command.name)
    try:
        _, surplus, _ = command.make_parser(context).parse_args(words)
    except click.UsageError as error:
        pytest.fail(f"{line}: {error.format_message()}")

    assert isinstance(command, click.Group) or surplus == []


def test_the_command_line_reference_is_current() -> None:
    script = ROOT / "scripts" / "cli_reference.py"
    environ = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "TMPDIR"}}
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, env=environ, cwd=ROOT)

    assert REFERENCE.read_text() == result.stdout, "docs/cli.md differs from the help texts: run scripts/cli_docs"


# --- words ---


@each_document
def test_the_terms_of_the_field_are_used(path: Path) -> None:
    """docs/glossary.md has the terms; the command line's texts have their own tests."""
    own = re.compile(
        r"\b(evaluation|training|test) part\b|\bwords O\b|\bundecided\b|\bwhoever\b|\bnobody\b", re.IGNORECASE
    )

    assert path == REFERENCE or own.findall(path.read_text()) == []


# --- README ---


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= README_LINES


def test_the_readme_has_the_queries_that_users_of_the_table_have() -> None:
    text = README.read_text()

    assert SNIPPET in text
    assert f"\n{STATUS_QUERY}\n" in text


# --- runnable blocks ---


class Shown(NamedTuple):
    """A command of a runnable block, with the output that is shown below it."""

    command: str
    output: str


def shown_runs() -> list[Shown]:
    runnable = [block.text for path in DOCUMENTS for block in blocks(path) if block.is_runnable]
    parts = [part for text in runnable for part in re.split(r"^\$ ", text, flags=re.MULTILINE) if part.strip()]
    return [Shown(*part.partition("\n")[::2]) for part in parts]


def stable_lines(output: str) -> Iterator[str]:
    """Lines that are the same in every run: words without figures, such as a table's header."""
    for line in output.splitlines():
        words = " ".join(line.split())
        if words and not re.search(r"\d|…|\.\.\.|─", words):
            yield words


def test_runnable_blocks_are_commands_of_the_local_system() -> None:
    assert len(shown_runs()) >= 8
    assert [run.command for run in shown_runs() if not run.command.startswith("layoutlm-cli --local ")] == []


@pytest.mark.engine
@pytest.mark.timeout(600)  # under a minute on two idle cores
def test_runnable_blocks_run_and_show_what_they_promise(tmp_path: Path) -> None:
    """One session in one folder, in the order of the documents. A command that is shown twice runs once."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    outputs: dict[str, str] = {}
    for command in dict.fromkeys(run.command for run in shown_runs()):
        words = [sys.executable, "-m", "receipt_layoutlm.cli", *shlex.split(command)[1:]]
        result = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
        outputs[command] = result.stdout + result.stderr
        assert result.returncode == 0, f"{command}\n{outputs[command]}"

    for command, shown in shown_runs():
        printed = " ".join(outputs[command].split())
        assert [line for line in stable_lines(shown) if line not in printed] == [], command


# --- the site ---


def mkdocs() -> list[str]:
    own = ROOT / ".venv-docs" / "bin" / "mkdocs"
    if own.exists():
        return [str(own)]
    if importlib.util.find_spec("mkdocs"):
        return [sys.executable, "-m", "mkdocs"]
    pytest.skip("mkdocs is not installed: run scripts/install_docs")


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [*mkdocs(), "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    assert result.returncode == 0, result.stdout + result.stderr

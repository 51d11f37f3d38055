"""Every command that the README shows exists, and every link leads somewhere."""

import re
import shlex
from pathlib import Path

import click
import pytest

from receipt_layoutlm.cli import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def shown_commands() -> list[str]:
    joined = README.replace("\\\n", " ")
    return re.findall(r"^\s*(layoutlm-cli [^#\n]+)", joined, flags=re.MULTILINE)


@pytest.mark.parametrize("line", shown_commands())
def test_a_command_in_the_readme_parses(line: str) -> None:
    words = [word for word in shlex.split(line)[1:] if word != "--local"]
    command: click.Command = cli
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(command), words.pop(0)) or pytest.fail(line)
    flags = {flag for option in command.params for flag in option.opts}

    assert [word for word in words if word.startswith("--") and word not in flags] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_inside_the_repository_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!http|#)([^)#]+)", path.read_text())

    assert [link for link in links if not (path.parent / link).exists()] == []

"""Texts for people: their commands run as printed, their lines fit the terminal, their states are coloured.

Rooms below write a command without the table, the region and `--local` of the call, which they do not know; `pasteable`
adds them. All that is printed is cleaned here: rows, pages and names are hostile input and must not steer a terminal.
"""

import json
import logging
import os
import re
import sys
import textwrap
from collections.abc import Mapping
from typing import Any, Final

import click
from click.core import ParameterSource

from receipt_layoutlm.redact import printable

PROGRAM: Final = "layoutlm-cli"
_PLACES: Final = f"{__name__}.places"
_COMMAND: Final = re.compile(rf"\b{PROGRAM}((?: [a-z][a-z-]*)+)")  # one with --local is complete
_QUOTED_COMMAND: Final = re.compile(rf"`{PROGRAM} [^`]*`|'{PROGRAM} [^']*'")
_COLOURS: Final = {
    "succeeded": "green",
    "ok": "green",
    "running": "cyan",
    "pending": "yellow",
    "interrupted": "yellow",
    "warning": "yellow",
    "warn": "yellow",
    "health": "yellow",
    "failed": "red",
    "lost": "red",
    "error": "red",
    "missing": "red",
    "EXPIRED": "red",
    "PAUSED": "yellow",
    "cancelled": "magenta",
}
# a cell of a table, a fact's name, or the beginning of a line: not a word inside a sentence
_STATE: Final = re.compile(rf"(?:(?<=  )|^)({'|'.join(_COLOURS)})(?=  |$|, |: )", re.MULTILINE)
_COLUMN_START: Final = re.compile(r"(?<= ) (?=\S)")
_HELD: Final = "\0"  # stands for a space at which a line does not break


class PlaceOption(click.Option):
    """An option that names the store or the fleet of a call. The commands that the call prints repeat it."""

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        value, args = super().handle_parse_result(ctx, opts, args)
        if self.name and ctx.get_parameter_source(self.name) is ParameterSource.COMMANDLINE:
            ctx.meta.setdefault(_PLACES, {})[self.opts[0]] = str(value)
        return value, args


def pasteable(text: str, ctx: click.Context | None = None) -> str:
    """Complete every command in a text with --local and the places of this call, as far as the command has them.

    In another thread than the command's, give the command's context.
    """
    ctx = ctx or click.get_current_context(silent=True)
    if ctx is None or PROGRAM not in text:
        return text
    root = ctx.find_root()
    return _COMMAND.sub(lambda match: _completed(root, match[1].split()), text)


def _completed(root: click.Context, words: list[str]) -> str:
    command, path, following = root.command, list[str](), list(words)
    while isinstance(command, click.Group) and following:
        inner = command.get_command(root, following[0])
        if inner is None:
            break
        command, path = inner, [*path, following.pop(0)]
    local = ["--local"] if root.obj and path and path[0] != "fleet" else []  # fleets exist on AWS only
    given: dict[str, str] = root.meta.get(_PLACES, {})
    flags = [param.opts[0] for param in command.params if isinstance(param, PlaceOption) and param.opts[0] in given]
    places = [word for flag in flags for word in (flag, given[flag])]
    return " ".join([PROGRAM, *local, *path, *places, *following])


def say(text: str, err: bool = False) -> None:
    """Print a text to stdout, or to stderr, for people to read and to paste from, without control characters."""
    text, width = printable(pasteable(text)), terminal_width(err)
    if width is not None:
        text = coloured("\n".join(wrapped(line, width) for line in text.split("\n")))
    click.echo(text, err=err)


def say_json(text: str) -> None:
    """Print a JSON text, in which control characters are written as JSON's escapes."""
    click.echo("".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text))


class PrintableFormatter(logging.Formatter):
    """Keeps texts of the table and of the trainer's log from steering the terminal; completes their commands."""

    def __init__(self, fmt: str) -> None:
        super().__init__(fmt)
        self._ctx = click.get_current_context(silent=True)  # threads log too, which have none

    def format(self, record: logging.LogRecord) -> str:
        return printable(pasteable(super().format(record), self._ctx))


def error_text(message: str, ctx: click.Context) -> str:
    """The message of an error, which click prints to stderr after `Error: `."""
    text, width, prefix = printable(pasteable(message, ctx)), terminal_width(err=True), "Error: "
    if width is None:
        return text
    return "\n".join(wrapped(line, width) for line in (prefix + text).split("\n")).removeprefix(prefix)


def colour_of(environ: Mapping[str, str]) -> bool | None:
    """What click takes: False for NO_COLOR and for terminals without colours, else None, which asks the stream."""
    return False if environ.get("NO_COLOR") or environ.get("TERM") == "dumb" else None


def terminal_width(err: bool = False) -> int | None:
    """Columns of the terminal behind stdout, or stderr; None, which is without limit, for a pipe or a file."""
    stream = sys.stderr if err else sys.stdout
    if not stream.isatty():
        return None
    if (columns := os.environ.get("COLUMNS", "")).isdigit():
        return max(1, int(columns))
    return os.get_terminal_size(stream.fileno()).columns or 80  # 0 where nothing has set its size


def wrapped(line: str, width: int) -> str:
    """Break a line between words. A command stays whole, since a pasted line break would cut it in two.

    The following lines begin below the last column that begins in the first half.
    """
    if len(line) <= width or line.lstrip(" $").startswith(PROGRAM):
        return line
    held = _QUOTED_COMMAND.sub(lambda match: match[0].replace(" ", _HELD), line)
    starts = [match.end() for match in _COLUMN_START.finditer(held[: width // 2])]
    indent = " " * (starts[-1] if starts else 0)
    lines = textwrap.wrap(
        held, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, replace_whitespace=False
    )
    first = held[: len(indent)]
    if lines[0].strip() == first.strip():  # the word after it is longer than a line, and would leave it alone
        lines[:2] = [first + lines[1].lstrip()]
    return "\n".join(lines).replace(_HELD, " ")


def coloured(text: str) -> str:
    """Colour the states, errors and warnings that stand in a column of their own."""
    return _STATE.sub(lambda match: click.style(match[1], fg=_COLOURS[match[1]]), text)

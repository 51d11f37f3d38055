"""Texts and tables on a terminal: no line is wider, no word is cut, no command broken, states have colours."""

import json
import logging
import os
import pty
import re
import sys

import pytest

from receipt_layoutlm.cli.output import PrintableFormatter, colour_of, coloured, say, say_json, wrapped
from receipt_layoutlm.cli.tables import Column, table

HEADER = (
    *(Column("id"), Column("name"), Column("status", wraps=True), Column("created", rank=1)),
    Column("text", rank=2, wraps=True),
)
LONG = "a long text of many words " * 3
ROWS = [
    ("888738c3", "receipts-minilm", "lost, requeued in 40 s", "2026-11-28 17:16:24 UTC", LONG),
    ("11aa22bb", "b", "succeeded", "2026-11-27 09:00:00 UTC", "short"),
]
PROGRAM = """
import sys
import os
import click
from receipt_layoutlm.cli.output import colour_of, say
from receipt_layoutlm.cli.tables import table
@click.command()
def show_table():
    say(table(("id", "status", "text"), [("1", "failed", "words " * 10)]))
    say("error     a check          " + "word " * 30)
show_table([], color=colour_of(os.environ))
"""


def widest(text: str) -> int:
    return max(len(line) for line in text.splitlines())


@pytest.mark.parametrize("width", [60, 80])
def test_a_table_is_no_wider_than_the_terminal_and_cuts_no_word(width: int) -> None:
    text = table(HEADER, ROWS, width)

    assert widest(text) <= width
    shown = {word for line in text.splitlines() if "left out" not in line for word in line.split()}
    words = {word for row in (*ROWS, [column.title for column in HEADER]) for cell in row for word in cell.split()}
    assert {"888738c3", "receipts-minilm", "lost,", "requeued", "succeeded"} <= shown
    assert {word for word in shown if set(word) != {"─"}} <= words


def test_columns_are_left_out_by_rank_and_named() -> None:
    header = (Column("a"), Column("b", rank=1), Column("c", rank=2))
    row = ("a" * 20, "b" * 20, "c" * 20)

    assert "left out" not in table(header, [row], 66)
    assert "(left out at this width: c)" in table(header, [row], 65)
    assert "(left out at this width: b, c)" in table(header, [row], 42)


def test_a_row_whose_needed_cells_are_too_wide_becomes_lines() -> None:
    text = table((Column("id"), Column("name")), [("1", "n" * 58), ("2", "m")], 60)

    assert text.splitlines() == ["id    1", f"name  {'n' * 58}", "", "id    2", "name  m"]


def test_a_word_longer_than_half_a_terminal_goes_on_below_in_full() -> None:
    text = table((Column("option"), Column("value", wraps=True)), [("dataset", "f" * 70)], 60)

    assert widest(text) <= 60 and text.count("f") == 70


def test_a_pipe_has_no_width() -> None:
    assert widest(table(HEADER, ROWS)) == 158


def test_a_line_is_wrapped_below_its_column_between_words() -> None:
    text = wrapped("warning   few pages   the training set has 32 pages, under 500", 46)

    assert text.splitlines() == ["warning   few pages   the training set has 32", " " * 22 + "pages, under 500"]


def test_a_command_is_never_broken() -> None:
    command = "`layoutlm-cli --local job pull 888738c3-578f-4546-9e8c-98dcedd78e39 --to model-888738c3`"

    assert command in wrapped(f"Its model is at s3://bucket/best/; {command} downloads it.", 60).splitlines()
    assert wrapped("  layoutlm-cli job show " + "x" * 80, 60) == "  layoutlm-cli job show " + "x" * 80


def test_states_have_colours_where_they_are_a_cell_of_their_own() -> None:
    assert coloured("1   failed   x") == "1   \x1b[31mfailed\x1b[0m   x"
    assert coloured("warning  text") == "\x1b[33mwarning\x1b[0m  text"
    assert coloured("it failed twice and has succeeded") == "it failed twice and has succeeded"


def test_no_colour_where_the_environment_says_so() -> None:
    assert colour_of({"NO_COLOR": "1"}) is False
    assert colour_of({"TERM": "dumb"}) is False
    assert colour_of({"TERM": "xterm", "NO_COLOR": ""}) is None


def on_a_terminal(columns: int, environment: dict[str, str]) -> str:
    """Output of PROGRAM on a terminal of this width."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-c", SIZE.format(columns) + PROGRAM], environment)
    output = b""
    while True:
        try:
            read = os.read(terminal, 65536)
        except OSError:  # the other end was closed
            break
        output += read
    os.waitpid(pid, 0)
    os.close(terminal)
    return output.decode().replace("\r", "")


SIZE = "import fcntl, struct, termios\nfcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack('HHHH', 40, {}, 0, 0))\n"


@pytest.mark.engine
@pytest.mark.parametrize("columns", [60, 80])
def test_on_a_real_terminal(columns: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    environment["TERM"] = "xterm"

    text = on_a_terminal(columns, environment)
    plain = on_a_terminal(columns, {**environment, "NO_COLOR": "1"})

    assert "\x1b[31mfailed\x1b[0m" in text and "\x1b[31merror\x1b[0m" in text
    assert plain == re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert widest(plain) <= columns


def test_texts_json_and_warnings_hold_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a\x1b[2J\u202eb\nc"
    say(hostile)
    say_json(json.dumps({"a": hostile}, ensure_ascii=False))
    shown = capsys.readouterr().out
    assert shown == 'a [2J b\nc\n{"a": "a\\u001b[2J\\u202eb\\nc"}\n'
    assert json.loads(shown.splitlines()[-1]) == {"a": hostile}
    record = logging.LogRecord("receipt_dynamo", logging.WARNING, "", 1, "row %s", ("\x1b[2J",), None)
    assert PrintableFormatter("warning: %(message)s").format(record) == "warning: row  [2J"

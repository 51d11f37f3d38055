"""Redaction of secrets in texts and documents, and of control characters for terminals."""

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import JsonValue  # slow to load, and every command line needs this module

SECRET_WORDS = ("TOKEN", "SECRET", "PASSWORD", "KEY")
HARMLESS_ENDS = ("_ID", "_FILE", "_PATH", "_DIR")
"""AWS_ACCESS_KEY_ID identifies without granting anything, and makes a refusal understandable; the others are paths.
Redacting a folder would hide it in every message."""

SHORTEST_SECRET = 8  # characters; a shorter text ("false", "1") occurs in ordinary words
STRUCK_OUT = "[secret]"

_URL_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")  # a proxy's, which connection errors print


def secrets_of(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The texts to redact, longest first: each line of a secret's value, and passwords in URLs."""
    values = [
        value
        for name, value in environ.items()
        if any(word in name.upper() for word in SECRET_WORDS) and not name.upper().endswith(HARMLESS_ENDS)
    ]
    lines = [line.strip() for value in values for line in value.splitlines()]
    passwords = [password for value in environ.values() for password in _URL_PASSWORD.findall(value)]
    secrets = {text for text in (*lines, *passwords) if len(text) >= SHORTEST_SECRET}
    return tuple(sorted(secrets, key=lambda text: (-len(text), text)))


def redacted(text: str, secrets: tuple[str, ...]) -> str:
    """The text without secrets, and with `?` for what no row can hold: bytes of a file's name that are no UTF-8."""
    text = text.encode(errors="replace").decode()
    for secret in secrets:
        text = text.replace(secret, STRUCK_OUT)
    return text


def redacted_document(document: "JsonValue", secrets: tuple[str, ...]) -> "JsonValue":
    """The document without secrets in its texts; keys and numbers stay."""
    match document:
        case str():
            return redacted(document, secrets)
        case list():
            return [redacted_document(value, secrets) for value in document]
        case dict():
            return {name: redacted_document(value, secrets) for name, value in document.items()}
    return document


def forms_of(secret: str) -> tuple[bytes, ...]:
    """A secret as logs show it: as it is, and as JSON and Python's repr escape it; longest first."""
    texts = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    return tuple(sorted((text.encode() for text in texts), key=len, reverse=True))


def redacted_bytes(data: bytes, secrets: tuple[str, ...]) -> bytes:
    """A part of a log without secrets in any of their forms."""
    for secret in secrets:
        for form in forms_of(secret):
            data = data.replace(form, STRUCK_OUT.encode())
    return data


def redacted_lines(data: bytes, secrets: tuple[str, ...]) -> bytes:
    """JSON lines without secrets in their texts; a line that is no JSON is redacted as text."""
    lines = data.splitlines(keepends=True)
    return b"".join(line if redacted_bytes(line, secrets) == line else _redacted_line(line, secrets) for line in lines)


def _redacted_line(line: bytes, secrets: tuple[str, ...]) -> bytes:
    try:
        document = redacted_document(json.loads(line), secrets)
    except (ValueError, RecursionError):
        return redacted_bytes(line, secrets)
    return json.dumps(document, ensure_ascii=False).encode() + b"\n" * line.endswith(b"\n")


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The trainer's environment: all variables but those of AWS. HF_TOKEN stays."""
    return {name: value for name, value in environ.items() if not name.upper().startswith("AWS_")}


def printable(text: str) -> str:
    """The text with control and direction characters replaced by spaces; line breaks stay."""
    if text.isprintable():
        return text
    shown = []
    for character in text:
        category = unicodedata.category(character)
        is_control = category[0] == "C" or category in ("Zl", "Zp")  # Zl, Zp: line ends that only some programs see
        shown.append(" " if is_control and character != "\n" else character)
    return "".join(shown)

"""Which values of an environment are secrets, what a trainer gets of it, and what a terminal may see."""

import logging

import pytest

from receipt_layoutlm.cli.run_here import PrintableFormatter
from receipt_layoutlm.cli.tables import clean
from receipt_layoutlm.redact import child_environment, printable, redacted, redacted_document, secrets_of

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLEEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "aws-secret-value",
    "AWS_SESSION_TOKEN": "aws-session-value",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/identity",
    "AWS_REGION": "us-east-1",
    "HF_TOKEN": "hf_hub_value\n",
    "HF_TOKEN_PATH": "/home/me/hub",
    "HF_HUB_OFFLINE": "1",
    "HUGGING_FACE_HUB_TOKEN": "old_hub_value",
    "my_password": "pass word 1",
    "WANDB_API_KEY": "wandb-value",
    "TOKENIZERS_PARALLELISM": "false",
    "HTTPS_PROXY": "http://me:proxy-word@proxy:3128",
    "PATH": "/usr/bin:/bin",
}
SECRETS = ("aws-secret-value", "aws-session-value", "hf_hub_value", "old_hub_value", "pass word 1", "wandb-value")


def test_a_secret_is_known_by_its_name_and_a_proxys_password_by_its_place() -> None:
    assert set(secrets_of(ENVIRONMENT)) == {*SECRETS, "proxy-word"}


@pytest.mark.parametrize("secret", [*SECRETS, "proxy-word"])
def test_a_secret_is_struck_out_wherever_it_stands(secret: str) -> None:
    text = redacted(f"Illegal header value b'Bearer {secret}\\n' for {secret}", secrets_of(ENVIRONMENT))

    assert secret not in text
    assert text == "Illegal header value b'Bearer [secret]\\n' for [secret]"


def test_a_secret_that_holds_another_one_is_struck_out_whole() -> None:
    secrets = secrets_of({"A_TOKEN": "12345678", "B_TOKEN": "12345678-and-more"})

    assert redacted("12345678-and-more 12345678", secrets) == "[secret] [secret]"


def test_each_line_of_a_key_is_a_secret_because_a_log_is_cut_between_lines() -> None:
    secrets = secrets_of({"SSH_PRIVATE_KEY": "-----BEGIN-----\nbm90IGEga2V5\n-----END-----\n"})

    assert redacted("the tail begins here\nbm90IGEga2V5\n", secrets) == "the tail begins here\n[secret]\n"


def test_secrets_are_struck_out_of_a_documents_texts() -> None:
    document = {"path": ["x-12345678", {"note": "12345678"}], "lr": 0.12345678, "steps": 12345678, "none": None}

    assert redacted_document(document, ("12345678",)) == {
        "path": ["x-[secret]", {"note": "[secret]"}],
        "lr": 0.12345678,
        "steps": 12345678,
        "none": None,
    }


def test_a_name_of_a_file_that_is_no_utf_8_can_be_stored() -> None:
    assert redacted("/data/b\udcffd is missing", ()) == "/data/b?d is missing"


def test_what_is_no_secret_stays_readable() -> None:
    text = "false: AKIAEXAMPLEEXAMPLE is refused in us-east-1, see /home/me/hub and /var/run/identity"

    assert redacted(text, secrets_of(ENVIRONMENT)) == text


def test_a_trainer_gets_nothing_of_aws_and_everything_else() -> None:
    given = child_environment({**ENVIRONMENT, "aws_profile": "mine"})

    assert given == {name: value for name, value in ENVIRONMENT.items() if not name.startswith("AWS_")}
    assert {"HF_TOKEN", "HF_HUB_OFFLINE", "PATH"} <= given.keys()


HOSTILE = ["\x1b[31m", "\x07", "\x9b2J", "\r", "\t", "\x00", "\u202e", "\u2066", "\u200f", "\ufeff", "\u2028", "\x85"]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_steers_a_terminal_becomes_a_space(hostile: str) -> None:
    shown = printable(f"before{hostile}after\nnext line: 日本 é €")

    assert shown == f"before {hostile[1:]}after\nnext line: 日本 é €"
    assert clean(f"a{hostile}\nb") == f"a {hostile[1:]} b"


def test_the_workers_own_log_shows_lines_and_no_escapes() -> None:
    record = logging.LogRecord(
        "receipt_layoutlm.worker", logging.ERROR, "", 0, "%s\n%s", ("\x1b]0;x\x07", "tail"), None
    )

    assert PrintableFormatter("%(levelname)s: %(message)s").format(record) == "ERROR:  ]0;x \ntail"

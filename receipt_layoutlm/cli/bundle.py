"""doctor --bundle: what somebody needs to help with a job, as one archive that is shown before it is written.

Without secrets, and without words of pages: predictions and datasets are left out, of events only numbers, and of
messages and logs what stands in quotation marks, since errors quote the words that they are about.
"""

import json
import os
import platform
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click
from pydantic import JsonValue

from receipt_dynamo import Job, JsonObject
from receipt_layoutlm.cli.connection import Connection
from receipt_layoutlm.cli.find import find_named_job
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.tables import clean, timeline_text
from receipt_layoutlm.jobs.rerun import rerun_command
from receipt_layoutlm.jobs.timeline import timeline
from receipt_layoutlm.jobs.why import why
from receipt_layoutlm.jobs.why_facts import facts_of
from receipt_layoutlm.redact import STRUCK_OUT, redacted, secrets_of
from receipt_layoutlm.run.record import versions
from receipt_layoutlm.storage.errors import StorageError
from receipt_layoutlm.storage.keys import RunKeys

PACKAGES: Final = ("receipt-layoutlm", "boto3", "pydantic", "pynamodb", "torch", "transformers", "safetensors", "numpy")
LOG_LINES: Final = 200  # of the end of train.log
_LEFT_OUT: Final = frozenset({"confusion", "per_label", "class_weights", "test", "health"})  # of the results
_QUOTED: Final = re.compile(r"""(?<!File )("[^"\n]*"|'[^'\n]*'|“[^”\n]*”|«[^»\n]*»)""")
_SECRET_FORMS: Final = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bhf_[A-Za-z0-9]{20,}|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)|(?<=:)\d{12}(?=:)"
)


def write_bundle(connection: Connection, reference: str, target: Path | None, confirmed: bool) -> None:
    """Show the bundle of a job, then write it, once a person has confirmed that it may be."""
    queue = connection.queue()
    job = find_named_job(queue.client, reference)
    path = target or Path(f"bundle-{job.job_id[:8]}.zip")
    if path.exists():
        raise click.ClickException(f"{path} exists: name another file with --to")
    facts = facts_of(queue, job.job_id)
    attempts = list(facts.attempts)
    secrets = secrets_of(os.environ)
    texts = {
        "command.txt": f"layoutlm-cli {rerun_command(job, {})}",
        "config.json": json.dumps(job.job_config, indent=1),
        "job.json": json.dumps(_job_document(job), indent=1),
        "why.txt": _unquoted(why(facts)),
        "timeline.txt": timeline_text(timeline(job, facts.lease, attempts, facts.now))
        if attempts
        else "no attempt yet",
        "events.jsonl": "\n".join(
            json.dumps(
                {
                    **each.model_dump(mode="json", include={"timestamp", "level", "event", "attempt", "seq"}),
                    "message": _unquoted(each.message),
                    "data": numbers_of(each.data),
                }
            )
            for each in queue.client.iter_job_logs(job.job_id)
        ),
        "train.log": _train_log(connection, job),
        "versions.txt": versions_text(),
    }
    page_ids = tuple(job.error.page_ids) if job.error else ()  # often names of files, which may be those of merchants
    shown = {name: _SECRET_FORMS.sub(STRUCK_OUT, redacted(text, (*secrets, *page_ids))) for name, text in texts.items()}
    for name, text in shown.items():
        say(f"── {name} ({len(text):,} characters)\n{clean_lines(text)}")
    if not confirmed:
        click.confirm(f"write this to {path}?", abort=True)
    with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED) as archive:
        for name, text in shown.items():
            archive.writestr(name, text)
    say(f"{path}: {path.stat().st_size:,} bytes", err=True)


def clean_lines(text: str) -> str:
    """The text for a terminal, line by line."""
    return "\n".join(map(clean, text.splitlines()))


def numbers_of(document: JsonObject) -> JsonValue:
    """The numbers of a document by their names, without its texts."""

    def kept(value: JsonValue) -> JsonValue:
        if isinstance(value, Mapping):
            return {name: inner for name, each in value.items() if (inner := kept(each)) not in (None, {})}
        return value if isinstance(value, bool | int | float) else None

    return kept(document)


def versions_text() -> str:
    """Versions of this machine: system, Python, and the packages that a run uses."""
    installed = versions(PACKAGES)
    packages = (f"{name} {installed.get(name, 'not installed')}" for name in PACKAGES)
    return "\n".join((f"{platform.platform()}, Python {installed['python']}", *packages))


def _job_document(job: Job) -> JsonObject:
    results = {name: value for name, value in (job.results or {}).items() if name not in _LEFT_OUT}
    error: JsonValue = None
    if job.error is not None:
        error = {
            "cause": job.error.cause,
            "message": _unquoted(job.error.message),
            "pages": len(job.error.page_ids),
            "log_tail": _unquoted(job.error.log_tail),
        }
    row: JsonObject = job.model_dump(
        mode="json", exclude={"job_config", "results", "error", "created_by", "description"}
    )
    return {**row, "results": results, "error": error}


def _train_log(connection: Connection, job: Job) -> str:
    if job.storage is None or not job.attempt:
        return "no log in the bucket"
    key = RunKeys(job.storage, job.job_id).attempt(job.attempt) + "logs/train.log"
    try:
        data = connection.open_bucket(job.storage.bucket).get_bytes(key)
    except StorageError as error:
        return f"cannot be read: {error}"
    return _unquoted("\n".join(data.decode(errors="replace").splitlines()[-LOG_LINES:]))


def _unquoted(text: str) -> str:
    return _QUOTED.sub("'…'", text)

"""The model and the labelled pages of evaluate and calibrate, as they are named on the command line."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from receipt_layoutlm.cli.completion import job_names
from receipt_layoutlm.cli.connection import Connection, require, store_options
from receipt_layoutlm.cli.find import find_named_job
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.paths import cache_dir
from receipt_layoutlm.references import is_in_bucket

if TYPE_CHECKING:
    from receipt_dynamo import Job
    from receipt_layoutlm.data.page import Page
    from receipt_layoutlm.data.splits import DatasetSplit

F = TypeVar("F", bound=Callable[..., Any])


class NoPages(UserError):
    """There are no pages to judge the model by; the text says which to name."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model's folder here, its own place (a folder or s3://), and its job if one was named.

    split: the job's pages, for the commands that judge the model by pages.
    """

    name: str
    folder: Path
    place: Path | str
    job: "Job | None"
    split: "DatasetSplit | None" = None


def subject_options(command: F) -> F:
    """Add MODEL, --dataset, --data, --json and the store's options; the command receives a Subject and its pages."""

    @click.argument("model", shell_complete=job_names)
    @click.option("--dataset", metavar="NAME", help="Labelled pages: a dataset.")
    @click.option(
        "--data", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Labelled pages: a JSONL file."
    )
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @store_options
    @wraps(command)
    def wrapped(connection: Connection, model: str, dataset: str | None, data: Path | None, **values: Any) -> Any:
        if dataset is not None and data is not None:
            raise click.UsageError("--dataset and --data both name pages: give one of the two")
        require("train")
        from receipt_layoutlm.jobs.held_out import split_of_job

        subject = open_subject(connection, model)
        if subject.job is not None:
            subject = replace(subject, split=split_of_job(connection.open_bucket, subject.job))
        return command(connection=connection, subject=subject, pages=named_pages(connection, dataset, data), **values)

    return wrapped  # type: ignore[return-value]


def open_subject(connection: Connection, model: str) -> Subject:
    """The model in a folder, at s3://BUCKET/PREFIX, or the best of a job."""
    from receipt_layoutlm.jobs.models import best_uri, model_at

    if Path(model).is_dir():
        return Subject(model, Path(model), Path(model), None)
    cache = cache_dir(os.environ)
    if is_in_bucket(model):
        return Subject(model, model_at(connection.open_bucket, model, cache), model, None)
    job = find_named_job(connection.client(), model)
    place = best_uri(connection.open_bucket, job)
    folder = model_at(connection.open_bucket, place, cache)
    return Subject(f"job {job.name}", folder, place, job)


def named_pages(connection: Connection, dataset: str | None, data: Path | None) -> "list[Page] | None":
    """The pages of --dataset or --data; None if neither was given."""
    from receipt_layoutlm.data.snapshot import read_jsonl
    from receipt_layoutlm.datasets.checks import stored_pages
    from receipt_layoutlm.datasets.snapshots import find_dataset

    if data is not None:
        return read_jsonl(data)
    if dataset is None:
        return None
    bucket = connection.open_bucket(connection.default_bucket())
    return stored_pages(bucket, find_dataset(connection.client(), dataset))

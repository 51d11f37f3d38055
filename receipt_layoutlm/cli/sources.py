"""Pages that predict and overlay read, and the model that they use."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from receipt_dynamo import ReceiptClient
from receipt_layoutlm.cli.completion import dataset_names, job_names
from receipt_layoutlm.cli.connection import Connection, require
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.tables import clean
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.jobs.find import BEST
from receipt_layoutlm.paths import cache_dir
from receipt_layoutlm.references import is_in_bucket
from receipt_layoutlm.run.manifest import ONNX_MODEL

if TYPE_CHECKING:
    from receipt_layoutlm.extractor import Extractor
    from receipt_layoutlm.inference.scans import ScanOptions
    from receipt_layoutlm.inference.sources import InputPage, ReadLines

F = TypeVar("F", bound=Callable[..., Any])

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
RuntimeChoice = Literal["auto", "torch", "onnx"]


def input_options(command: F) -> F:
    """Add the arguments and options that name pages and a model, and how both are used."""
    return with_options(command, INPUT_OPTIONS[:1], MODEL_OPTIONS[:2], INPUT_OPTIONS[1:], MODEL_OPTIONS[2:])


def predictor_options(command: F) -> F:
    """Add the options that name a model and how it is used."""
    return with_options(command, MODEL_OPTIONS)


def with_options(command: F, *groups: Sequence[Callable[[F], F]]) -> F:
    """Add options in this order."""
    for option in reversed([option for group in groups for option in group]):
        command = option(command)
    return command


INPUT_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.argument("sources", nargs=-1, metavar="[SOURCE]...", type=click.Path(path_type=Path)),
    click.option("--dataset", metavar="NAME", shell_complete=dataset_names, help="Read the pages of a dataset."),
    click.option("--receipt", "receipts", multiple=True, metavar="PAGE_ID", help="Read a receipt of the table."),
)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Device to compute on.",
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="CPU threads (default: the CPUs it may use)."
)
runtime_option = click.option(
    "--runtime",
    type=click.Choice(["auto", "torch", "onnx"]),
    default="auto",
    show_default=True,
    help="Library that computes; auto: onnx (onnxruntime, on the CPU) for a folder of `model export`, else torch.",
)
MODEL_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--job",
        "reference",
        metavar="JOB",
        shell_complete=job_names,
        help=f"Use the best model of this job (default: {BEST}).",
    ),
    click.option("--model", metavar="PLACE", help="Use the model in this folder, or at s3://BUCKET/PREFIX."),
    click.option(
        "--date-order",
        type=click.Choice(["dmy", "mdy"]),
        help="How to read 01/02/2018. Without it, a date that could be either has no value.",
    ),
    device_option,
    runtime_option,
    threads_option,
)


def check_one_model(reference: str | None, model: str | None) -> None:
    """Raises UsageError if --job and --model are both given."""
    if reference is not None and model is not None:
        raise click.UsageError("--job and --model both name a model: give one of the two")


@dataclass(frozen=True, slots=True)
class Input:
    """A file, a receipt or a page of a dataset, and how its pages are read."""

    name: str
    read: Callable[[], Iterable["InputPage"]]


def open_extractor(
    connection: Connection,
    reference: str | None,
    model: str | None,
    device: DeviceName,
    threads: int | None,
    runtime: RuntimeChoice,
    date_order: Literal["dmy", "mdy"] | None,
    max_error: float | None = None,
) -> "Extractor":
    """The model of --job or --model; notes on it go to stderr."""
    is_exported = runtime == "auto" and model is not None and (Path(model) / ONNX_MODEL).is_file()
    require("onnx" if runtime == "onnx" or is_exported else "train")
    from receipt_layoutlm.extractor import Extractor, model_folder
    from receipt_layoutlm.inference.predictor import Predictor
    from receipt_layoutlm.inference.scans import ScanOptions

    place = reference or BEST if model is None else model if is_in_bucket(model) else Path(model)
    folder = model_folder(place, connection.client, connection.open_bucket, cache_dir(os.environ))
    scans = ScanOptions(threads=threads)
    predictor = Predictor.load(folder, device, threads, runtime)
    extractor = Extractor.open(predictor, folder, date_order, max_error, scans)
    for note in extractor.predictor.notes:
        say(f"note: {note}", err=True)
    return extractor


def files(sources: Iterable[Path], options: "ScanOptions", read_lines: "ReadLines") -> list[Input]:
    """Files, and those in folders; files of words are read by `read_lines`. Raises DataError."""
    from receipt_layoutlm.inference.sources import files_of, read_pages

    return [
        Input(str(path), partial(read_pages, path, options, lambda *_: None, read_lines)) for path in files_of(sources)
    ]


def stored(connection: Connection, dataset: str | None, receipts: Iterable[str]) -> list[Input]:
    """The pages of a dataset and receipts of the table. Raises NotFound for the dataset."""
    from receipt_layoutlm.datasets.checks import stored_pages
    from receipt_layoutlm.datasets.receipt_pages import page_of_receipt
    from receipt_layoutlm.datasets.snapshots import find_dataset
    from receipt_layoutlm.inference.sources import InputPage

    def receipt(page_id: str) -> list[InputPage]:
        return [InputPage(page_of_receipt(ReceiptClient(connection.client()), page_id), page_id, 1)]

    inputs = []
    if dataset is not None:
        found = find_dataset(connection.client(), dataset, "dataset")
        pages = stored_pages(connection.open_bucket(connection.default_bucket()), found)
        for number, page in enumerate(pages, start=1):
            inputs.append(Input(dataset, partial(list, [InputPage(page, dataset, number)])))
    return [*inputs, *(Input(page_id, partial(receipt, page_id)) for page_id in receipts)]


def pages_of(
    inputs: Iterable[Input],
    is_done: Callable[["InputPage"], bool],
    failed: dict[str, str],
    on_progress: Callable[[float], None],
) -> Iterator["InputPage"]:
    """The pages that are not done yet. An input that cannot be read is added to `failed`, and the next one follows.

    `on_progress` gets the number of inputs read, with the share of the pages of the one that is being read.
    """
    for before, each in enumerate(inputs):
        try:
            for page in each.read():
                if not is_done(page):
                    yield page
                on_progress(before + page.number / page.count)
        except UserError as error:
            failed[each.name] = str(error)
        on_progress(before + 1)


def say_failed(failed: Mapping[str, str]) -> None:
    """A line on stderr for each file that could not be read."""
    for name, reason in failed.items():
        say(f"error: {clean(reason if name in reason else f'{name}: {reason}')}", err=True)

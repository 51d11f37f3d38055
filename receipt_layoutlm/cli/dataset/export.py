"""layoutlm-cli dataset export: pages of a dataset for annotation tools."""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import click

from receipt_layoutlm.cli.completion import dataset_names, job_names
from receipt_layoutlm.cli.connection import Connection, store_options
from receipt_layoutlm.cli.dataset.import_files import as_json_option
from receipt_layoutlm.cli.lazy_group import FullHelpGroup
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.sources import check_one_model, open_extractor
from receipt_layoutlm.cli.tables import clean
from receipt_layoutlm.data.images import find_image, image_names, images_by_name
from receipt_layoutlm.data.label_studio import Proposal, labelling_interface, task_of
from receipt_layoutlm.data.labels import CORE_LABELS, OUTSIDE
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import label_counts
from receipt_layoutlm.data.tags import iob2
from receipt_layoutlm.datasets.checks import stored_pages
from receipt_layoutlm.datasets.snapshots import find_dataset, pinned

if TYPE_CHECKING:
    from receipt_layoutlm.inference.extraction import Extraction

LOCAL_FILES: Final = "/data/local-files/?d="
"""Address of Label Studio's local storage."""


@click.group(cls=FullHelpGroup)
def export() -> None:
    """Write the pages of a dataset for an annotation tool."""


@export.command("label-studio")
@click.argument("spec", metavar="NAME[@FINGERPRINT]", shell_complete=dataset_names)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("tasks.json"),
    show_default=True,
    help="File of the tasks; the labelling interface is written beside it as .xml.",
)
@click.option(
    "--job",
    "reference",
    metavar="JOB",
    shell_complete=job_names,
    help="Propose the labels that the best model of this job predicts (default: the labels of the dataset).",
)
@click.option("--model", metavar="PLACE", help="The same with the model in this folder, or at s3://BUCKET/PREFIX.")
@click.option(
    "--images",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the pages' images, named by SHA-256, file name or page id; tasks then have their real names.",
)
@click.option(
    "--image-url",
    default=LOCAL_FILES,
    show_default=True,
    help="What Label Studio finds before the name of an image: local storage, or an address.",
)
@as_json_option
@store_options
def label_studio_tasks(
    connection: Connection,
    spec: str,
    output: Path,
    reference: str | None,
    model: str | None,
    images: Path | None,
    image_url: str,
    as_json: bool,
) -> None:
    """Write Label Studio tasks with labels as pre-annotations, to review them there.

    Paste the .xml into the project's labelling interface, import the .json, review, and export as JSON. `dataset import
    label-studio` brings the labels back: words and boxes are the same but for those that were changed.
    """
    check_one_model(reference, model)
    found = find_dataset(connection.client(), spec)
    pages = stored_pages(connection.open_bucket(connection.default_bucket()), found)
    files = {} if images is None else {name: path.relative_to(images) for name, path in images_by_name(images).items()}

    def address(page: Page) -> str:
        path = find_image(page, files)
        return image_url + quote(str(path or image_names(page)[0]))

    proposals = [Proposal(page, address(page), pinned(found)) for page in pages]
    labels = {*label_counts(pages)}
    if reference is not None or model is not None:
        proposals, known = _predicted(connection, reference, model, proposals)
        labels |= known
    interface = write_tasks(output, proposals, labels)
    if as_json:
        click.echo(json.dumps({"tasks": str(output), "interface": str(interface), "pages": len(pages)}, indent=1))
    else:
        say(f"{clean(output)}: {len(pages)} tasks of {pinned(found)}\n{clean(interface)}: the labelling interface")
    missing = [page.page_id for page in pages if find_image(page, files) is None]
    if images is not None and missing:
        say(f"{len(missing)} pages have no image in {clean(images)}, such as {clean(missing[0])}", err=True)


def write_tasks(output: Path, proposals: Sequence[Proposal], labels: Collection[str]) -> Path:
    """Write the tasks and, beside them, the labelling interface, whose path is returned."""
    output.write_text(json.dumps([task_of(each) for each in proposals], indent=1, ensure_ascii=False), encoding="utf-8")
    interface = output.with_suffix(".xml")
    interface.write_text(labelling_interface(sorted(labels) or CORE_LABELS), encoding="utf-8")
    return interface


def _predicted(
    connection: Connection, reference: str | None, model: str | None, proposals: Sequence[Proposal]
) -> tuple[list[Proposal], set[str]]:
    """The pages with the tags and confidences of a model, and the labels that it knows."""
    extractor = open_extractor(connection, reference, model, "auto", None, "auto", None)
    from receipt_layoutlm.inference.sources import InputPage

    given = [InputPage(each.page, each.image, 1) for each in proposals]
    found = extractor.extract(given)
    return [as_predicted(each, by) for each, by in zip(proposals, found, strict=True)], set(extractor.labels)


def as_predicted(proposal: Proposal, extraction: "Extraction") -> Proposal:
    """The page with the tags and confidences of a model."""
    entity_of = {index: number for number, entity in enumerate(extraction.entities) for index in entity.words}
    tags = iob2(
        [
            OUTSIDE if word.label == OUTSIDE else (entity_of.get(index, -1), word.label)
            for index, word in enumerate(extraction.words)
        ]
    )
    confidences = [word.confidence for word in extraction.words]
    page = replace(proposal.page, tags=tags)
    return replace(proposal, page=page, model=extraction.model[:12], confidences=confidences)

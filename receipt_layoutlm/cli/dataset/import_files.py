"""layoutlm-cli dataset import: pages from files of several formats and generated pages."""

import codecs
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from receipt_dynamo import Dataset, utcnow
from receipt_layoutlm.cli.connection import Connection, require, store_options
from receipt_layoutlm.cli.dataset.forget import kept_pages
from receipt_layoutlm.cli.dataset.import_text import described_text, import_report_text, json_text
from receipt_layoutlm.cli.lazy_group import FullHelpGroup
from receipt_layoutlm.cli.output import say, say_json
from receipt_layoutlm.cli.progress import counting_bar
from receipt_layoutlm.cli.tables import clean
from receipt_layoutlm.data.boxes import BoxOptions, BoxOrder, BoxUnit, Origin
from receipt_layoutlm.data.importers import import_pages, load_format
from receipt_layoutlm.data.importers.label_table import check_all_used, core_table, own_table, read_label_map
from receipt_layoutlm.data.importers.plausibility import refuse_unlabelled
from receipt_layoutlm.data.jsonl import ReadOptions
from receipt_layoutlm.data.order_check import order_findings
from receipt_layoutlm.data.page import DEFAULT_ORDER, DataError, Page, WordOrder, bad_lines
from receipt_layoutlm.data.source_text import TextOptions
from receipt_layoutlm.data.tag_schemes import TagOptions, TagScheme, parse_id2label
from receipt_layoutlm.datasets.page_images import image_digests, put_images
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset
from receipt_layoutlm.references import as_dataset_name
from receipt_layoutlm.storage.bucket import Bucket

F = TypeVar("F", bound=Callable[..., Any])

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Read and check everything; write nothing.")
label_map_option = click.option(
    "--label-map",
    "label_map_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.json",
    help='Other names for labels: {"their label": "our label"}; "O" drops a label, "-" leaves its words unlabelled.',
)
skip_bad_option = click.option(
    "--skip-bad", is_flag=True, help="Skip files and lines that cannot be used, and list them."
)


def check_encoding(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Callback of an option that names an encoding."""
    try:
        return codecs.lookup(value).name if value else None
    except LookupError as error:
        raise click.BadParameter(f"{value!r} is not a known encoding, such as gb18030, big5 or cp1252") from error


encoding_option = click.option(
    "--encoding",
    callback=check_encoding,
    metavar="NAME",
    help="Encoding of files that are not UTF-8 or UTF-16, such as gb18030 or cp1252.",
)
unlabelled_option = click.option(
    "--unlabelled",
    "unlabelled_pages",
    flag_value="accept",
    default="refuse",
    help="Import the pages although no word has a label.",
)
unit_option = click.option(
    "--boxes",
    "box_unit",
    type=click.Choice([unit.value for unit in BoxUnit]),
    help="Unit of the boxes; percent is 0..100, pixels need width and height (default: as the values tell).",
)
keep_labels_option = click.option(
    "--keep-labels", is_flag=True, help="Keep the labels of the data instead of renaming them."
)
order_option = click.option(
    "--order",
    type=click.Choice(get_args(WordOrder)),
    default=DEFAULT_ORDER,
    show_default=True,
    help="How the words of a page are read: by their boxes, or in the order of the file.",
)


@click.group("import", cls=FullHelpGroup)
def import_() -> None:
    """Import pages from files or a generator as a snapshot."""


def source_options(command: F) -> F:
    """Adds the arguments and options of an import from files."""
    return added(
        command,
        click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)),
        click.option("--name", help="Name of the dataset (default: the first file's or folder's name)."),
        label_map_option,
        order_option,
        encoding_option,
        unlabelled_option,
        skip_bad_option,
        dry_run_option,
        as_json_option,
        store_options,
    )


def added(command: F, *options: Callable[[F], F]) -> F:
    """The command with the options, in their order."""
    for option in reversed(options):
        command = option(command)
    return command


def arrangement_options(command: F) -> F:
    """Adds the options for the arrangement of a box's numbers."""
    return added(
        command,
        click.option(
            "--box-order",
            type=click.Choice([order.value for order in BoxOrder]),
            help="Order of a box's numbers; w and h are width and height, cx and cy the centre "
            "(default: x0y0x1y1, refused if implausible).",
        ),
        click.option(
            "--origin",
            type=click.Choice([origin.value for origin in Origin]),
            help="Corner from which y counts (default: top-left, refused if implausible).",
        ),
    )


def tag_options(command: F) -> F:
    """Adds the options for the scheme of the tags."""
    return added(
        command,
        click.option(
            "--tags",
            "scheme",
            type=click.Choice([scheme.value for scheme in TagScheme]),
            help="Scheme of the tags; bare labels have no B- and I- (default: as the tags tell).",
        ),
        click.option(
            "--id2label", metavar="FILE|JSON", help="Names of class numbers: a list, an object or a config.json."
        ),
    )


@import_.command()
@source_options
@unit_option
@arrangement_options
@tag_options
def jsonl(connection: Connection, **given: Any) -> None:
    """Import JSONL files, one page a line; several files become one dataset.

    \b
    id | page_id                  the page
    words | tokens                texts
    bboxes | boxes                [x0, y0, x1, y1] in 0..1000, origin top-left
    labels | ner_tags | tags      O, B-LABEL, I-LABEL
    group                         merchant (else key.company, else the page itself)

    Also read: a JSON array of pages, CSV with columns id, word, box, label; IOBES and BILOU tags; boxes in shares of
    the page, or in pixels where width and height stand in each line. The report names what was told from the data.
    Boxes or tags that cannot be right are refused with the option that reads them.

    A file with bad lines is refused, with lines and reasons; --skip-bad skips only these.
    """
    import_as(connection, "jsonl", keep_labels=True, **given)


@import_.command()
@keep_labels_option
@source_options
@arrangement_options
def sroie(connection: Connection, **given: Any) -> None:
    """Import SROIE: folders that hold box, key and img.

    \b
    box/000.csv     x1,y1,x2,y2,x3,y3,x4,y4,text for each printed line
    key/000.json    company -> MERCHANT_NAME, date -> DATE, address -> ADDRESS_LINE, total -> GRAND_TOTAL
    img/000.jpg     only its size is read

    The folders of Kaggle (entities in place of key) and of the competition's tasks 1 and 2 are read too.

    Lines are split into words in proportion to their characters. The values of key are searched in the words, ignoring
    spacing, punctuation and case; company and address may differ by one edit in five characters. Of several words with
    the value of the total the one on a line with TOTAL is labelled, else the largest, else the last. The report has the
    number of values found.
    """
    import_as(connection, "sroie", **given)


@import_.command()
@keep_labels_option
@source_options
def cord(connection: Connection, **given: Any) -> None:
    """Import CORD v1 or v2: folders or files of .json, .jsonl or .parquet.

    \b
    menu.nm, menu.sub_nm                             PRODUCT_NAME
    menu.cnt, menu.sub_cnt                           QUANTITY
    menu.unitprice, menu.sub_unitprice               UNIT_PRICE
    menu.price, menu.sub_price, menu.itemsubtotal    LINE_TOTAL
    menu.discountprice, sub_total.discount_price     DISCOUNT
    sub_total.subtotal_price                         SUBTOTAL
    sub_total.tax_price                              TAX
    total.total_price                                GRAND_TOTAL
    total.changeprice                                CHANGE
    captions of cash, card and e-money (.key)        PAYMENT_METHOD
    other captions and categories                    O (dropped, and counted in the report)

    The caption (is_key) of a category is CATEGORY.key in a label map. With --keep-labels it is part of the entity, as
    in published results. Parquet needs pyarrow (extra hf).
    """
    import_as(connection, "cord", **given)


@import_.command()
@keep_labels_option
@source_options
@arrangement_options
def funsd(connection: Connection, **given: Any) -> None:
    """Import FUNSD: folders with annotations/*.json and images/*.png, or the .json files.

    \b
    question    QUESTION
    answer      ANSWER
    header      HEADER
    other       O

    Each block is one entity. Links between blocks are omitted.
    """
    import_as(connection, "funsd", **given)


@import_.command()
@keep_labels_option
@source_options
def xfund(connection: Connection, **given: Any) -> None:
    """Import XFUND: its .json files with many documents each; labels are those of FUNSD.

    \b
    question    QUESTION
    answer      ANSWER
    header      HEADER
    other       O

    Each block is one entity. Links between blocks are omitted. The size of an image is in the file.
    """
    import_as(connection, "xfund", **given)


@import_.command()
@keep_labels_option
@source_options
def wildreceipt(connection: Connection, **given: Any) -> None:
    """Import WildReceipt: its folder, or train.txt and test.txt (class_list.txt beside them).

    \b
    Store_name_value       MERCHANT_NAME     Prod_price_value    LINE_TOTAL
    Store_addr_value       ADDRESS_LINE      Subtotal_value      SUBTOTAL
    Tel_value              PHONE_NUMBER      Tax_value           TAX
    Date_value             DATE              Tips_value          TIP
    Time_value             TIME              Total_value         GRAND_TOTAL
    Prod_item_value        PRODUCT_NAME      captions (_key)     O (dropped, and counted)
    Prod_quantity_value    QUANTITY          Ignore, Others      O
    """
    import_as(connection, "wildreceipt", **given)


@import_.command()
@click.option(
    "--pages", "count", type=click.IntRange(min=2), default=300, show_default=True, help="Number of receipts."
)
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same receipts.")
@click.option("--name", default="sample", show_default=True, help="Name of the dataset.")
@dry_run_option
@as_json_option
@store_options
def sample(connection: Connection, count: int, seed: int, name: str, dry_run: bool, as_json: bool) -> None:
    """Generate plausible receipts: several merchant layouts, item tables, totals, jitter, OCR noise."""
    require("local")
    from receipt_layoutlm.data.sample import generate_pages

    described = store_dataset(connection, name, generate_pages(count, seed), f"sample seed {seed}", dry_run)
    if as_json:
        say_json(described.model_dump_json(indent=1))
    else:
        say(described_text(described))


def import_as(
    connection: Connection,
    format_name: str,
    *,
    paths: tuple[Path, ...],
    name: str | None,
    label_map_file: Path | None,
    order: WordOrder,
    encoding: str | None,
    unlabelled_pages: str,
    skip_bad: bool,
    dry_run: bool,
    as_json: bool,
    keep_labels: bool = False,
    box_unit: str | None = None,
    box_order: str | None = None,
    origin: str | None = None,
    scheme: str | None = None,
    id2label: str | None = None,
) -> None:
    """Imports files of a format as a dataset, and prints the report."""
    label_map = read_label_map(label_map_file) if label_map_file else {}
    source_format = load_format(format_name)
    renames = (
        own_table(source_format.own_labels, label_map) if keep_labels else core_table(source_format.labels, label_map)
    )

    options = ReadOptions(
        TextOptions(encoding),
        BoxOptions(
            BoxUnit(box_unit) if box_unit else None,
            BoxOrder(box_order) if box_order else None,
            Origin(origin) if origin else None,
        ),
        TagOptions(TagScheme(scheme) if scheme else None, parse_id2label(id2label) if id2label else None),
        order,
    )
    bad: list[DataError] = []
    pages, report = import_pages(format_name, paths, renames, bad.append, options)
    if bad and not skip_bad:  # else the report lists them
        raise bad_lines(bad)
    if unlabelled_pages == "refuse" and not source_format.may_be_unlabelled:
        refuse_unlabelled(pages)
    check_all_used(label_map, [*source_format.labels, *(label for names in report.renamed.values() for label in names)])
    given = {"--name": name, "--label-map": label_map_file, "--encoding": encoding, "--boxes": box_unit}
    given |= {"--box-order": box_order, "--origin": origin, "--tags": scheme, "--id2label": id2label}
    again = ["dataset", "import", format_name, *map(str, paths)]
    again += [text for option, value in given.items() if value is not None for text in (option, str(value))]
    flags = {"--keep-labels": keep_labels and bool(source_format.labels), "--skip-bad": skip_bad}
    flags["--unlabelled"] = unlabelled_pages == "accept"
    again += [flag for flag, is_given in flags.items() if is_given]
    keep_order = f"`layoutlm-cli {shlex.join(again)} --order given`"
    order_notes = order_findings(report.torn, report.learned, keep_order)
    if any(note.severity == "error" for note in order_notes):
        raise DataError(order_notes[0].message)
    source = " ".join([format_name, *(path.name for path in paths)])
    first = paths[0].resolve()
    default_name = as_dataset_name(first.name if first.is_dir() else Path(first.name.removesuffix(".gz")).stem)
    described = store_dataset(connection, name or default_name, pages, source, dry_run)
    if as_json:
        say_json(json_text(described, report))
    else:
        say(import_report_text(described, report, renames))
    for note in order_notes:
        say(f"{note.severity}: {clean(note.message)}", err=True)


def store_dataset(
    connection: Connection,
    name: str,
    pages: Sequence[Page],
    source: str,
    dry_run: bool,
    pictures: Mapping[str, Path] | None = None,
) -> Dataset:
    """Stores the pages that are not forgotten as the newest snapshot; in a dry run only describes it.

    pictures: files to store with the pages that name them by their SHA-256.
    """
    if dry_run and not connection.has_table():
        kept, forgotten, now = pages, 0, utcnow()
    else:
        client = connection.client()
        kept, left_out = kept_pages(client, pages)
        forgotten, now = len(left_out), client.now()
    described = describe_dataset(name, kept, source, now, forgotten)
    if dry_run:
        say("nothing was written (--dry-run)", err=True)
        return described
    bucket = connection.open_bucket(connection.default_bucket())
    if pictures:
        store_pictures(bucket, {digest: pictures[digest] for digest in image_digests(kept)})
    return add_snapshot(connection.client(), bucket, described, kept)


def store_pictures(bucket: Bucket, files: Mapping[str, Path]) -> None:
    """Stores pictures by their SHA-256, and tells on stderr how many were sent."""
    with counting_bar("storing pictures", len(files)) as on_image:
        sent = put_images(bucket, files, on_image)
    known = f", {len(files) - sent} were there already" if sent < len(files) else ""
    say(f"{sent} pictures stored in the bucket{known}", err=True)

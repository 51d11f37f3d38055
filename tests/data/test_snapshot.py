"""Pages: what an import takes and refuses, snapshots and fingerprints, splits and samples."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from receipt_layoutlm.data.jsonl import normalised_name
from receipt_layoutlm.data.page import DataError, Page, page_from_line, page_to_line
from receipt_layoutlm.data.snapshot import (
    fingerprint,
    label_counts,
    read_jsonl,
    read_snapshot,
    sample_pages,
    write_snapshot,
)
from tests.support.paths import SHARED

SROIE = SHARED / "sroie"

PLAIN: dict[str, JsonValue] = {
    "page_id": "a",
    "words": ["Shop", "9.00"],
    "boxes": [[10, 10, 200, 30], [800, 10, 900, 30]],
    "tags": ["B-MERCHANT_NAME", "O"],
}


def imported(folder: Path, *documents: dict[str, JsonValue]) -> list[Page]:
    path = folder / "given.jsonl"
    path.write_text("".join(f"{json.dumps(document)}\n" for document in documents))
    return read_jsonl(path)


def page(page_id: str, group: str = "g", word: str = "x") -> Page:
    return Page(page_id, group, (word,), ((0, 0, 10, 10),), ("B-DATE",), 100, 200)


def test_a_plain_line_becomes_a_page(tmp_path: Path) -> None:
    assert imported(tmp_path, PLAIN) == [
        Page(
            page_id="a",
            group="a",
            words=("Shop", "9.00"),
            boxes=((10, 10, 200, 30), (800, 10, 900, 30)),
            tags=("B-MERCHANT_NAME", "O"),
            width=1000,
            height=1000,
        )
    ]


@pytest.mark.parametrize("tags", ["tags", "labels", "ner_tags"])
@pytest.mark.parametrize("boxes", ["boxes", "bboxes"])
@pytest.mark.parametrize("words", ["words", "tokens"])
@pytest.mark.parametrize("page_id", ["page_id", "id"])
def test_every_accepted_name_is_read(tmp_path: Path, page_id: str, words: str, boxes: str, tags: str) -> None:
    renamed = {page_id: "a", words: PLAIN["words"], boxes: PLAIN["boxes"], tags: PLAIN["tags"]}
    assert imported(tmp_path, renamed) == imported(tmp_path, PLAIN)


def test_size_image_and_float_boxes_are_taken_over(tmp_path: Path) -> None:
    (given_page,) = imported(
        tmp_path,
        {**PLAIN, "width": 463, "height": 1013, "image": "d1", "boxes": [[9.6, 10.0, 200.4, 30], [800, 10, 900, 30]]},
    )
    assert (given_page.width, given_page.height, given_page.image) == (463, 1013, "d1")
    assert given_page.boxes[0] == (10, 10, 200, 30)


@pytest.mark.parametrize(
    ("extra", "group"),
    [
        ({"group": "Given", "key": {"company": "Other"}}, "Given"),
        ({"key": {"company": "  B.I.G   Store (KL) Sdn. Bhd. "}}, "b i g store kl sdn bhd"),
        ({"key": {"company": "***", "total": "9.00"}}, "a"),
        ({"key": {"company": None}}, "a"),
        ({}, "a"),
    ],
)
def test_the_group_is_the_given_one_else_the_company_else_the_page(
    tmp_path: Path, extra: dict[str, JsonValue], group: str
) -> None:
    assert imported(tmp_path, {**PLAIN, **extra})[0].group == group


def test_companies_that_differ_in_case_and_punctuation_are_one_group() -> None:
    assert normalised_name("MR. D.I.Y (Johor)") == normalised_name("mr d i y  johor")


def test_an_inside_tag_without_a_beginning_opens_an_entity(tmp_path: Path) -> None:
    document: dict[str, JsonValue] = {
        "id": "a",
        "words": list("vwxyz"),
        "boxes": [[0, 0, 9, 9]] * 5,
        "tags": ["I-A", "I-A", "I-B", "O", "I-B"],
    }
    assert imported(tmp_path, document)[0].tags == ("B-A", "I-A", "B-B", "O", "B-B")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tags": ["O"]}, "2 words, 2 boxes, 1 tags"),
        ({"words": ["one"]}, "1 words, 2 boxes, 2 tags"),
        ({"boxes": [[0, 0, 10, 10]]}, "2 words, 1 boxes, 2 tags"),
        ({"boxes": [[0, 0, 1001, 10], [0, 0, 10, 10]]}, "box 0 .* outside the page"),
        ({"boxes": [[0, 0, 10, 10], [-0.2, 0, 10, 10]]}, "box 1 .* outside the page"),
        ({"boxes": [[0, 0, 10, 10], [20, 0, 10, 10]]}, "box 1 .* inverted"),
        ({"boxes": [[0, 0, 10, 10], [0, 20, 10, 10]]}, "box 1 .* inverted"),
        ({"boxes": [[0, 0, 0.5, 0.1], [0.5, 0, 1.0, 0.1]]}, "shares of the page"),
        ({"boxes": [[0, 0, 10], [0, 0, 10, 10]]}, "box"),
        ({"boxes": [["left", 0, 10, 10], [0, 0, 10, 10]]}, "box"),
        ({"tags": ["B-DATE", "DATE"]}, "tag 1 'DATE' is not BIO: write B-DATE"),
        ({"tags": ["B-DATE", "X-DATE"]}, "tag 1 'X-DATE' is not BIO: write B-DATE"),
        ({"tags": ["B-DATE", "B-MY DATE"]}, "label 'MY DATE' is not valid: write MY_DATE"),
        ({"tags": ["B-DATE", "B-"]}, "tag 1 'B-' is not BIO"),
        ({"tags": ["B-DATE", "B"]}, "tag 1 'B' is not BIO"),
        ({"tags": [1, 0]}, "class numbers"),
        ({"words": ["Shop", " "]}, "word 1 is empty"),
        ({"words": ["Shop", "\ud800"]}, "surrogate|JSON"),
        ({"words": [], "boxes": [], "tags": []}, "no words"),
        ({"words": None}, "words"),
        ({"page_id": None}, "page_id: Input should be a valid string"),
        ({"page_id": ""}, "page id and group must not be empty"),
        ({"width": 0}, "width 0"),
        ({"key": "company"}, "key"),
    ],
)
def test_what_is_wrong_is_refused_with_file_line_and_reason(
    tmp_path: Path, change: dict[str, JsonValue], reason: str
) -> None:
    with pytest.raises(DataError, match=reason) as refusal:
        imported(tmp_path, {**PLAIN, "page_id": "before"}, {**PLAIN, **change})
    assert (refusal.value.file, refusal.value.line) == (str(tmp_path / "given.jsonl"), 2)
    assert str(refusal.value) == f"{tmp_path / 'given.jsonl'}:2: {refusal.value.reason}"


@pytest.mark.parametrize("line", ["{", "[]", "null", '{"page_id": "b"}', "\xff"])
def test_a_line_that_is_no_page_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "given.jsonl"
    path.write_bytes(f"{json.dumps(PLAIN)}\n\n".encode() + line.encode("latin-1"))
    with pytest.raises(DataError) as refusal:
        read_jsonl(path)
    assert refusal.value.line == 3


def test_a_file_that_needs_an_option_names_the_command_that_has_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--id2label .* \(options of 'layoutlm-cli dataset import jsonl'\)"):
        imported(tmp_path, {**PLAIN, "tags": [1, 0]})


def test_a_second_page_of_one_id_is_refused_and_names_the_first(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'a' is already used in line 1") as refusal:
        imported(tmp_path, PLAIN, PLAIN)
    assert refusal.value.line == 2


def test_an_empty_a_missing_and_a_torn_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pages"):
        imported(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_jsonl(tmp_path / "absent.jsonl")
    torn = tmp_path / "torn.gz"
    torn.write_bytes(gzip.compress(json.dumps(PLAIN).encode())[:-9])
    with pytest.raises(DataError, match="cannot be read"):
        read_jsonl(torn)


def test_gzip_byte_order_mark_windows_line_ends_and_blank_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "given.jsonl.gz"
    path.write_bytes(gzip.compress(f"\ufeff{json.dumps(PLAIN)}\r\n\r\n".encode()))
    assert read_jsonl(path) == imported(tmp_path, PLAIN)


words = st.text(min_size=1, max_size=8).filter(lambda text: not text.isspace())
boxes = st.tuples(*[st.integers(0, 500)] * 2, *[st.integers(500, 1000)] * 2)
entries = st.tuples(words, boxes, st.sampled_from(["O", "B-A", "B-B"]))


@st.composite
def any_pages(draw: st.DrawFn) -> Page:
    given_words, given_boxes, tags = zip(*draw(st.lists(entries, min_size=1, max_size=5)), strict=True)
    size = st.integers(1, 5000)
    image = draw(st.none() | words)
    return Page(draw(words), draw(words), given_words, given_boxes, tags, draw(size), draw(size), image)


@given(any_pages())
def test_a_page_survives_its_line(given_page: Page) -> None:
    line = page_to_line(given_page)
    assert "\n" not in line
    assert page_from_line(line) == given_page


def test_a_line_that_holds_no_valid_page_is_refused() -> None:
    with pytest.raises(ValueError, match="tag 0 'I-DATE' continues no DATE"):
        page_from_line(page_to_line(page("a")).replace("B-DATE", "I-DATE"))


def test_a_snapshot_gives_the_pages_back_and_is_the_same_file_each_time(tmp_path: Path) -> None:
    pages = [page("b", word="\u2028 Zürich \u0085"), page("a")]
    first = write_snapshot(pages, tmp_path / "one.jsonl.gz")
    assert first == write_snapshot(pages, tmp_path / "two.jsonl.gz") == fingerprint(pages)
    content = (tmp_path / "one.jsonl.gz").read_bytes()
    assert content == (tmp_path / "two.jsonl.gz").read_bytes()
    assert content[3:8] == bytes(5)  # neither a name nor a time in the header
    assert read_snapshot(tmp_path / "one.jsonl.gz", expected_fingerprint=first) == pages
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.jsonl.gz", "two.jsonl.gz"]


def test_the_fingerprint_is_that_of_the_uncompressed_lines(tmp_path: Path) -> None:
    pages = [page("a")]
    recompressed = tmp_path / "recompressed.gz"
    recompressed.write_bytes(gzip.compress(f"{page_to_line(pages[0])}\n".encode(), compresslevel=1))
    assert read_snapshot(recompressed, fingerprint(pages)) == pages
    assert fingerprint([page("a", word="y")]) != fingerprint(pages)


def test_a_snapshot_with_another_fingerprint_or_damage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dataset.jsonl.gz"
    found = write_snapshot([page("a")], path)
    with pytest.raises(DataError, match=f"fingerprint is {found}, expected {'0' * 64}"):
        read_snapshot(path, "0" * 64)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match="cannot be read"):
        read_snapshot(path)


def test_a_sample_is_seeded_nested_and_independent_of_the_order() -> None:
    pages = [page(f"{i:03d}") for i in range(50)]
    small = sample_pages(pages, 5, seed=3)
    assert len(small) == 5
    assert small == sample_pages(pages[::-1], 5, seed=3)
    assert set(small) < set(sample_pages(pages, 20, seed=3))
    assert small != sample_pages(pages, 5, seed=4)
    assert sample_pages(pages, 99, seed=3) == pages


def test_entities_are_counted_by_their_beginnings() -> None:
    one = Page("a", "g", tuple("vwxy"), ((0, 0, 9, 9),) * 4, ("B-B", "I-B", "B-B", "B-A"), 1, 1)
    assert list(label_counts([one, page("b")]).items()) == [("A", 1), ("B", 2), ("DATE", 1)]


@pytest.mark.skipif(not SROIE.exists(), reason=f"no real receipts in {SROIE}")
def test_real_receipts_are_read_and_share_no_merchant() -> None:
    train, dev = read_jsonl(SROIE / "train.jsonl"), read_jsonl(SROIE / "dev.jsonl")
    assert (len(train), len(dev)) == (346, 203)
    assert not {p.group for p in train} & {p.group for p in dev}
    assert label_counts(train) == {"ADDRESS_LINE": 345, "DATE": 448, "GRAND_TOTAL": 346, "MERCHANT_NAME": 346}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"Blocks": [{"BlockType": "PAGE"}]}', "this is output of AWS Textract: layoutlm-cli dataset import textract"),
        ("level\tpage_num\tblock_num\n1\t1\t0\n", "this is Tesseract's TSV"),
        ('{"form": [{"words": []}]}', "this is FUNSD: layoutlm-cli dataset import funsd "),
    ],
)
def test_a_file_of_another_tool_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "export.tsv"
    path.write_text(text)
    with pytest.raises(DataError, match=reason):
        read_jsonl(path)

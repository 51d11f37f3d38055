"""Tags of other schemes become the same labels and entities as BIO; what is no tag is refused with its right form."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from receipt_layoutlm.data.jsonl import ReadOptions, read_labelled_lines
from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.data.tag_schemes import Tag, TagOptions, TagScheme, class_label_names, parse_id2label

BIO = ["B-NAME", "I-NAME", "O", "B-DATE", "B-TOTAL", "B-TOTAL", "I-TOTAL"]


def tags(tmp_path: Path, *given: Sequence[Tag], options: TagOptions | None = None) -> list[tuple[str, ...]]:
    path = tmp_path / "pages.jsonl"
    boxes = [[40 * number, 10, 40 * number + 30, 30] for number in range(7)]
    path.write_text(
        "".join(
            json.dumps({"id": str(number), "words": list("abcdefg"), "bboxes": boxes, "labels": labels}) + "\n"
            for number, labels in enumerate(given)
        )
    )
    bad: list[DataError] = []
    pages: list[Page] = [
        line.page() for line in read_labelled_lines(path, ReadOptions(tags=options or TagOptions()), bad.append)
    ]
    if bad:
        raise bad[0]
    return [page.tags for page in pages]


@pytest.mark.parametrize(
    "given",
    [
        BIO,
        [tag.lower().replace("name", "NAME").replace("date", "DATE").replace("total", "TOTAL") for tag in BIO],
        [tag.replace("-", "_", 1) for tag in BIO],
        [tag.replace("-", ":", 1) for tag in BIO],
        [tag.replace("-", "\u2013", 1) for tag in BIO],
        [tag.replace("-", " ", 1) for tag in BIO],
        [tag if tag != "O" else "" for tag in BIO],
        ["B-NAME", "E-NAME", "O", "S-DATE", "S-TOTAL", "B-TOTAL", "E-TOTAL"],
        ["B_NAME", "E_NAME", None, "S_DATE", "S_TOTAL", "B_TOTAL", "E_TOTAL"],
        ["B-NAME", "L-NAME", "O", "U-DATE", "U-TOTAL", "B-TOTAL", "L-TOTAL"],
        ["B-NAME", "E-NAME", "O", "S-DATE", "E-TOTAL", "B-TOTAL", "M-TOTAL"],
        ["B-NAME", "E-NAME", "O", "W-DATE", "W-TOTAL", "B-TOTAL", "E-TOTAL"],
        ["BEGIN-NAME", "INSIDE-NAME", "OUTSIDE", "BEGIN-DATE", "BEGIN-TOTAL", "BEGIN-TOTAL", "INSIDE-TOTAL"],
        ["begin_NAME", "last_NAME", "out", "unit_DATE", "unit_TOTAL", "begin_TOTAL", "last_TOTAL"],
        ["BEG NAME", "IN NAME", "O", "BEG DATE", "BEG TOTAL", "BEG TOTAL", "IN TOTAL"],
        *([tag if tag != "O" else word for tag in BIO] for word in ("other", "None", "N/A", "_", "0")),
    ],
)
def test_every_scheme_gives_the_same_entities(tmp_path: Path, given: list[Tag]) -> None:
    assert tags(tmp_path, given) == [tuple(BIO)]


def test_inside_tags_alone_join_adjacent_words(tmp_path: Path) -> None:
    io = ["I-NAME", "I-NAME", "O", "I-DATE", "I-TOTAL", "I-TOTAL", "-"]
    assert tags(tmp_path, io) == [("B-NAME", "I-NAME", "O", "B-DATE", "B-TOTAL", "I-TOTAL", "-")]


def test_bare_labels_need_the_option(tmp_path: Path) -> None:
    bare = ["NAME", "NAME", "O", "E-MAIL", "TOTAL", "TOTAL", "B_LOCK"]
    with pytest.raises(DataError, match=r"bare labels such as .*--tags bare"):
        tags(tmp_path, bare)
    assert tags(tmp_path, bare, options=TagOptions(TagScheme.BARE)) == [
        ("B-NAME", "I-NAME", "O", "B-E-MAIL", "B-TOTAL", "I-TOTAL", "B-B_LOCK")
    ]


def test_labels_that_begin_like_spelled_prefixes_stay_labels(tmp_path: Path) -> None:
    given = ["B-UNIT_PRICE", "I-UNIT_PRICE", "O", "B-END_DATE", "B-LAST_NAME", "B-BEGIN_DATE", "O"]
    assert tags(tmp_path, given) == [tuple(given)]
    bare = ["UNIT_PRICE", "UNIT_PRICE", "O", "END_DATE", "LAST_NAME", "BEGIN_DATE", "TOTAL"]
    with pytest.raises(DataError, match="bare labels"):
        tags(tmp_path, bare)


def test_a_word_for_no_label_is_a_label_where_tags_have_no_prefix(tmp_path: Path) -> None:
    bare = ["NAME", "NAME", "other", "DATE", "TOTAL", "TOTAL", "0"]
    assert tags(tmp_path, bare, options=TagOptions(TagScheme.BARE)) == [
        ("B-NAME", "I-NAME", "B-other", "B-DATE", "B-TOTAL", "I-TOTAL", "O")
    ]


def test_marks_at_the_end_are_refused_with_the_right_form(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="end in their mark, such as 'DATE-B': write B-DATE"):
        tags(tmp_path, [f"{tag[2:]}-{tag[0]}" if tag != "O" else tag for tag in BIO])
    spelled = ["NAME_BEGIN", "NAME_INSIDE", "O", "DATE_BEGIN", "DATE_BEGIN", "NAME_BEGIN", "O"]
    with pytest.raises(DataError, match="end in their mark, such as 'DATE_BEGIN': write B-DATE"):
        tags(tmp_path, spelled)


def test_a_scheme_that_is_given_refuses_other_tags(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tag 3 'S-DATE' is not BIO: write B-DATE"):
        tags(tmp_path, [*BIO[:3], "S-DATE", *BIO[4:]], options=TagOptions(TagScheme.BIO))


def test_a_bare_label_among_others_is_refused_with_its_right_form(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pages.jsonl:2: tag 6 'TOTAL' is not BIO: write B-TOTAL, or O"):
        tags(tmp_path, BIO, [*BIO[:6], "TOTAL"])


def test_class_numbers_need_names(tmp_path: Path) -> None:
    numbers: list[Tag] = [1, 2, 0, 3, 4, "4", 5.0]  # type: ignore[list-item]
    names = '["O", "B-NAME", "I-NAME", "B-DATE", "B-TOTAL", "I-TOTAL"]'
    with pytest.raises(DataError, match=r"class numbers 0\.\.5: name them with --id2label"):
        tags(tmp_path, numbers)
    assert tags(tmp_path, numbers, options=TagOptions(id2label=parse_id2label(names))) == [tuple(BIO)]
    with pytest.raises(DataError, match="class 5 has no name"):
        tags(tmp_path, numbers, options=TagOptions(id2label={0: "O", 1: "B-A", 2: "I-A", 3: "B-B", 4: "B-C"}))


def test_ignored_positions_are_unlabelled(tmp_path: Path) -> None:
    names = TagOptions(id2label={0: "O", 1: "B-A"})
    assert tags(tmp_path, [0, 1, -100, 0, 0, 0, 0], options=names) == [("O", "B-A", "-", "O", "O", "O", "O")]


@pytest.mark.parametrize(
    "text",
    [
        '["O", "B-A"]',
        '{"0": "O", "1": "B-A"}',
        '{"O": 0, "B-A": 1}',
        '{"model_type": "layoutlm", "id2label": {"0": "O", "1": "B-A"}}',
        '{"features": {"ner_tags": {"feature": {"names": ["O", "B-A"], "_type": "ClassLabel"}}}}',
    ],
)
def test_names_of_classes_are_read_from_lists_objects_and_configs(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    assert parse_id2label(text) == parse_id2label(str(path)) == {0: "O", 1: "B-A"}


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"a": "b"}', "absent.json"])
def test_what_names_no_classes_is_refused(text: str) -> None:
    with pytest.raises(DataError):
        parse_id2label(text)


def test_the_names_beside_a_data_set_are_used(tmp_path: Path) -> None:
    features = {"features": {"ner_tags": {"feature": {"names": ["O", "B-A"], "_type": "ClassLabel"}}}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(features))
    assert tags(tmp_path, [0, 1, 0, 0, 0, 0, 0]) == [("O", "B-A", "O", "O", "O", "O", "O")]
    assert class_label_names({"rows": [1]}) is None


@pytest.mark.parametrize("form", ["{1}-{0}", "{1}.{0}", "{1}_{0}"])
def test_marks_at_the_end_are_told_though_no_entity_has_two_words(tmp_path: Path, form: str) -> None:
    given = [form.format("B", "NAME") if tag != "O" else tag for tag in BIO]
    with pytest.raises(DataError, match=r"end in their mark, .* write B-NAME"):
        tags(tmp_path, given)


def test_a_tag_with_another_separator_is_refused_with_its_own_mark(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tag 1 'I_NAME' is not BIO: write I-NAME "):
        tags(tmp_path, ["B-NAME", "I_NAME", *BIO[2:]])


def test_placeholders_name_no_classes() -> None:
    with pytest.raises(DataError, match="only placeholders such as LABEL_0"):
        parse_id2label('{"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}')


def test_class_names_may_stand_a_line_each_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("O\nB-NAME\nI-NAME\n")
    assert parse_id2label(str(tmp_path / "labels.txt")) == {0: "O", 1: "B-NAME", 2: "I-NAME"}


def test_negative_class_numbers_may_have_names(tmp_path: Path) -> None:
    names = {-1: "O", 0: "B-NAME", 1: "I-NAME"}
    assert tags(tmp_path, [0, 1, -1, -1, -1, -1, 0], options=TagOptions(id2label=names)) == [
        ("B-NAME", "I-NAME", "O", "O", "O", "O", "B-NAME")
    ]

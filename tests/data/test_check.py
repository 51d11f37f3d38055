"""The check of a dataset: every problem is a finding, and clean pages have none."""

import json
import random
import zlib
from importlib.util import find_spec
from pathlib import Path

import pytest

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.check import CheckInput, check_dataset, estimated_sub_tokens
from receipt_layoutlm.data.check_report import CheckReport, Finding
from receipt_layoutlm.data.frozen_split import FrozenSplit
from receipt_layoutlm.data.images import check_images
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import read_jsonl, survey_jsonl
from tests.support.paths import SHARED

SROIE = SHARED / "sroie"


def page(page_id: str, group: str, *tags: str, words: int = 12) -> Page:
    """Random words under these tags; what is left has no label."""
    draw = random.Random(page_id)
    texts = tuple(str(draw.randrange(10**6)) for _ in range(words))
    return Page(page_id, group, texts, ((0, 0, 9, 9),) * words, (*tags, *("O",) * (words - len(tags))), 100, 200)


def clean_pages(count: int = 700, *tags: str) -> list[Page]:
    return [page(f"p{i}", f"g{i // 2}", *(tags or ("B-DATE", "B-TAX"))) for i in range(count)]


def checked(pages: list[Page], frozen: FrozenSplit | None = None, **options: object) -> CheckReport:
    return check_dataset(CheckInput(pages, frozen=frozen), WordLabelsConfig.model_validate(options))


def found(report: CheckReport, check: str) -> Finding:
    (finding,) = (finding for finding in report.findings if finding.check == check)
    return finding


def names(report: CheckReport) -> set[str]:
    return {finding.check for finding in report.findings}


CLEAN = clean_pages(800)


def test_clean_pages_have_sets_and_labels_and_no_findings() -> None:
    report = checked(CLEAN, test_ratio=0.1)

    assert report.findings == ()
    assert report.pages == {"train": 560, "evaluation": 160, "test": 80}
    assert report.kept["DATE"] == {"train": 560, "evaluation": 160, "test": 80}


def test_the_report_shows_what_whitelist_and_merges_make_of_each_label() -> None:
    report = checked(
        clean_pages(700, "B-DATE", "B-TAX", "B-TIP"), merge_amounts=True, allowed_labels=["DATE", "AMOUNT"]
    )

    assert {row.label: row.becomes for row in report.labels} == {"DATE": "DATE", "TAX": "AMOUNT", "TIP": None}
    assert report.labels[0].entities == 700


@pytest.mark.parametrize(
    ("options", "check"),
    [
        ({"allowed_labels": ["TOTL"]}, "labels"),
        ({"merge_preset": "amount"}, "labels"),
        ({"allowed_labels": ["TIP"]}, "nothing_to_learn"),
    ],
)
def test_options_under_which_nothing_could_be_learned_are_errors(options: dict[str, object], check: str) -> None:
    finding = found(checked(CLEAN, **options), check)

    assert finding.severity == "error"


def test_pages_that_cannot_be_divided_are_an_error() -> None:
    assert found(checked([page("a", "g", "B-DATE")]), "split").severity == "error"
    assert found(checked([]), "empty").severity == "error"


def test_missing_frozen_keys_are_an_error_that_lists_them() -> None:
    report = checked(CLEAN, FrozenSplit(validation=("p1", "nowhere")), split="frozen:x")

    assert "validation: nowhere" in found(report, "split").message


def test_pages_that_a_frozen_split_does_not_name_are_a_finding() -> None:
    frozen = FrozenSplit(train=tuple(f"p{i}" for i in range(500, 699)), validation=("p0",))

    assert found(checked(CLEAN, frozen, split="frozen:x"), "left_out").message.startswith("600 page(s)")


def test_a_validation_set_without_entities_is_an_error() -> None:
    given = CheckInput(CLEAN, validation=[page("e", "other")])

    report = check_dataset(given, WordLabelsConfig(eval_dataset="e"))

    assert found(report, "nothing_to_evaluate").severity == "error"


def test_few_examples_and_imbalance_are_named_with_their_counts() -> None:
    pages = [page(f"p{i}", f"g{i // 2}", "B-DATE", *(["B-TIP"] if i % 25 == 0 else [])) for i in range(700)]

    report = checked(pages)

    assert "TIP 2" in found(report, "few_examples").message
    assert found(report, "imbalance").examples == ("DATE", "TIP")


def test_of_very_many_labels_the_rarest_are_named_and_the_others_counted() -> None:
    tags = [*(f"B-SKU_{number}" for number in range(200)), "B-SKU_7"]
    pages = [page(f"p{number}", f"g{number}", *tags, words=len(tags)) for number in range(10)]
    message = found(checked(pages), "few_examples").message
    assert message.endswith(" and 190 more") and len(message) < 300
    assert "SKU_7 " not in message


def test_a_label_without_examples_in_one_set_is_a_finding() -> None:
    pages = [*CLEAN, page("rare", "a group", "B-TIP")]

    assert found(checked(pages, allowed_labels=["TIP", "DATE"], seed=1), "no_examples").examples == ("TIP",)


def test_a_misspelt_label_is_a_finding_with_the_nearest_core_label_and_own_labels_are_not() -> None:
    misspelt = checked([*CLEAN, page("x", "g", "B-GRAND_TOTL")])
    own = checked(clean_pages(700, "B-QUESTION", "B-ANSWER"))
    mixed = checked(clean_pages(700, "B-DATE", "B-ANSWER"))

    assert "did you mean GRAND_TOTAL?" in found(misspelt, "unknown_label").message
    assert "unknown_label" not in names(own)
    assert found(mixed, "unknown_label").examples == ("ANSWER",)


def test_a_merchant_in_two_sets_is_a_finding() -> None:
    report = checked(CLEAN, split="random")

    assert found(report, "group_leak").severity == "warning"
    assert "group_leak" not in names(checked(CLEAN))


def test_a_near_duplicate_in_another_set_is_a_finding() -> None:
    twins = [page("one", "a", "B-DATE", words=30), page("two", "b", "B-DATE", words=30)]
    twins[1] = Page("two", "b", (*twins[0].words[:-1], "x"), *(getattr(twins[0], n) for n in ("boxes", "tags")), 9, 9)

    report = checked([*CLEAN, *twins], FrozenSplit(validation=("two", "p0", "p1")), split="frozen:x")

    assert found(report, "near_duplicates").examples == ("two ~ one",)


def test_a_small_training_set_single_groups_and_long_pages_are_findings() -> None:
    report = checked([page(f"p{i}", f"g{i}", "B-DATE", "B-TAX") for i in range(90)], max_length=32)

    assert found(report, "few_pages").message.startswith("the training set has 72 pages")
    assert found(report, "single_groups").message.startswith("every page is a group of its own")
    assert found(report, "long_pages").message.startswith("90 of 90 pages")
    pages = [*CLEAN, page("p", "alone")]
    assert found(checked(pages), "single_groups").examples == ("alone",)


def test_the_sample_size_limits_the_training_set() -> None:
    assert checked(CLEAN, sample_size=20).pages["train"] == 20


# files


def test_unreadable_lines_of_a_file_are_findings_by_kind(tmp_path: Path) -> None:
    good = {"words": ["a", "b"], "bboxes": [[0, 0, 9, 9], [20, 0, 29, 9]], "labels": ["O", "B-DATE"]}
    bad: list[dict[str, object]] = [
        {"bboxes": [[9, 0, 0, 9], [20, 0, 29, 9]]},
        {"bboxes": [[0, 0, 9, 9], [20, 0, 2900, 9]]},
        {"labels": ["O", "DATE"]},
        {"words": [], "bboxes": [], "labels": []},
        {"words": ["a", " "]},
        {"id": "0"},
        {"bboxes": [[0, 0, 9, 9]]},
    ]
    path = tmp_path / "pages.jsonl"
    path.write_text("\n".join(json.dumps({"id": str(i), **good, **bad_one}) for i, bad_one in enumerate([{}, *bad])))
    with path.open("a") as file:
        file.write('\n{"id": "z", "words": ["a"], "bboxes": [[0, 0, 9, 9]]}\n')

    pages, unreadable = survey_jsonl(path)
    report = check_dataset(CheckInput(pages, unreadable=unreadable), WordLabelsConfig())

    assert [page.page_id for page in pages] == ["0"]
    counts = {finding.check: len(finding.examples) for finding in report.errors}
    assert counts == {"boxes": 2, "tags": 1, "empty_pages": 2, "lines": 3, "split": 0}
    assert "pages.jsonl:2" in found(report, "boxes").message


def png(path: Path, pixels: bytes, width: int, height: int) -> Path:
    """A grey PNG, without checksums that anyone here reads."""
    rows = b"".join(b"\0" + pixels[y * width : (y + 1) * width] for y in range(height))
    size = width.to_bytes(4) + height.to_bytes(4)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + size + b"\x08\0\0\0\0----" + zlib.compress(rows) + b"\0\0\0\0IEND----"
    )
    return path


def test_missing_truncated_unreadable_and_blank_images_are_findings(tmp_path: Path) -> None:
    noise = random.Random(0).randbytes(10_000)
    png(tmp_path / "good.png", noise, 100, 100)
    png(tmp_path / "blank.png", b"\xff" * 10**6, 1000, 1000)
    (tmp_path / "torn.png").write_bytes(png(tmp_path / "whole.png", noise, 100, 100).read_bytes()[:-100])
    (tmp_path / "text.jpg").write_text("no image")
    pages = [
        Page(name, "g", ("x",), ((0, 0, 9, 9),), ("O",), 9, 9, image=name)
        for name in ("good", "blank.png", "torn", "text", "gone")
    ]

    images = check_images([*pages, page("without", "g")], tmp_path)

    assert images.checked == 4
    assert images.problems == {
        "blank.png": "blank.png is blank or nearly blank",
        "torn": "torn.png is truncated",
        "text": "text.jpg is not a readable JPEG or PNG",
        "gone": "its image is not in the folder",
    }
    report = check_dataset(CheckInput(CLEAN, images=images), WordLabelsConfig())
    assert found(report, "images").message.startswith("4 page(s)")


def test_a_page_without_an_image_name_has_the_image_of_its_id(tmp_path: Path) -> None:
    png(tmp_path / "000.png", b"\xff" * 10**6, 1000, 1000)
    images = check_images([page("000", "g"), page("001", "g")], tmp_path)
    assert (images.checked, list(images.problems)) == (1, ["000"])


def test_a_folder_of_unrelated_images_is_a_finding(tmp_path: Path) -> None:
    report = check_dataset(CheckInput(CLEAN, images=check_images(CLEAN, tmp_path)), WordLabelsConfig())
    assert "no image of the folder belongs to a page" in found(report, "images").message


@pytest.mark.skipif(not SROIE.exists(), reason=f"no real receipts in {SROIE}")
def test_the_estimated_length_of_real_receipts_is_close_to_the_tokenizers() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    from receipt_layoutlm.minilm import PACKAGE, find_minilm

    if find_spec(PACKAGE) is None:
        pytest.skip("no tokenizer is installed")
    tokenizer = tokenizers.Tokenizer.from_file(str(find_minilm() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    pages = read_jsonl(SROIE / "dev.jsonl")[::4]
    ratios = [
        estimated_sub_tokens(page)
        / sum(len(tokenizer.encode(word, add_special_tokens=False).ids) for word in page.words)
        for page in pages
    ]

    assert all(0.85 < ratio < 1.2 for ratio in ratios)
    assert 0.97 < sum(ratios) / len(ratios) < 1.03

"""Which words are suspect, and in which order, by tables of what a model said."""

import pytest

from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.datasets.suspects import Suspect, find_suspects
from receipt_layoutlm.run.predictions import PredictedPage


def page(tags: list[str], page_id: str = "p", words: list[str] | None = None) -> Page:
    boxes = tuple((10 * i, 0, 10 * i + 5, 10) for i in range(len(tags)))
    return Page(page_id, "g", tuple(words or [f"w{i}" for i in range(len(tags))]), boxes, tuple(tags), 100, 100)


def said(
    of: Page,
    predicted: list[str],
    confidence: list[float] | float = 0.99,
    true: list[str] | None = None,
    order: list[int] | None = None,
) -> PredictedPage:
    """What a model said of a page's words, given in the order of the page; `order` is that of the row."""
    order = order or list(range(len(predicted)))
    confidences = confidence if isinstance(confidence, list) else [confidence] * len(predicted)
    tags = true or list(of.tags)
    return PredictedPage(
        of.page_id,
        index=tuple(order),
        words=tuple(of.words[i] for i in order),
        true=tuple(tags[i] for i in order),
        predicted=tuple(predicted[i] for i in order),
        confidence=tuple(confidences[i] for i in order),
        true_confidence=tuple(None if tags[i] == "-" else round(1 - confidences[i], 4) for i in order),
    )


def found(of: Page, *views: PredictedPage, min_confidence: float = 0.9) -> list[Suspect]:
    return find_suspects({of.page_id: of}, views, min_confidence)


def told(suspects: list[Suspect]) -> list[tuple[str, str, str]]:
    return [(each.text, each.label, each.says) for each in suspects]


@pytest.mark.parametrize(
    ("tag", "predicted", "is_suspect"),
    [
        ("B-DATE", "B-TAX", True),
        ("B-DATE", "O", True),
        ("B-DATE", "B-DATE", False),
        ("B-DATE", "I-DATE", False),
        ("O", "O", False),
        ("-", "B-TAX", False),
    ],
)
def test_another_label_is_a_contradiction_and_another_place_in_the_entity_is_none(
    tag: str, predicted: str, is_suspect: bool
) -> None:
    one = page([tag])
    assert bool(found(one, said(one, [predicted]))) == is_suspect


def test_a_word_without_a_label_that_the_model_gives_one_is_missing_it() -> None:
    one = page(["O"])
    (suspect,) = found(one, said(one, ["B-TAX"]))
    assert (suspect.is_missing, suspect.label, suspect.says) == (True, "O", "TAX")
    assert not found(page(["B-DATE"]), said(page(["B-DATE"]), ["O"]))[0].is_missing


def test_merged_labels_do_not_contradict_each_other_and_a_label_outside_the_whitelist_can_be_contradicted() -> None:
    one = page(["B-TAX", "B-TAX", "B-TIP", "B-TIP"])
    row = said(one, ["B-AMOUNT", "O", "O", "B-AMOUNT"], true=["B-AMOUNT", "B-AMOUNT", "O", "O"])
    assert sorted(told(found(one, row))) == [("w1", "TAX", "O"), ("w3", "TIP", "AMOUNT")]


def test_the_threshold_is_on_the_confidence_of_each_word() -> None:
    one = page(["B-DATE", "I-DATE", "I-DATE"])
    row = said(one, ["O", "O", "O"], [0.95, 0.8, 0.9])
    assert told(found(one, row)) == [("w0", "DATE", "O"), ("w2", "DATE", "O")]
    assert told(found(one, row, min_confidence=0.8)) == [("w0 w1 w2", "DATE", "O")]


def test_neighbours_that_are_contradicted_alike_are_one_row_up_to_the_next_entity() -> None:
    one = page(["B-DATE", "I-DATE", "B-DATE", "I-DATE", "O", "O", "O"])
    row = said(one, ["B-TAX", "I-TAX", "B-TAX", "O", "B-TIP", "I-TIP", "B-TIP"])
    assert sorted(told(found(one, row))) == [
        ("w0 w1", "DATE", "TAX"),
        ("w2", "DATE", "TAX"),
        ("w3", "DATE", "O"),
        ("w4 w5", "O", "TIP"),
        ("w6", "O", "TIP"),
    ]


def test_the_surest_comes_first_and_then_the_least_likely_label() -> None:
    one = page(["B-DATE", "O", "B-TAX", "O", "B-TIP"])
    row = said(one, ["O"] * 5, [0.93, 1, 0.99, 1, 0.99])
    less_likely = (*row.true_confidence[:4], 0.001)
    row = PredictedPage(row.page_id, row.index, row.words, row.true, row.predicted, row.confidence, less_likely)
    suspects = found(one, row)
    assert [each.label for each in suspects] == ["TIP", "TAX", "DATE"]
    assert [each.confidence for each in suspects] == [0.99, 0.99, 0.93]


def test_words_are_found_by_their_place_in_the_page_and_not_by_their_text() -> None:
    one = page(["O", "B-DATE", "O"], words=["x", "x", "x"])
    (suspect,) = found(one, said(one, ["O", "B-TAX", "O"], order=[2, 1, 0]))
    assert [word.index for word in suspect.words] == [1]
    (missing,) = found(one, said(one, ["B-TAX", "B-DATE", "O"], order=[2, 1, 0]))
    assert [word.index for word in missing.words] == [0]


def test_several_runs_have_to_agree_and_their_confidence_is_the_mean() -> None:
    one = page(["B-DATE", "B-DATE"])
    views = said(one, ["B-TAX", "B-TAX"], [1.0, 0.96]), said(one, ["O", "B-TAX"], 0.94, order=[1, 0])
    (suspect,) = found(one, *views)
    assert (suspect.text, suspect.confidence) == ("w1", 0.95)
    assert found(one, *views, min_confidence=0.951) == []


def test_predictions_of_another_page_are_refused() -> None:
    one, other = page(["B-DATE"]), page(["B-DATE"], words=["changed"])
    for pages, row in (
        ({"p": other}, said(one, ["O"])),
        ({}, said(one, ["O"])),
        ({"p": page(["B-DATE", "O"])}, said(one, ["O"])),
    ):
        with pytest.raises(DataError, match="page 'p' belong to another version"):
            find_suspects(pages, [row], 0.9)

"""What a run writes of its held-out pages, and what reads it."""

import gzip
import random
from dataclasses import replace
from pathlib import Path

import pytest

from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.data.snapshot import write_snapshot
from receipt_layoutlm.run.predictions import PredictedPage, read_predictions, write_predictions
from receipt_layoutlm.training.loop import train
from tests.support.runs import never, new_run, tiny_model
from tests.support.tiny import tiny_pages

PREDICTED = PredictedPage("p", (1, 0), ("a", "a"), ("O", "-"), ("B-DATE", "O"), (0.75, 0.5), (0.25, None))


def shuffled(page: Page, seed: int) -> Page:
    """The same page with its words in another order; one word here is an entity, so the tags go with them."""
    order = random.Random(seed).sample(range(len(page.words)), len(page.words))
    words = tuple(page.words[i] for i in order)
    boxes = tuple(page.boxes[i] for i in order)
    return replace(page, words=words, boxes=boxes, tags=tuple(page.tags[i] for i in order))


def twice_the_same_word(page: Page) -> Page:
    return replace(page, words=tuple("same" for _ in page.words))


def test_words_are_told_apart_by_their_place_in_the_snapshot(tmp_path: Path) -> None:
    pages = [shuffled(twice_the_same_word(page), seed) for seed, page in enumerate(tiny_pages(12))]
    by_id = {page.page_id: page for page in pages}
    run_dir = new_run(tmp_path / "1", tiny_model(tmp_path / "model"), epochs=1, test_ratio=0.25, val_ratio=0.25)
    write_snapshot(pages, run_dir.dataset)
    train(run_dir, never)

    files = sorted(run_dir.predictions.iterdir())
    found = [page for path in files for page in read_predictions(path.read_bytes(), path.name)]

    assert [path.name for path in files] == ["eval-1.jsonl.gz", "test.jsonl.gz"]
    assert len(found) == 6
    assert any(each.index != tuple(range(len(each.index))) for each in found)
    for each in found:
        page = by_id[each.page_id]
        assert sorted(each.index) == list(range(len(page.words)))
        assert each.true == tuple(page.tags[place] for place in each.index)
        boxes = [page.boxes[place] for place in each.index]
        assert boxes == sorted(boxes, key=lambda box: (box[1], box[0]))
        assert all(0 < p <= 1 and p == round(p, 4) for p in each.confidence)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "x.jsonl.gz"
    write_predictions([PREDICTED, PREDICTED], path)
    assert read_predictions(path.read_bytes(), "x") == [PREDICTED, PREDICTED]
    assert [each.name for each in path.parent.iterdir()] == ["x.jsonl.gz"]


@pytest.mark.parametrize(
    "content",
    [
        b"no gzip",
        gzip.compress(b'{"page_id": "p", "words": ["a"], "true": ["O"], "predicted": ["O"]}\n'),
        gzip.compress(b"x" * 100)[:-9],
        gzip.compress(
            b'{"page_id":"p","index":[0],"words":["a"],"true":["O"],"predicted":["O"],"confidence":[],'
            b'"true_confidence":[1]}\n'
        ),
    ],
    ids=["no gzip", "no indices", "cut off", "no confidences"],  # gzip's bytes hold the time: no name of a test
)
def test_a_file_that_cannot_be_used_is_named_with_what_to_do(content: bytes) -> None:
    with pytest.raises(DataError, match=r"^there/eval-3.jsonl.gz: .*train again"):
        read_predictions(content, "there/eval-3.jsonl.gz")

"""Pages of words that the tokenizer of a run does not know are told when the run is prepared."""

from dataclasses import replace
from pathlib import Path

import pytest

from receipt_layoutlm.config_documents import read_config
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import write_snapshot
from receipt_layoutlm.training.setup import prepare_run
from receipt_layoutlm.training.task import SetupCallbacks
from tests.support.runs import new_run, nothing, tiny_model
from tests.support.tiny import tiny_pages


def in_chinese(page: Page) -> Page:
    """The captions in another script; amounts and dates stay."""
    words = tuple("总计" if word.isalpha() else word for word in page.words)
    return replace(page, words=words)


@pytest.mark.parametrize(("chinese", "expected"), [(0, []), (12, ["6 of 6 training page(s)"])])
def test_a_run_warns_of_training_pages_of_unknown_words_with_their_script(
    tmp_path: Path, chinese: int, expected: list[str]
) -> None:
    run_dir = new_run(tmp_path / "run", tiny_model(tmp_path / "model"))
    write_snapshot(
        [in_chinese(page) if number < chinese else page for number, page in enumerate(tiny_pages(12))], run_dir.dataset
    )
    warnings: list[tuple[str, str]] = []
    callbacks = SetupCallbacks(nothing, nothing, nothing, lambda event, text: warnings.append((event, text)))

    prepare_run(run_dir, read_config(run_dir.config.read_bytes()), None, callbacks)

    told = [text for event, text in warnings if event == "unknown_words"]
    assert [text[: len(expected[0])] for text in told] == expected
    assert all("CJK" in text and "--pretrained" in text for text in told)

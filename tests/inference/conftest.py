"""A tiny model that learned tiny pages."""

from dataclasses import replace
from pathlib import Path

import pytest

from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import write_snapshot
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.training.loop import train
from tests.support.runs import never, new_run, tiny_model
from tests.support.tiny import tiny_pages

PAGES = 40


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run with several windows on some pages and a single-valued label; tests only read it."""
    folder = tmp_path_factory.mktemp("run")
    run_dir = new_run(
        folder / "1",
        tiny_model(folder / "model"),
        PAGES,
        epochs=12,
        lr=0.01,
        max_length=16,
        single_valued_labels=["DATE"],
    )
    write_snapshot([imperfect(number, page) for number, page in enumerate(tiny_pages(PAGES))], run_dir.dataset)
    train(run_dir, never)
    return run_dir


def imperfect(number: int, page: Page) -> Page:
    """Every fifth page without labels, so that the model cannot be right everywhere and its temperature is not 1."""
    return replace(page, tags=("O",) * len(page.tags)) if number % 5 == 4 else page


@pytest.fixture(scope="session")
def model(finished_run: RunDir) -> Path:
    return finished_run.best

"""What a worker needs for a job: a place of its own, pages and a tiny model."""

from pathlib import Path

import pytest

from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.sample import generate_pages
from tests.support.places import Place
from tests.support.stores import Store
from tests.support.tiny import tiny_layoutlm


@pytest.fixture(scope="session")
def pages() -> list[Page]:
    return generate_pages(12, seed=1)


@pytest.fixture
def place(store: Store, tmp_path: Path) -> Place:
    return Place(store, tmp_path / "work")


@pytest.fixture
def model(tmp_path: Path, pages: list[Page]) -> str:
    return str(tiny_layoutlm(tmp_path / "tiny", pages))

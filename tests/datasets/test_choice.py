"""Choice of a dataset: the only one in the store, and errors that list the ways to name one."""

from pathlib import Path

import pytest

from receipt_dynamo import Dataset
from receipt_layoutlm.config import ConfigError
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.page import page_to_line
from receipt_layoutlm.datasets.choice import ChosenDataset, NoDatasetChosen, choose_dataset
from receipt_layoutlm.datasets.snapshots import add_snapshot, describe_dataset
from tests.support.stores import Store
from tests.support.tiny import tiny_pages

pytestmark = pytest.mark.engine


def keep(store: Store, name: str, count: int) -> Dataset:
    pages = tiny_pages(count)
    return add_snapshot(store.queue.client, store.bucket, describe_dataset(name, pages, "test", store.clock()), pages)


def chosen(store: Store, file: Path | None = None, **options: object) -> ChosenDataset | None:
    config = WordLabelsConfig.model_validate(options)
    return choose_dataset(store.queue.client, store.bucket, config, file, store.clock(), lambda _progress: None)


def test_the_only_dataset_is_chosen_however_many_snapshots_it_has(store: Store) -> None:
    keep(store, "mine", 2)
    newest = keep(store, "mine", 3)

    assert chosen(store) == ChosenDataset(newest)


def test_an_empty_store_has_nothing_to_choose(store: Store) -> None:
    assert chosen(store) is None


def test_several_datasets_are_listed(store: Store) -> None:
    keep(store, "one", 2)
    keep(store, "two", 2)

    with pytest.raises(NoDatasetChosen, match="one, two"):
        chosen(store)
    named = chosen(store, dataset="two")
    assert named is not None and named.dataset.name == "two"


def test_line_breaks_are_a_matter_of_the_table_alone(store: Store) -> None:
    keep(store, "mine", 2)

    with pytest.raises(ConfigError, match="leave it out"):
        chosen(store, over_lines=["PRODUCT_NAME"])


def test_a_file_is_chosen_before_the_store_and_stored_only_when_told(store: Store, tmp_path: Path) -> None:
    keep(store, "mine", 2)
    file = tmp_path / "shop.jsonl"
    file.write_text("".join(f"{page_to_line(page)}\n" for page in tiny_pages(4)))

    choice = chosen(store, file)

    assert choice is not None and choice.pages == tiny_pages(4)
    assert [dataset.name for dataset in store.queue.client.list_datasets()] == ["mine"]
    stored = choice.store(store.queue.client, store.bucket)
    assert store.queue.client.get_dataset("shop") == stored == choice.dataset

"""WordLabelsConfig: bounds, contradictions, the stored document."""

import pytest

from receipt_layoutlm.config import ConfigError
from receipt_layoutlm.config_documents import from_document, parse_config, to_document
from receipt_layoutlm.configs.word_labels import WordLabelsConfig


def test_an_unknown_key_names_the_nearest_valid_one() -> None:
    with pytest.raises(ConfigError, match="unknown key 'epoch': did you mean 'epochs'"):
        parse_config({"epoch": 3})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epochs": 0}, "epochs"),
        ({"lr": -1.0}, "lr"),
        ({"eval_every": "sometimes"}, "eval_every"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"allowed_labels": ["DROP TABLE"]}, "allowed_labels"),
        ({"merge_amounts": True, "merge_preset": "dates"}, "give one of the two"),
    ],
)
def test_a_bad_value_or_contradiction_is_named(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config(values)


def test_a_stored_document_gives_the_same_config_back() -> None:
    config = parse_config({"epochs": 3, "label_merges": {"AMOUNT": ["TAX"]}, "lr": 6e-5, "eval_every": 50})

    document = to_document(config, {"epochs": "flag"})

    assert from_document(document) == config
    assert document["given"] == {"epochs": "flag"}
    assert document["weight_decay"] == WordLabelsConfig().weight_decay


def test_a_document_of_an_evaluation_dataset_is_not_a_contradiction_when_read_back() -> None:
    config = parse_config({"eval_dataset": "held-out"})

    assert from_document(to_document(config, {})) == config


def test_a_newer_version_is_left_to_a_newer_worker() -> None:
    document = to_document(WordLabelsConfig(), {}) | {"config_version": 2}

    with pytest.raises(ConfigError, match="upgrade this worker"):
        from_document(document)


def test_evaluation_batches_are_as_large_as_training_batches_unless_told() -> None:
    assert WordLabelsConfig(batch_size=7).effective_eval_batch_size == 7
    assert WordLabelsConfig(batch_size=7, eval_batch_size=3).effective_eval_batch_size == 3


def test_augmentations_are_given_one_by_one_or_with_commas_and_stand_in_the_order_in_which_they_are_done() -> None:
    config = parse_config({"augment": ["boxes,entities", "ocr", "ocr"]})
    assert config.augment == ("entities", "ocr", "boxes")
    assert parse_config(config.model_dump()) == config
    with pytest.raises(ConfigError, match=r"augment.*'entities', 'drop', 'ocr' or 'boxes'"):
        parse_config({"augment": ["entities,blur"]})


def test_a_first_phase_says_how_many_receipts_it_generates() -> None:
    assert (parse_config({"pretrain_on": "sample:250"}).generated_pages, parse_config({}).generated_pages) == (250, 0)
    for text in ("sample", "sample:0", "sample:-1", "250", "sroie:5", "sample:5 "):
        with pytest.raises(ConfigError, match="write sample:N"):
            parse_config({"pretrain_on": text})

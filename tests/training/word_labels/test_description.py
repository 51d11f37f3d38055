"""Labels and windows in a comparability stamp."""

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.training.tasks.word_labels.description import labels_text, windows_text


def test_merges_are_part_of_the_label_map() -> None:
    assert labels_text(("AMOUNT",), {"TAX": "AMOUNT"}) == "AMOUNT, TAX->AMOUNT"


def test_the_window_rule_names_the_limit_of_sub_tokens_if_it_is_set() -> None:
    assert windows_text(WordLabelsConfig(max_length=128)) == "128 sub-tokens, 0.25 of them seen twice"
    assert windows_text(WordLabelsConfig(max_sub_tokens=4)).endswith("at most 4 of a word")

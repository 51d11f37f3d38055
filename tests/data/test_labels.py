"""Labels: merges, whitelist, what contradicts itself, and the tags and numbers that follow."""

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.labels import (
    ALIASES,
    CORE_LABELS,
    MERGE_PRESETS,
    LabelError,
    LabelMap,
    build_label_map,
    check_named,
    missing_labels,
    resolve_merges,
)

AMOUNTS = {"GRAND_TOTAL": "AMOUNT", "LINE_TOTAL": "AMOUNT", "SUBTOTAL": "AMOUNT", "TAX": "AMOUNT"}
SEED_LABELS = ("MERCHANT_NAME", "PHONE_NUMBER", "ADDRESS_LINE", "DATE", "TIME", "PRODUCT_NAME", "AMOUNT")


def test_there_are_22_core_labels_and_presets_merge_only_those() -> None:
    assert len(set(CORE_LABELS)) == 22
    assert {s for preset in MERGE_PRESETS.values() for sources in preset.values() for s in sources} <= set(CORE_LABELS)


@pytest.mark.parametrize(
    ("config", "merges"),
    [
        (WordLabelsConfig(), {}),
        (WordLabelsConfig(merge_amounts=True), AMOUNTS),
        (WordLabelsConfig(merge_preset="amounts"), AMOUNTS),
        (WordLabelsConfig(merge_preset="dates"), {"DATE": "DATETIME", "TIME": "DATETIME"}),
        (WordLabelsConfig(merge_preset="address"), {"ADDRESS_LINE": "ADDRESS", "PHONE_NUMBER": "ADDRESS"}),
        (WordLabelsConfig(label_merges={"WHEN": ("DATE", "WHEN")}), {"DATE": "WHEN"}),
        (WordLabelsConfig(label_merges={"O": ("TIP",)}), {"TIP": "O"}),
        (WordLabelsConfig(merge_amounts=True, label_merges={"AMOUNT": ("TIP", "TAX")}), {**AMOUNTS, "TIP": "AMOUNT"}),
    ],
)
def test_merges_come_from_flag_preset_and_json(config: WordLabelsConfig, merges: dict[str, str]) -> None:
    assert resolve_merges(config) == merges


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (WordLabelsConfig(merge_preset="amount"), "unknown merge preset amount; did you mean amounts"),
        (WordLabelsConfig(label_merges={"A": ("DATE",), "B": ("DATE",)}), "DATE is merged into A and into B"),
        (WordLabelsConfig(merge_amounts=True, label_merges={"T": ("TAX",)}), "TAX is merged into AMOUNT and into T"),
        (
            WordLabelsConfig(merge_amounts=True, label_merges={"MONEY": ("AMOUNT",)}),
            "GRAND_TOTAL is merged into AMOUNT, which is itself merged into MONEY",
        ),
        (WordLabelsConfig(allowed_labels=("MERCHANT",)), "unknown label MERCHANT; did you mean MERCHANT_NAME"),
        (
            WordLabelsConfig(allowed_labels=("merchant_name",)),
            "unknown label merchant_name; did you mean MERCHANT_NAME",
        ),
        (WordLabelsConfig(allowed_labels=("AMOUNT",)), "unknown label AMOUNT"),
        (WordLabelsConfig(allowed_labels=("O",)), "unknown label O"),
        (WordLabelsConfig(allowed_labels=("QQQQ",)), "known are ADDRESS_LINE, "),
        (WordLabelsConfig(label_merges={"X": ("SUBTOTALS",)}), "unknown label SUBTOTALS; did you mean SUBTOTAL"),
        (WordLabelsConfig(merge_amounts=True, allowed_labels=("TAX",)), "TAX cannot be kept: .* did you mean AMOUNT"),
        (WordLabelsConfig(label_merges={"O": ("TAX",)}, allowed_labels=("TAX",)), "TAX cannot be kept: .* O drops it"),
        (WordLabelsConfig(label_merges={"O": ("DATE", "FIELD")}), "no label is left to learn"),
    ],
)
def test_contradictions_and_unknown_names_are_errors_that_name_the_way_out(
    config: WordLabelsConfig, message: str
) -> None:
    with pytest.raises(LabelError, match=message):
        build_label_map(config, ["DATE", "FIELD"])


@given(st.sampled_from([label for label in CORE_LABELS if len(label) > 6]), st.data())
def test_a_label_with_a_slip_of_the_pen_is_an_error_that_names_the_one_that_was_meant(
    label: str, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(label) - 1))
    slip = data.draw(st.sampled_from(["", "X", label[place].lower()]))
    written = f"{label[:place]}{slip}{label[place + 1 :]}"
    assume(written not in CORE_LABELS and written[0].isalpha())
    for config in (WordLabelsConfig(allowed_labels=(written,)), WordLabelsConfig(label_merges={"NEW": (written,)})):
        with pytest.raises(LabelError, match=f"unknown label {written}; did you mean {label}\\?"):
            build_label_map(config, ["DATE"])


@given(st.sampled_from(CORE_LABELS), st.permutations(["ONE", "OTHER", "O"]))
def test_a_source_in_two_targets_is_an_error_whichever_comes_first(source: str, targets: list[str]) -> None:
    first, second = targets[:2]
    with pytest.raises(LabelError, match=f"{source} is merged into {first} and into {second}: use one target"):
        resolve_merges(WordLabelsConfig(label_merges={first: (source,), second: (source,)}))


@given(st.sets(st.sampled_from(CORE_LABELS), min_size=1), st.sets(st.sampled_from(sorted(AMOUNTS))))
def test_the_whitelist_is_tested_on_the_merged_label(in_data: set[str], merged: set[str]) -> None:
    config = WordLabelsConfig(allowed_labels=("AMOUNT",), label_merges={"AMOUNT": tuple(merged)})
    if not merged:
        with pytest.raises(LabelError, match="unknown label AMOUNT"):
            build_label_map(config, in_data)
        return
    tags = [f"B-{label}" for label in sorted(in_data)]
    applied = build_label_map(config, in_data).apply(tags)
    assert applied == tuple("B-AMOUNT" if tag[2:] in merged else "O" for tag in tags)


def test_data_without_labels_leaves_nothing_to_learn() -> None:
    with pytest.raises(LabelError, match="no label is left"):
        build_label_map(WordLabelsConfig(), [])


@pytest.mark.parametrize(
    ("config", "labels"),
    [
        (WordLabelsConfig(), ("DATE", "FIELD", "TAX")),
        (WordLabelsConfig(merge_amounts=True), ("AMOUNT", "DATE", "FIELD")),
        (WordLabelsConfig(allowed_labels=("TIP", "FIELD", "TIP")), ("FIELD", "TIP")),
        (WordLabelsConfig(label_merges={"O": ("TAX",)}), ("DATE", "FIELD")),
        (WordLabelsConfig(merge_amounts=True, allowed_labels=SEED_LABELS), tuple(sorted(SEED_LABELS))),
    ],
)
def test_labels_are_the_whitelist_else_all_of_the_data(config: WordLabelsConfig, labels: tuple[str, ...]) -> None:
    assert build_label_map(config, ["TAX", "FIELD", "DATE"]).labels == labels


def test_the_order_of_the_whitelist_does_not_change_the_numbers() -> None:
    one = build_label_map(WordLabelsConfig(allowed_labels=("TIME", "DATE")), [])
    assert one == build_label_map(WordLabelsConfig(allowed_labels=("DATE", "TIME")), [])
    assert one.label2id == {"O": 0, "B-DATE": 1, "I-DATE": 2, "B-TIME": 3, "I-TIME": 4}
    assert one.id2label[4] == "I-TIME"


def test_a_kept_label_without_examples_is_missing_and_a_merged_one_is_not() -> None:
    label_map = build_label_map(WordLabelsConfig(merge_amounts=True, allowed_labels=SEED_LABELS), [])
    counts = {"GRAND_TOTAL": 3, "DATE": 1, "TIME": 0, "CHANGE": 2}
    assert missing_labels(label_map, counts) == [
        "ADDRESS_LINE",
        "MERCHANT_NAME",
        "PHONE_NUMBER",
        "PRODUCT_NAME",
        "TIME",
    ]
    assert missing_labels(label_map, dict.fromkeys(SEED_LABELS, 1)) == []


def test_tags_are_merged_filtered_and_kept_apart() -> None:
    label_map = build_label_map(WordLabelsConfig(merge_amounts=True, allowed_labels=("AMOUNT", "DATE")), [])
    given_tags = ("B-TAX", "I-TAX", "B-SUBTOTAL", "O", "B-TIME", "I-TIME", "B-DATE", "I-DATE", "B-DATE")
    assert label_map.apply(given_tags) == (
        *("B-AMOUNT", "I-AMOUNT", "B-AMOUNT", "O", "O", "O", "B-DATE", "I-DATE", "B-DATE"),
    )


def test_a_source_cannot_be_kept_beside_its_target() -> None:
    with pytest.raises(LabelError, match="TAX is merged"):
        LabelMap(merges={"TAX": "AMOUNT"}, labels=("AMOUNT", "TAX"))


entities = st.lists(st.tuples(st.sampled_from([*"ABCDE", None]), st.integers(1, 3)), max_size=12)
label_maps = st.builds(
    LabelMap,
    merges=st.dictionaries(st.sampled_from("AB"), st.sampled_from(["C", "D", "O", "NEW"])),
    labels=st.sets(st.sampled_from(["C", "D", "E", "NEW"])).map(lambda labels: tuple(sorted(labels))),
)


def tags_of(given_entities: list[tuple[str | None, int]]) -> list[str]:
    tags: list[str] = []
    for label, length in given_entities:
        tags += ["O"] * length if label is None else [f"B-{label}", *[f"I-{label}"] * (length - 1)]
    return tags


@given(entities, label_maps)
def test_applying_keeps_every_kept_entity_as_one_and_twice_is_once(
    given_entities: list[tuple[str | None, int]], label_map: LabelMap
) -> None:
    applied = label_map.apply(tags_of(given_entities))
    merged = [(label and label_map.merged(label), length) for label, length in given_entities]
    kept = [(label if label in label_map.labels else None, length) for label, length in merged]
    assert list(applied) == tags_of(kept)
    assert label_map.apply(applied) == applied


NAMED = [
    {"single_valued_labels": ("TIP",)},
    {"label_weight": {"TIP": 2.0}},
    {"metric_for_best": "f1_TIP"},
    {"guard": "recall_TIP>=0.9*best"},
]


@pytest.mark.parametrize("options", NAMED, ids=lambda options: next(iter(options)))
def test_an_option_may_only_name_a_label_that_is_learned(options: dict[str, object]) -> None:
    config = WordLabelsConfig.model_validate(options)
    with pytest.raises(LabelError, match="the run does not learn label TIP: use one of DATE, TAX"):
        check_named(config, ("TAX", "DATE"))
    with pytest.raises(LabelError, match="the run does not learn label TIP: did you mean TIPS"):
        check_named(config, ("TIPS", "DATE"))
    check_named(config, ("TAX", "TIP"))


def test_words_outside_of_entities_have_a_weight_but_no_score() -> None:
    check_named(WordLabelsConfig(label_weight={"O": 0.5}, metric_for_best="f1", guard="macro_f1>=0.9*best"), ("TAX",))
    with pytest.raises(LabelError, match="not learn label O"):
        check_named(WordLabelsConfig(metric_for_best="f1_O"), ("TAX",))


@given(label_maps)
def test_the_file_of_a_label_map_holds_all_of_it(label_map: LabelMap) -> None:
    assert json.loads(label_map.to_json()) == {"merges": dict(label_map.merges), "labels": list(label_map.labels)}


def test_what_nobody_has_decided_stays_unlabelled() -> None:
    label_map = LabelMap(merges={"TAX": "AMOUNT"}, labels=("AMOUNT",))
    assert label_map.apply(("-", "B-TAX", "-", "B-DATE")) == ("-", "B-AMOUNT", "-", "O")


def test_each_alias_stands_for_a_core_label_and_is_none_itself() -> None:
    assert set(ALIASES.values()) <= set(CORE_LABELS)
    assert not set(ALIASES) & set(CORE_LABELS)

"""Pages in scripts that English vocabularies lack, and the facts of the vocabulary on which the rule rests."""

import pytest

from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.data.check import CheckInput, check_dataset
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.scripts import MULTILINGUAL, check_scripts, script_of
from receipt_layoutlm.minilm import WeightsError, find_minilm

TEXTS = {
    "CJK": "餐厅 收据 日期 总计 金额 谢谢 惠顾 单价 数量 合计 发票 北京",
    "THAI": "ใบเสร็จ วันที่ ขอบคุณ เงินสด บัตร กรุงเทพ กาแฟ ยอดรวม",
    "TELUGU": "రసీదు మొత్తం తేదీ",
    "HANGUL": "영수증 금액 날짜 감사합니다 현금 카드 부가세 서울 커피",
    "ARABIC": "فاتورة المجموع التاريخ شكرا نقدا بطاقة ضريبة",
    "CYRILLIC": "чек итого сумма дата спасибо наличные карта",
    "GREEK": "απόδειξη σύνολο ημερομηνία ευχαριστούμε",
    "LATIN": "Hóa đơn tổng cộng Łódź Straße reçu señor",
}
UNKNOWN = ("CJK", "THAI", "TELUGU")


def page(text: str, page_id: str = "p") -> Page:
    words = text.split()
    boxes = tuple((0, 20 * place, 90, 20 * place + 15) for place in range(len(words)))
    return Page(page_id, page_id, tuple(words), boxes, ("O",) * len(words), 100, 200)


@pytest.mark.parametrize("name", TEXTS)
def test_the_script_of_a_word_is_that_of_its_letters(name: str) -> None:
    assert {script_of(word) for word in TEXTS[name].split()} == {name}
    assert script_of("RM") == "LATIN" and script_of("12.50%") is None


@pytest.mark.parametrize("pretrained", ["microsoft/layoutlm-base-uncased", "minilm", "bert-base-uncased"])
def test_pages_of_words_that_english_weights_do_not_know_are_named_with_script_and_remedy(pretrained: str) -> None:
    pages = [page(f"{TEXTS['CJK']} TOTAL 9.90 1 2 3"), page("TOTAL RM 谢谢 9.90", "q")]
    (finding,) = check_scripts(pages, pretrained)
    assert (finding.severity, finding.check, finding.examples) == ("warning", "unknown_words", ("p",))
    assert "1 of 2 page(s)" in finding.message and "CJK (12 words)" in finding.message
    assert "[UNK]" in finding.message and pretrained in finding.message
    assert finding.message.endswith(f"--pretrained {MULTILINGUAL}")


@pytest.mark.parametrize("name", ["HANGUL", "ARABIC", "CYRILLIC", "GREEK"])
def test_words_that_are_spelled_letter_by_letter_are_not_called_unknown(name: str) -> None:
    (finding,) = check_scripts([page(TEXTS[name])], "minilm")
    assert f"letter by letter: {name}" in finding.message and "[UNK]" not in finding.message


@pytest.mark.parametrize("pretrained", [MULTILINGUAL, "s3://bucket/best", "/models/mine"])
def test_nothing_is_said_about_weights_whose_vocabulary_is_not_known(pretrained: str) -> None:
    assert check_scripts([page(TEXTS["CJK"])], pretrained) == []


def test_latin_pages_with_accents_and_pages_of_numbers_have_no_finding() -> None:
    assert check_scripts([page(TEXTS["LATIN"]), page("12 9.90 ***")], "minilm") == []


def test_a_dataset_check_names_the_script() -> None:
    report = check_dataset(CheckInput([page(TEXTS["THAI"])]), WordLabelsConfig(pretrained="minilm"))
    assert any(finding.check == "unknown_words" and "THAI" in finding.message for finding in report.warnings)


@pytest.mark.parametrize("name", TEXTS)
def test_the_english_vocabulary_knows_the_scripts_that_the_rule_says(name: str) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    try:
        folder = find_minilm()
    except WeightsError:
        pytest.skip("the MiniLM weights are not installed")
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    unknown = ["[UNK]" in tokenizer.encode(word, add_special_tokens=False).tokens for word in TEXTS[name].split()]
    assert (sum(unknown) > 0.5 * len(unknown)) is (name in UNKNOWN)

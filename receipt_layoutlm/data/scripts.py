"""Scripts that English vocabularies cannot spell.

The vocabulary of bert-base-uncased (30,522 pieces), which microsoft/layoutlm-base-uncased and MiniLM have too, holds
pieces of several letters for the Latin script only. Of ten others it holds nearly every letter alone, so that their
words are spelled letter by letter. Of all further ones most words become [UNK]: it holds 244 of the Chinese characters,
15 letters of Thai, none of Telugu.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from receipt_layoutlm.data.check_report import Finding, warning
from receipt_layoutlm.data.page import Page

MULTILINGUAL: Final = "google-bert/bert-base-multilingual-cased"
"""A BERT that LayoutLM can start from, with a vocabulary for 104 languages."""

MOSTLY: Final = 0.5
"""A page is mostly in other scripts if more than this share of its words with letters is."""

_SPELLED: Final = frozenset("ARABIC ARMENIAN BENGALI CYRILLIC DEVANAGARI GREEK HANGUL HEBREW HIRAGANA KATAKANA".split())
_LATIN: Final = frozenset("FEMININE LATIN MASCULINE MICRO MODIFIER SUPERSCRIPT".split())
_ENGLISH: Final = re.compile(r"minilm|(.*/)?((layoutlm|bert)-(base|large)-uncased|all-minilm-l6-v2)/?", re.IGNORECASE)


def script_of(word: str) -> str | None:
    """The script of most letters of a word, as Unicode names it (LATIN, CJK, ARABIC …); None without letters."""
    names = Counter(
        re.split("[ -]", unicodedata.name(character, "UNNAMED"))[0] for character in word if character.isalpha()
    )
    return "LATIN" if names.keys() <= _LATIN and names else names.most_common(1)[0][0] if names else None


def check_scripts(pages: Sequence[Page], pretrained: str) -> list[Finding]:
    """Pages mostly in scripts that the vocabulary of known English weights lacks or spells letter by letter.

    Nothing is known about the vocabulary of other weights; the trainer counts with their own tokenizer.
    """
    if not _ENGLISH.fullmatch(pretrained):
        return []
    words: Counter[str] = Counter()
    foreign: list[str] = []
    for page in pages:
        scripts = Counter(script for word in page.words if (script := script_of(word)))
        total = scripts.total()
        del scripts["LATIN"]
        if scripts.total() > MOSTLY * total:
            foreign.append(page.page_id)
            words += scripts
    if not foreign:
        return []
    unknown = _counted((name, count) for name, count in words.most_common() if name not in _SPELLED)
    spelled = _counted((name, count) for name, count in words.most_common() if name in _SPELLED)
    effects = [*([f"does not know ([UNK]): {unknown}"] if unknown else [])]
    effects += [f"only spells letter by letter: {spelled}"] if spelled else []
    text = (
        f"{len(foreign)} of {len(pages)} page(s) consist mostly of words that the English vocabulary of {pretrained} "
        f"{', or '.join(effects)}; {advice()}"
    )
    return [warning("unknown_words", text, foreign)]


def _counted(scripts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} ({count} words)" for name, count in scripts)


def advice() -> str:
    """The way out, for all who find unknown words."""
    return f"take a multilingual model, such as --pretrained {MULTILINGUAL}"

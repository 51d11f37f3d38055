"""Words that the tokenizer of a run does not know, counted exactly."""

from collections import Counter

import numpy as np

from receipt_layoutlm.data.scripts import MOSTLY, advice, script_of
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPages


def unknown_words_text(pages: EncodedPages, unk_id: int, pretrained: str) -> str | None:
    """A warning if some pages consist mostly of unknown words; None without such pages.

    Of a page the words with letters count; a word is unknown if one of its sub-tokens is.
    """
    flat = pages.features
    is_unknown = np.add.reduceat(flat.pieces == unk_id, flat.piece_starts[:-1]) > 0
    found, words = 0, Counter[str]()
    for page in pages.pages:
        scripts = [script_of(word) for word in page.words]
        unknown = [
            script
            for script, is_unk in zip(scripts, is_unknown[flat.words_of(page.number)], strict=True)
            if script and is_unk
        ]
        if len(unknown) > MOSTLY * sum(script is not None for script in scripts):
            found += 1
            words.update(unknown)
    if not found:
        return None
    counted = ", ".join(f"{name} ({count} words)" for name, count in words.most_common())
    return (
        f"{found} of {len(pages.pages)} training page(s) consist mostly of words that the tokenizer of {pretrained} "
        f"does not know ([UNK]): {counted}; {advice()}"
    )

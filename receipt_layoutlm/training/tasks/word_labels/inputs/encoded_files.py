"""Encoded pages on disk: flat arrays in .npy files that are mapped, not read, and a manifest. Nothing is unpickled.

A folder is used only when it is whole, was made with the same tokenizer, pages and rule, and holds for some pages
drawn at random what encoding them now gives. Otherwise its pages are encoded anew, and it is replaced.
"""

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import numpy as np
import tokenizers
from pydantic import BaseModel, ConfigDict, Field
from transformers import PreTrainedTokenizerFast

from receipt_layoutlm.configs.word_labels import ENCODING_VERSION
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.run.manifest import DamagedFolder, verify, write_manifest
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import DTYPES, Features, FlatArray
from receipt_layoutlm.training.tasks.word_labels.inputs.windows import OVERLAP

CONTENT = "encoded.json"
PAGES_TRIED = 16  # of those in a folder, encoded once more to see whether it is right

Encode = Callable[[Sequence[Page]], Features]


class Content(BaseModel):
    """What encoded.json says beside the arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    page_ids: tuple[str, ...]
    tag_names: tuple[str, ...]
    special_ids: tuple[int, int]


def encoded_key(
    task: str, fingerprint: str, tokenizer: PreTrainedTokenizerFast, max_length: int, max_sub_tokens: int | None = None
) -> str:
    """SHA-256 of everything that decides what pages are encoded to."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()  # as encoding has it: what is set is that of the last call
    backend.no_padding()
    document = {
        "version": ENCODING_VERSION,
        "task": task,
        "pages": fingerprint,
        "tokenizer": hashlib.sha256(backend.to_str().encode()).hexdigest(),
        "special_ids": [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id],
        "tokenizers": tokenizers.__version__,
        "windows": [max_length, OVERLAP, max_sub_tokens],
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def open_encoded(folder: Path, key: str, pages: Sequence[Page], encode: Encode) -> Features:
    """The encoded pages in a folder, mapped from its files; DamagedFolder when they are not those of the key."""
    verify(folder)
    try:
        content = Content.model_validate_json((folder / CONTENT).read_bytes())
        if content.key != key or content.page_ids != tuple(page.page_id for page in pages):
            raise DamagedFolder(f"{folder}: encoded from other pages, or in another way")
        arrays = {name: _mapped(folder, name) for name in DTYPES}
        features = Features(content.page_ids, content.tag_names, content.special_ids, **arrays)
        numbers = random.Random().sample(range(len(pages)), min(PAGES_TRIED, len(pages)))
        fresh = encode([pages[number] for number in numbers])
        if any(_page(features, number) != _page(fresh, place) for place, number in enumerate(numbers)):
            raise DamagedFolder(f"{folder}: its pages are not what they are encoded to now")
    except (OSError, ValueError, IndexError) as error:
        raise DamagedFolder(f"{folder}: {error}") from error
    return features


def _mapped(folder: Path, name: str) -> FlatArray:
    array = np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
    if array.dtype != np.dtype(DTYPES[name]):
        raise ValueError(f"{name} is {array.dtype}, not {DTYPES[name]}")
    return array


def _page(features: Features, number: int) -> list[object]:
    """All that stands about one page, as it would stand about it alone."""
    words = features.words_of(number)
    starts = features.piece_starts[words.start : words.stop + 1]
    windows = slice(*features.page_windows[number : number + 2].tolist())
    return [
        features.page_ids[number],
        features.special_ids,
        features.texts_of(words),
        [features.tag_names[tag] for tag in features.tags[words].tolist()],
        features.boxes[words].tolist(),
        features.order[words].tolist(),
        features.pieces[starts[0] : starts[-1]].tolist(),
        np.diff(starts).tolist(),
        (features.spans[windows] - words.start).tolist(),
        (features.scorer[words] - windows.start).tolist(),
    ]


def write_encoded(features: Features, folder: Path, key: str) -> None:
    """Put a folder in place, whole; what stood there goes. Of two processes at once the later one's stays."""
    folder = folder.resolve()  # in a run directory it may be a link to where the folder is kept
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{kind}") for kind in ("partial", "old"))
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        for name in DTYPES:
            np.save(partial / f"{name}.npy", getattr(features, name), allow_pickle=False)
        content = Content(
            key=key, page_ids=features.page_ids, tag_names=features.tag_names, special_ids=features.special_ids
        )
        (partial / CONTENT).write_text(content.model_dump_json())
        write_manifest(partial, global_step=0)
        with suppress(FileNotFoundError):
            folder.rename(old)
        with suppress(OSError):  # another process was quicker: what it made stands there
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)

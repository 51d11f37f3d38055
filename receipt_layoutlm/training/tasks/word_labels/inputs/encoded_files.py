"""Encoded pages on disk: memory-mapped .npy files and a manifest. Nothing is unpickled.

A folder is reused only if it is complete, was made with the same tokenizer, pages and rule, and agrees with a fresh
encoding of some random pages. Otherwise the pages are encoded again and the folder is replaced.
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
PAGES_CHECKED = 16  # pages of a folder that are encoded again to verify it

Encode = Callable[[Sequence[Page]], Features]


class Content(BaseModel):
    """Contents of encoded.json, which accompanies the arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    page_ids: tuple[str, ...]
    tag_names: tuple[str, ...]
    special_ids: tuple[int, int]


def encoded_key(
    task: str, fingerprint: str, tokenizer: PreTrainedTokenizerFast, max_length: int, max_sub_tokens: int | None = None
) -> str:
    """SHA-256 of everything that determines the encoding of pages."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()  # as for encoding; the backend keeps the settings of the last call
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
    """Map the encoded pages of a folder; DamagedFolder if they are not those of the key."""
    verify(folder)
    try:
        content = Content.model_validate_json((folder / CONTENT).read_bytes())
        if content.key != key or content.page_ids != tuple(page.page_id for page in pages):
            raise DamagedFolder(f"{folder}: encoded from other pages or by another rule")
        arrays: dict[str, FlatArray] = {}
        for name, dtype in DTYPES.items():
            arrays[name] = np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
            if arrays[name].dtype != np.dtype(dtype):
                raise ValueError(f"{name} is {arrays[name].dtype}, not {dtype}")
        features = Features(content.page_ids, content.tag_names, content.special_ids, **arrays)
        numbers = random.Random().sample(range(len(pages)), min(PAGES_CHECKED, len(pages)))
        fresh = encode([pages[number] for number in numbers])
        if any(_page(features, number) != _page(fresh, place) for place, number in enumerate(numbers)):
            raise DamagedFolder(f"{folder}: its pages differ from a fresh encoding")
    except (OSError, ValueError, IndexError) as error:
        raise DamagedFolder(f"{folder}: {error}") from error
    return features


def _page(features: Features, number: int) -> list[object]:
    """The encoding of one page, independent of the other pages."""
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
    """Write a folder and atomically replace an existing one; of two concurrent writers one succeeds."""
    folder = folder.resolve()  # in a run directory it may be a link into the cache
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
        with suppress(OSError):  # another process was faster, and its folder is in place
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)

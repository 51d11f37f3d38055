"""Predictions for each word of held-out pages: reads and writes predictions/*.jsonl.gz.

Confidences are softmax probabilities of a label, B- and I- taken together, to four digits.
"""

import gzip
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from receipt_layoutlm.data.page import DataError, Page
from receipt_layoutlm.data.source_text import unpacked
from receipt_layoutlm.data.tags import Entity, entities, labelled

TEST = "test.jsonl.gz"


@dataclass(frozen=True, slots=True)
class PredictedPage:
    """One page in reading order. `index` is each word's position in the page of the snapshot.

    true and predicted are tags under the run's merges and whitelist; true_confidence is the confidence
    in the true label, None for unlabelled words.
    """

    page_id: str
    index: tuple[int, ...]
    words: tuple[str, ...]
    true: tuple[str, ...]
    predicted: tuple[str, ...]
    confidence: tuple[float, ...]
    true_confidence: tuple[float | None, ...]

    def entities(self) -> tuple[set[Entity], set[Entity]]:
        """True and predicted entities; unlabelled words are left out, as in evaluations."""
        return {*entities(self.true)}, {*entities(labelled(self.true, self.predicted))}

    def is_of(self, page: Page) -> bool:
        """Whether these are the words of the page."""
        is_complete = sorted(self.index) == list(range(len(page.words)))
        return is_complete and self.words == tuple(page.words[place] for place in self.index)


_PAGE = TypeAdapter(PredictedPage)


def evaluation_name(global_step: int) -> str:
    """The file of the evaluation at a step."""
    return f"eval-{global_step}.jsonl.gz"


def write_predictions(rows: Iterable[object], path: Path) -> None:
    """Write rows (dataclasses or models, one JSON line each) as gzip, replacing the file at once."""
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with gzip.open(partial, "wb", compresslevel=6) as file:
        file.writelines(to_json(row) + b"\n" for row in rows)
    partial.replace(path)


def read_predictions(packed: bytes, name: str) -> list[PredictedPage]:
    """The pages of a predictions file; raises DataError for a damaged one, or one of an earlier version."""
    try:
        found = [_PAGE.validate_json(line) for line in unpacked(packed).splitlines()]
    except (OSError, EOFError, ValidationError, zlib.error) as error:
        raise DataError("it cannot be read, or an earlier version wrote it: train again", file=name) from error
    for page in found:
        if len({len(column) for column in list(asdict(page).values())[1:]}) != 1:
            raise DataError(f"page {page.page_id!r} is damaged: train again", file=name)
    return found

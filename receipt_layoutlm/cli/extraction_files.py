"""Files of extractions, a page a line: JSONL and CSV. A file that was interrupted is continued."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from receipt_layoutlm.errors import UserError
from receipt_layoutlm.inference.extraction import Extraction

PageKey = tuple[str, int]  # source, number of the page in it
_COLUMNS = ("source", "page", "page_id", "model")
_PER_LABEL = (" value", " confidence", " decision", " origin")  # columns beside that of the text


class OutputError(UserError):
    """An output file that cannot be continued; the text says why."""


class ExtractionFile:
    """Appends pages to a file; `done` are the pages that it had already. Each page is written whole and at once."""

    def __init__(self, path: Path, labels: Sequence[str], model: str) -> None:
        self._path, self._labels, self._is_csv = path, labels, path.suffix.lower() == ".csv"
        self._model = model
        self._file: TextIO | None = None
        self.done: set[PageKey] = set()

    def __enter__(self) -> Self:
        try:
            self._path.touch()
            self._file = self._path.open("r+", encoding="utf-8", newline="")
        except OSError as error:
            raise OutputError(f"{self._path} cannot be written: {error.strerror or error}") from error
        content = self._file.read()
        whole = content[: content.rfind("\n") + 1]  # the last line of a killed process may be torn
        for source, page, model in self._rows(whole):
            if model != self._model:
                raise OutputError(
                    f"{self._path} has pages of another model ({model[:12]}…): name another file, or give --overwrite"
                )
            self.done.add((source, page))
        self._file.seek(len(whole.encode()))
        self._file.truncate()
        per_label = [f"{label}{suffix}" for label in self._labels for suffix in ("", *_PER_LABEL)]
        header = [*_COLUMNS, *per_label, "notes"]
        if self._is_csv and not whole:
            self._write_row(header)
        elif self._is_csv and next(csv.reader(io.StringIO(whole, newline=""))) != header:
            raise OutputError(
                f"{self._path} has other columns, as of an earlier version: name another file, or give --overwrite"
            )
        return self

    def _rows(self, whole: str) -> list[tuple[str, int, str]]:
        """Source, page and model of the file's lines."""
        try:
            if self._is_csv:
                rows = csv.DictReader(io.StringIO(whole, newline=""), strict=True)
                return [(row["source"], int(row["page"]), row["model"]) for row in rows]
            documents = [json.loads(line) for line in whole.split("\n")[:-1]]  # a word may have U+2028, also a line end
            return [(each["source"], each["page"], each["model"]) for each in documents]
        except (ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
            raise OutputError(
                f"{self._path} is no output of predict: name another file, or give --overwrite"
            ) from error

    def write(self, page: Extraction) -> None:
        assert self._file is not None
        if self._is_csv:
            self._write_row(self._cells(page))
        else:
            self._file.write(page.model_dump_json() + "\n")
            self._file.flush()

    def _cells(self, page: Extraction) -> list[object]:
        cells: list[object] = [page.source, page.page, page.page_id, page.model]
        for label in self._labels:
            best, other = page.best(label), page.answered_by_fallback(label)
            if other is not None:
                cells += [other.text, other.value.text if other.value else "", "", "", other.origin]
            elif best is None:
                cells += [""] * (1 + len(_PER_LABEL))
            else:
                cells += [best.text, best.value.text if best.value else "", best.confidence]
                cells += [best.decision or "", best.origin]
        return [*cells, "; ".join(page.notes)]

    def _write_row(self, cells: Sequence[object]) -> None:
        # a line of its own each: a line break inside a cell would look like a torn end
        assert self._file is not None
        line = io.StringIO(newline="")
        csv.writer(line, lineterminator="\n").writerow([str(cell).replace("\n", " ") for cell in cells])
        self._file.write(line.getvalue())
        self._file.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

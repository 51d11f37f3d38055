"""Rows of Parquet and Arrow files, read with pyarrow (extra hf)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from receipt_layoutlm.data.page import DataError
from receipt_layoutlm.data.source_text import read_content

PARQUET = b"PAR1"
ARROW_FILE = b"ARROW1"
ARROW_STREAM = b"\xff\xff\xff\xff"

_ROWS = 100  # at once, since images are among them


@dataclass(frozen=True, slots=True)
class ArrowTable:
    """A file of columns, which is read as it is iterated over."""

    path: Path
    columns: tuple[str, ...]
    metadata: dict[bytes, bytes]
    """Of the schema."""
    source: Any
    """pyarrow's reader."""

    def rows(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The values of these columns, a row at a time. Raises DataError for a damaged file."""
        for batch in self._batches(columns):
            for begin in range(0, batch.num_rows, _ROWS):
                yield from batch.slice(begin, _ROWS).to_pylist()

    def _batches(self, columns: Sequence[str]) -> Iterator[Any]:
        try:
            if hasattr(self.source, "iter_batches"):
                yield from self.source.iter_batches(_ROWS, columns=list(columns))
            elif hasattr(self.source, "num_record_batches"):
                for number in range(self.source.num_record_batches):
                    yield self.source.get_batch(number).select(list(columns))
            else:
                for batch in self.source:
                    yield batch.select(list(columns))
        except (OSError, ValueError) as error:
            raise DataError(f"is damaged: {error}", file=str(self.path)) from error


def open_table(path: Path) -> ArrowTable:
    """A Parquet file, an Arrow file or an Arrow stream. Raises DataError for another file, and without pyarrow."""
    kind = read_content(path)[:6]  # a pointer or an unreadable file is an error
    if not kind.startswith((PARQUET, ARROW_FILE, ARROW_STREAM)):
        raise DataError("is neither a Parquet nor an Arrow file", file=str(path))
    if find_spec("pyarrow") is None:
        raise DataError("pyarrow is not installed: pip install 'receipt-layoutlm[hf]'", file=str(path))
    try:
        if kind.startswith(PARQUET):
            source = import_module("pyarrow.parquet").ParquetFile(path)
            schema = source.schema_arrow
        else:
            arrow, ipc = import_module("pyarrow"), import_module("pyarrow.ipc")
            mapped = arrow.memory_map(str(path))
            source = ipc.open_file(mapped) if kind.startswith(ARROW_FILE) else ipc.open_stream(mapped)
            schema = source.schema
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read: {error}", file=str(path)) from error
    return ArrowTable(path, tuple(schema.names), schema.metadata or {}, source)

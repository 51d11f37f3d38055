"""Answers of a heuristic, by file name and label, for the fields that a model leaves out or asks about.

A CSV file has a row a scan, as values of whole receipts have; a .json file maps names to objects, a .jsonl file has an
object a line with the name under `file`.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from pydantic import TypeAdapter, ValidationError

from receipt_layoutlm.data.dates import DateOrder
from receipt_layoutlm.data.importers.value_table import ValueRow, join_rows, read_value_rows
from receipt_layoutlm.data.page import DataError, bad_lines, validation_reason
from receipt_layoutlm.data.source_text import NullableText, TextOptions, parse_json, read_source
from receipt_layoutlm.inference.extraction import Extraction, FallbackField
from receipt_layoutlm.inference.values import FieldValue, read_value
from receipt_layoutlm.suggestions import nearest_name

_NAME: Final = "file"
_VALUES: TypeAdapter[dict[str, str | int | float | None]] = TypeAdapter(dict[str, NullableText | int | float | None])
_FILES: TypeAdapter[dict[str, dict[str, str | int | float | None]]] = TypeAdapter(
    dict[str, dict[str, NullableText | int | float | None]]
)


class Fallback:
    """Answers by source, as the pages of a run name it."""

    def __init__(self, answers: Mapping[str, Mapping[str, str]], date_order: DateOrder | None) -> None:
        self._answers, self._date_order = answers, date_order

    @classmethod
    def read(cls, path: Path, sources: Sequence[str], labels: Sequence[str], date_order: DateOrder | None) -> Self:
        """The answers of a file for these sources; rows of other files are left out. Raises DataError with the line.

        Names match as those of scans do: with or without folder and ending.
        """
        rows = _rows(path)
        known = {label.casefold(): label for label in labels}
        for row in rows:
            for name in row.texts:
                if name.casefold() not in known:
                    near = nearest_name(name.upper(), labels)
                    hint = f"did you mean {near}?" if near else f"it has {', '.join(labels)}"
                    raise row.error(f"{name!r} is no label of the model: {hint}")
        joined = join_rows([Path(source) for source in dict.fromkeys(sources)], rows)
        if doubled := [error for error in joined.refused if "there is no scan" not in error.reason]:
            raise bad_lines(doubled)
        answers = {
            str(source): {known[name.casefold()]: text for name, text in row.texts.items() if text}
            for source, row in joined.rows.items()
        }
        return cls(answers, date_order)

    def fill(self, pages: Iterable[Extraction]) -> Iterator[Extraction]:
        """The pages, the first of each source with the answers for labels that no page of it answers for sure."""
        for source, group in itertools.groupby(pages, key=lambda page: page.source):
            first, *others = group
            whole = [first, *others]
            filled = tuple(
                self._field(label, text, whole)
                for label, text in self._answers.get(str(Path(source)), {}).items()
                if not any(each.label == label and each.decision != "ask" for page in whole for each in page.entities)
            )
            yield first.model_copy(update={"fallback": filled}) if first.page == 1 else first
            yield from others

    def _field(self, label: str, text: str, pages: Sequence[Extraction]) -> FallbackField:
        value = read_value(label, text, self._date_order)
        is_asked = any(each.label == label for page in pages for each in page.entities)
        return FallbackField(
            label=label,
            text=text,
            value=value if isinstance(value, FieldValue) else None,
            problem=value if isinstance(value, str) else None,
            reason="asked" if is_asked else "missing",
        )


def _rows(path: Path) -> list[ValueRow]:
    suffix, options = path.suffix.lower(), TextOptions()
    if path.is_dir() or suffix not in (".json", ".jsonl"):
        return read_value_rows(path, options)
    text = read_source(path, options)
    lines = (
        [(1, text)] if suffix == ".json" else [(n, each) for n, each in enumerate(text.split("\n"), 1) if each.strip()]
    )
    rows = list[ValueRow]()
    for number, line in lines:
        line_number = None if suffix == ".json" else number
        try:
            document = parse_json(line)
            files = _FILES.validate_python(document) if suffix == ".json" else dict([_named(document)])
        except json.JSONDecodeError as error:
            raise DataError(f"is not JSON: {error}", file=str(path), line=line_number) from error
        except ValidationError as error:
            example = '{"receipt.jpg": {"GRAND_TOTAL": "9.00"}}' if suffix == ".json" else _EXAMPLE
            reason = f"{validation_reason(error)}: write {example}"
            raise DataError(reason, file=str(path), line=line_number) from error
        except KeyError:
            raise DataError(f"has no {_NAME!r}: write {_EXAMPLE}", file=str(path), line=line_number) from None
        for name, values in files.items():
            texts = {key.strip(): str(value).strip() for key, value in values.items() if value is not None}
            rows.append(ValueRow(name, texts, path, line_number))
    return rows


_EXAMPLE: Final = '{"file": "receipt.jpg", "GRAND_TOTAL": "9.00"}'


def _named(document: object) -> tuple[str, dict[str, str | int | float | None]]:
    """Name and values of a line. Raises ValidationError, KeyError."""
    values = _VALUES.validate_python(document)
    return str(values.pop(_NAME)), values

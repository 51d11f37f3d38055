"""ReceiptClient: receipts, words and labels of a table, one method per access pattern."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from receipt_dynamo import receipt_items as items
from receipt_dynamo.arguments import checked
from receipt_dynamo.bulk import Bulk, Units
from receipt_dynamo.client import DynamoClient, checked_client
from receipt_dynamo.errors import StateConflict
from receipt_dynamo.items import RawItem
from receipt_dynamo.receipts import Receipt, ReceiptWord, ReceiptWordLabel, ValidationStatus
from receipt_dynamo.unreadable import read, readable
from receipt_dynamo.writes import ConditionFailed, Write


class ImageRows(NamedTuple):
    """The receipts of an image, and all of their words by number."""

    receipts: list[Receipt]
    words: list[ReceiptWord]


@dataclass(frozen=True)
class LabelRange:
    """A range of the labels, by the beginning of their image id."""

    start: str | None
    end: str | None


RANGES = 16


def label_ranges() -> list[LabelRange]:
    """Ranges that divide the labels of a table, to be read in parallel."""
    return [LabelRange(start, end) for start, end in items.image_ranges(RANGES)]


ALL_LABELS = LabelRange(None, None)


class ReceiptClient:
    """Reads and writes receipts through one DynamoClient's connection. Safe to share among threads.

    Indexes follow the table with a delay of usually less than a second: what was just written may be missing.
    """

    def __init__(self, client: DynamoClient, bulk: Bulk | None = None) -> None:
        self._client = checked_client(client)
        self.table_name = client.table_name
        self._writer = client.writer
        self._bulk = bulk or Bulk(client.raw, client.table_name)

    def __repr__(self) -> str:
        return f"ReceiptClient({self._client!r})"

    @property
    def units(self) -> Units:
        """Units consumed by the requests of this client."""
        return self._bulk.units

    # labels by validation status

    @checked
    def iter_labels_by_status(
        self, status: ValidationStatus, part: LabelRange = ALL_LABELS
    ) -> Iterator[ReceiptWordLabel]:
        """Labels of a status, sorted by image, receipt, line and word, without author, time and reasons."""
        rows = self._bulk.query(_only(items.LABEL_ATTRIBUTES, _labels_of(status, part)))
        return readable(items.label_from, filter(items.is_label, rows))

    @checked
    def count_labels(self, status: ValidationStatus, part: LabelRange = ALL_LABELS) -> int:
        """Number of labels of a status, counted in the store."""
        return self._bulk.count(_labels_of(status, part))

    @checked
    def has_labels(self, status: ValidationStatus) -> bool:
        """Whether there is any label of a status."""
        return next(self._bulk.query({**_labels_of(status, ALL_LABELS), "Limit": 1}), None) is not None

    # images and receipts

    @checked
    def get_image(self, image_id: str) -> ImageRows:
        """Receipts and words of an image, without the original system's letters and lines.

        Read through GSI3, which holds only these; where it has no words, from the table itself.
        """
        for index in ("GSI3", ""):
            rows = list(self._bulk.query(_only(_IMAGE_ATTRIBUTES, _image_of(index, image_id))))
            receipts = list(readable(items.receipt_from, filter(items.is_receipt, rows)))
            words = list(readable(items.word_from, filter(items.is_word, rows)))
            if words:
                break
        return ImageRows(receipts, words)

    def get_receipts(self, receipts: Iterable[tuple[str, int]]) -> list[Receipt]:
        """The existing receipts of these (image_id, receipt_id), in no order."""
        keys = [items.receipt_key(image_id, receipt_id) for image_id, receipt_id in receipts]
        return list(readable(items.receipt_from, self._bulk.get(keys)))

    @checked
    def list_labels(self, image_id: str) -> list[ReceiptWordLabel]:
        """Every label of an image's words, of any status, with all attributes."""
        rows = self._bulk.query({**_image_of("", image_id), "ConsistentRead": True})
        return list(readable(items.label_from, filter(items.is_label, rows)))

    # writes

    def put(
        self,
        receipts: Sequence[Receipt] = (),
        words: Sequence[ReceiptWord] = (),
        labels: Sequence[ReceiptWordLabel] = (),
    ) -> list[str]:
        """Write records, each replacing the one of its key; returns the sort keys that could not be written."""
        puts = [*map(items.word_item, words), *map(items.label_item, labels), *map(items.receipt_item, receipts)]
        return [key["SK"]["S"] for key in self._bulk.write(puts)]

    @checked
    def change_status(self, label: ReceiptWordLabel, status: ValidationStatus) -> ReceiptWordLabel:
        """Change the status of a label. Raises StateConflict when the stored status has changed."""
        try:
            raw = self._writer.execute(Write("Update", items.status_update(label, status)))
        except ConditionFailed as lost:
            (raw,) = lost.losers
            now = None if raw is None else read(items.label_from, raw).validation_status
            if now is not status:  # the same status may be our own write, whose reply was lost
                raise StateConflict(f"it is {now} now" if now else "it is gone") from None
        assert raw is not None
        return read(items.label_from, raw)

    @checked
    def propose(self, label: ReceiptWordLabel, known: ReceiptWordLabel | None) -> None:
        """Write a model's proposal, over the known open one of the same key if there is one.

        Raises StateConflict when somebody has written or decided on that label in the meantime.
        """
        parameters = items.new_proposal_put(label) if known is None else items.replacing_put(label, known)
        self._write_proposal(Write("Put", parameters), label)

    @checked
    def withdraw(self, known: ReceiptWordLabel) -> None:
        """Delete an open proposal. Raises StateConflict when somebody has decided on it in the meantime."""
        self._write_proposal(Write("Delete", items.proposal_delete(known)), None)

    def _write_proposal(self, write: Write, result: ReceiptWordLabel | None) -> None:
        try:
            self._writer.execute(write)
        except ConditionFailed as lost:
            (raw,) = lost.losers
            now = None if raw is None else read(items.label_from, raw)
            if now != result:  # the result itself may be our own write, whose reply was lost
                raise StateConflict(f"it is {now.validation_status} now" if now else "it is gone") from None

    def delete_leftovers(
        self, receipt: Receipt, words: Sequence[ReceiptWord], labels: Sequence[ReceiptWordLabel]
    ) -> list[str]:
        """Delete other words and labels of a receipt than these; returns the sort keys that could not be deleted."""
        kept = {items.word_sk(word.receipt_id, word.line_id, word.word_id) for word in words}
        kept |= {items.label_sk(label) for label in labels}
        below = items.receipt_sk(receipt.receipt_id) + "#"
        rows = self._bulk.query(_only(("PK", "SK"), _image_of("", receipt.image_id, below)))
        stale = [
            {"PK": raw["PK"], "SK": raw["SK"]}
            for raw in rows
            if raw["SK"]["S"] not in kept and (items.is_word(raw) or items.is_label(raw))
        ]
        return [key["SK"]["S"] for key in self._bulk.write(deletes=stale)]


def _labels_of(status: ValidationStatus, part: LabelRange) -> RawItem:
    """The key condition BETWEEN takes both ends in; no sort key equals an end, which stops amid an image's id."""
    condition, values = "", {}
    if part.start is not None:
        condition, values = " AND #s >= :a", {":a": {"S": part.start}}
    if part.end is not None:
        condition = " AND #s BETWEEN :a AND :b" if values else " AND #s < :b"
        values |= {":b": {"S": part.end}}
    return {
        "IndexName": "GSI3",
        "KeyConditionExpression": f"#p = :p{condition}",
        "ExpressionAttributeNames": {"#p": "GSI3PK", **({"#s": "GSI3SK"} if values else {})},
        "ExpressionAttributeValues": {":p": {"S": items.validation_pk(status)}, **values},
    }


def _image_of(index: str, image_id: str, prefix: str = items.RECEIPT_PREFIX) -> RawItem:
    return {
        "KeyConditionExpression": "#p = :p AND begins_with(#s, :s)",
        "ExpressionAttributeNames": {"#p": f"{index}PK", "#s": f"{index}SK"},
        "ExpressionAttributeValues": {":p": {"S": items.image_pk(image_id)}, ":s": {"S": prefix}},
        **({"IndexName": index} if index else {}),
    }


_IMAGE_ATTRIBUTES = (*items.WORD_ATTRIBUTES, *items.RECEIPT_ATTRIBUTES)


def _only(attributes: Iterable[str], request: RawItem) -> RawItem:
    """The query restricted to these attributes: the same units, but fewer bytes to parse."""
    placeholders = {f"#n{number}": name for number, name in enumerate(sorted(set(attributes)))}
    names = {**request["ExpressionAttributeNames"], **placeholders}
    return {**request, "ProjectionExpression": ", ".join(placeholders), "ExpressionAttributeNames": names}

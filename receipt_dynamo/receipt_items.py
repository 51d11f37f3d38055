"""Receipts, words and labels as items under the original system's keys: record <-> item, both ways.

Written against botocore's spelling, without PynamoDB: a snapshot reads these by the million, and the models would
take half as long again as the requests.
"""

import re
from collections.abc import Sequence
from typing import Final

from receipt_dynamo.attributes import number_of, stamp
from receipt_dynamo.items import RawItem, key
from receipt_dynamo.receipts import Receipt, ReceiptWord, ReceiptWordLabel, ValidationStatus

RECEIPT_PREFIX: Final = "RECEIPT#"
IMAGE_PREFIX: Final = "IMAGE#"

_RECEIPT_SK = re.compile(r"RECEIPT#(\d{5,})")
_WORD_SK = re.compile(r"RECEIPT#(\d{5,})#LINE#(\d{5,})#WORD#(\d{5,})")
_LABEL_SK = re.compile(r"RECEIPT#(\d{5,})#LINE#(\d{5,})#WORD#(\d{5,})#LABEL#(.+)", re.DOTALL)


def image_pk(image_id: str) -> str:
    return f"{IMAGE_PREFIX}{image_id}"


def receipt_sk(receipt_id: int) -> str:
    return f"{RECEIPT_PREFIX}{receipt_id:05d}"


def word_sk(receipt_id: int, line_id: int, word_id: int) -> str:
    return f"{receipt_sk(receipt_id)}#LINE#{line_id:05d}#WORD#{word_id:05d}"


def label_sk(label: ReceiptWordLabel) -> str:
    return f"{word_sk(label.receipt_id, label.line_id, label.word_id)}#LABEL#{label.label}"


def validation_pk(status: ValidationStatus) -> str:
    return f"VALIDATION_STATUS#{status}"


def receipt_key(image_id: str, receipt_id: int) -> RawItem:
    return key(image_pk(image_id), receipt_sk(receipt_id))


def image_ranges(parts: int) -> list[tuple[str | None, str | None]]:
    """GSI3SK from (inclusive) and to (exclusive) that divide all labels of a status by the beginning of the image id.

    Two hexadecimal digits decide, so `parts` divides 256. The first range has no beginning and the last no end.
    """
    bounds = [f"{IMAGE_PREFIX}{number:02x}" for number in range(0, 256, 256 // parts)][1:]
    return list(zip([None, *bounds], [*bounds, None], strict=True))


def receipt_item(receipt: Receipt) -> RawItem:
    place = {"PK": image_pk(receipt.image_id), "SK": receipt_sk(receipt.receipt_id)}
    texts = {
        **place,
        **_index("GSI3", place["PK"], place["SK"]),
        "TYPE": "RECEIPT",
        "merchant_name": receipt.merchant_name,
        "page_id": receipt.page_id,
        "group": receipt.group,
        "sha256": receipt.sha256,
        "word_order": receipt.order,
        "timestamp_added": stamp(receipt.timestamp_added) if receipt.timestamp_added else None,
    }
    return {**_texts(texts), **_numbers({"width": receipt.width, "height": receipt.height})}


def receipt_from(raw: RawItem) -> Receipt:
    (receipt_id,) = _match(_RECEIPT_SK, raw)
    names = ("timestamp_added", "merchant_name", "page_id", "group", "sha256")
    return Receipt(
        image_id=image_of(raw),
        receipt_id=int(receipt_id),
        width=int(_number(raw["width"])),
        height=int(_number(raw["height"])),
        order=_text(raw, "word_order"),
        **{name: _text(raw, name) for name in names},  # type: ignore[arg-type]  # pydantic reads the time
    )


def word_item(word: ReceiptWord) -> RawItem:
    pk, sk = image_pk(word.image_id), word_sk(word.receipt_id, word.line_id, word.word_id)
    box = _numbers({"x": word.x, "y": word.y, "width": word.width, "height": word.height})
    return {
        **_texts({"PK": pk, "SK": sk, **_index("GSI3", pk, sk), "TYPE": "RECEIPT_WORD", "text": word.text}),
        "bounding_box": {"M": box},
        **_numbers({"confidence": word.confidence}),
    }


WORD_ATTRIBUTES: Final = ("PK", "SK", "text", "bounding_box", "confidence")
"""Attributes read of a word; the original system's words have ten more."""

RECEIPT_ATTRIBUTES: Final = (
    "width",
    "height",
    "timestamp_added",
    "merchant_name",
    "page_id",
    "group",
    "sha256",
    "word_order",
)


def word_from(raw: RawItem) -> ReceiptWord:
    receipt_id, line_id, word_id = _match(_WORD_SK, raw)
    box = raw["bounding_box"]["M"]
    return ReceiptWord(
        image_id=image_of(raw),
        receipt_id=int(receipt_id),
        line_id=int(line_id),
        word_id=int(word_id),
        text=raw["text"]["S"],
        x=_number(box["x"]),
        y=_number(box["y"]),
        width=_number(box["width"]),
        height=_number(box["height"]),
        confidence=_number(raw["confidence"]) if {"N", "S"} & raw.get("confidence", {}).keys() else None,
    )


def label_item(label: ReceiptWordLabel) -> RawItem:
    pk, sk = image_pk(label.image_id), label_sk(label)
    texts = {
        "PK": pk,
        "SK": sk,
        **_index("GSI3", validation_pk(label.validation_status), f"{pk}#{sk}"),
        "TYPE": "RECEIPT_WORD_LABEL",
        "validation_status": label.validation_status.value,
        "timestamp_added": stamp(label.timestamp_added) if label.timestamp_added else None,
        "label_proposed_by": label.label_proposed_by,
        "reasoning": label.reasoning,
        "proposed_status": label.proposed_status and label.proposed_status.value,
    }
    begins = {} if label.begins is None else {"begins": {"BOOL": label.begins}}
    return {**_texts(texts), **begins, **_numbers({"confidence": label.confidence})}


def new_proposal_put(label: ReceiptWordLabel) -> RawItem:
    """Put of a label, if there is none of its key."""
    return {"Item": label_item(label), "ConditionExpression": "attribute_not_exists(PK)"}


def replacing_put(label: ReceiptWordLabel, known: ReceiptWordLabel) -> RawItem:
    """Put of a label over a known open proposal of the same key."""
    return {"Item": label_item(label), **_still_open(known)}


def proposal_delete(known: ReceiptWordLabel) -> RawItem:
    """Delete of a known open proposal."""
    return {"Key": key(image_pk(known.image_id), label_sk(known)), **_still_open(known)}


def _still_open(known: ReceiptWordLabel) -> RawItem:
    return {
        "ConditionExpression": "validation_status = :status AND proposed_status = :status AND label_proposed_by = :by",
        "ExpressionAttributeValues": {
            ":status": {"S": known.validation_status.value},
            ":by": {"S": str(known.label_proposed_by)},
        },
    }


def status_update(label: ReceiptWordLabel, status: ValidationStatus) -> RawItem:
    """Update of a stored label's status, if the stored status is the known one; it is no open proposal then.

    GSI3 sorts the labels of a status by place, so only the partition changes.
    """
    before, after = label.validation_status, status
    return {
        "Key": key(image_pk(label.image_id), label_sk(label)),
        "UpdateExpression": "SET validation_status = :after, GSI3PK = :pk_after REMOVE proposed_status",
        "ConditionExpression": "GSI3PK = :pk_before AND "
        "(validation_status = :before OR attribute_not_exists(validation_status))",
        "ExpressionAttributeValues": {
            ":before": {"S": before.value},
            ":after": {"S": after.value},
            ":pk_before": {"S": validation_pk(before)},
            ":pk_after": {"S": validation_pk(after)},
        },
    }


LABEL_ATTRIBUTES: Final = ("PK", "SK", "GSI3PK", "begins")
"""Attributes read of a label without author, time and reasons."""


def label_from(raw: RawItem) -> ReceiptWordLabel:
    receipt_id, line_id, word_id, label = _match(_LABEL_SK, raw)
    begins = raw.get("begins", {}).get("BOOL")
    return ReceiptWordLabel(
        image_id=image_of(raw),
        receipt_id=int(receipt_id),
        line_id=int(line_id),
        word_id=int(word_id),
        label=label,
        validation_status=ValidationStatus(_text(raw, "validation_status") or raw["GSI3PK"]["S"].partition("#")[2]),
        begins=begins,
        timestamp_added=_text(raw, "timestamp_added"),  # type: ignore[arg-type]  # pydantic reads the time
        label_proposed_by=_text(raw, "label_proposed_by"),
        reasoning=_text(raw, "reasoning"),
        confidence=_number(raw["confidence"]) if {"N", "S"} & raw.get("confidence", {}).keys() else None,
        proposed_status=_text(raw, "proposed_status"),  # type: ignore[arg-type]  # pydantic reads the status
    )


def is_receipt(raw: RawItem) -> bool:
    return _RECEIPT_SK.fullmatch(raw["SK"]["S"]) is not None


def is_word(raw: RawItem) -> bool:
    return _WORD_SK.fullmatch(raw["SK"]["S"]) is not None


def is_label(raw: RawItem) -> bool:
    return _LABEL_SK.fullmatch(raw["SK"]["S"]) is not None


def image_of(raw: RawItem) -> str:
    """The image's id, of any item that lies under it."""
    return str(raw["PK"]["S"]).removeprefix(IMAGE_PREFIX)


def _match(pattern: re.Pattern[str], raw: RawItem) -> Sequence[str]:
    found = pattern.fullmatch(raw["SK"]["S"])
    if found is None:
        raise ValueError(f"the sort key {raw['SK']['S']!r} is none of a receipt")
    return found.groups()


def _index(name: str, pk: str, sk: str) -> dict[str, str]:
    return {f"{name}PK": pk, f"{name}SK": sk}


def _texts(values: dict[str, str | None]) -> RawItem:
    return {name: {"S": value} for name, value in values.items() if value is not None}


def _numbers(values: dict[str, float | None]) -> RawItem:
    """repr keeps a float exact in at most 17 digits; DynamoDB holds 38."""
    return {name: {"N": repr(value)} for name, value in values.items() if value is not None}


def _number(value: RawItem) -> float:
    """A finite number, also one that was stored as text."""
    return float(number_of(value["N"] if "N" in value else value["S"]))


def _text(raw: RawItem, name: str) -> str | None:
    """The original system writes {"NULL": True} for an unknown value."""
    text: str | None = raw.get(name, {}).get("S")
    return text

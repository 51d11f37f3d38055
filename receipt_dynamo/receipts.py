"""Records of labelled receipts: a receipt of an image, its words, and their labels."""

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from receipt_dynamo.entities import Time

FIRST_ID, LAST_ID = 0, 99_999
"""Receipts, lines and words are numbered in five digits, so that their keys sort as their numbers do."""

_Number = Annotated[int, Field(ge=FIRST_ID, le=LAST_ID)]
_Pixels = Annotated[int, Field(gt=0, le=10**9)]  # as many as a page may have


class ValidationStatus(StrEnum):
    """Review status of a label."""

    VALID = "VALID"
    INVALID = "INVALID"
    NEEDS_REVIEW = "NEEDS_REVIEW"
    PENDING = "PENDING"
    NONE = "NONE"  # proposed, not under review yet

    @property
    def is_unreviewed(self) -> bool:
        """Whether the label is neither confirmed nor rejected."""
        return self not in (ValidationStatus.VALID, ValidationStatus.INVALID)


def _one_part(value: str) -> str:
    if not value or "#" in value:
        raise ValueError("must not be empty nor contain '#', which separates the parts of a key")
    return value


def _characters(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("has half of a surrogate pair, which is not a character") from None
    return value


_KeyPart = Annotated[str, AfterValidator(_one_part)]
_Text = Annotated[str, AfterValidator(_characters)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Receipt(_Record):
    """One receipt of an image. `page_id` and `group` are those of the page it was loaded from, if any."""

    image_id: _KeyPart
    receipt_id: _Number
    width: _Pixels  # of the receipt's own scan
    height: _Pixels
    timestamp_added: Time | None = None
    merchant_name: _Text | None = None
    page_id: _Text | None = None
    group: _Text | None = None
    sha256: str | None = None  # of the scan
    order: str | None = None  # "given": the words are read as they are numbered; None: by their boxes


class ReceiptWord(_Record):
    """A recognised word with its box as fractions of the receipt, 0..1, origin bottom-left."""

    image_id: _KeyPart
    receipt_id: _Number
    line_id: _Number
    word_id: _Number
    text: _Text
    x: float
    y: float  # of the lower edge
    width: float
    height: float
    confidence: float | None = None


class ReceiptWordLabel(_Record):
    """A proposed or reviewed label of a word. `begins` is whether the word begins an entity or continues one.

    None where that is not recorded: it then follows from the printed lines. `proposed_status` is the status that a
    model proposed it with, and `confidence` the model's in it.
    """

    image_id: _KeyPart
    receipt_id: _Number
    line_id: _Number
    word_id: _Number
    label: str
    validation_status: ValidationStatus
    begins: bool | None = None
    timestamp_added: Time | None = None
    label_proposed_by: str | None = None
    reasoning: str | None = None
    confidence: float | None = None
    proposed_status: ValidationStatus | None = None

    @property
    def is_open_proposal(self) -> bool:
        """Whether a model proposed it and nobody has decided on it since; every change of the status is a decision."""
        return self.proposed_status is self.validation_status

"""The JSONL format for import: one page a line.

| field | other names | content |
|---|---|---|
| page_id | id | a string, unique in the file |
| words | tokens | strings, none blank |
| boxes | bboxes | [x0, y0, x1, y1] for each word, 0..1000 of the page, origin top-left; floats are rounded |
| tags | labels, ner_tags | BIO strings for each word; - for an unlabelled word |
| width, height | | of the image; 1000 when absent |
| group | | merchant or document family; absent: key.company in letters and digits, else the page id |
| key | | an object, of which only `company` is read |
| image | | digest of the scan |
| order | | "given": the words are read in the order of the line; absent: by their boxes |

Of several names of a field on one line the first in the order of the table is used. Other fields are ignored, `lines`
among them: printed lines are found from the boxes. An I- tag that continues no entity of its label begins one, so that
IOB1 is read too.
"""

import re

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator

from receipt_layoutlm.data.page import DEFAULT_ORDER, WordOrder

_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")


class ImportedKey(BaseModel):
    """Field values of a whole receipt, as in SROIE."""

    model_config = ConfigDict(frozen=True, strict=True)

    company: str | None = None


class ImportedPage(BaseModel):
    """One line; types are validated here, values by Page."""

    model_config = ConfigDict(frozen=True, strict=True)

    page_id: str = Field(validation_alias=AliasChoices("page_id", "id"))
    words: tuple[str, ...] = Field(validation_alias=AliasChoices("words", "tokens"))
    boxes: tuple[tuple[float, float, float, float], ...] = Field(validation_alias=AliasChoices("boxes", "bboxes"))
    tags: tuple[str, ...] = Field(validation_alias=AliasChoices("tags", "labels", "ner_tags"))
    width: int = 1000
    height: int = 1000
    group: str | None = None
    key: ImportedKey | None = None
    image: str | None = None
    order: WordOrder = DEFAULT_ORDER

    @field_validator("boxes")
    @classmethod
    def _are_thousandths(
        cls, boxes: tuple[tuple[float, float, float, float], ...]
    ) -> tuple[tuple[float, float, float, float], ...]:
        for index, box in enumerate(boxes):
            if not all(0 <= value <= 1000 for value in box):
                raise ValueError(f"box {index} {list(box)} is outside the page: write thousandths of the page, 0..1000")
        if boxes and max(max(box) for box in boxes) <= 1:
            raise ValueError("no value is above 1: boxes seem to be shares of the page; write thousandths, 0..1000")
        return boxes

    def whole_boxes(self) -> tuple[tuple[int, int, int, int], ...]:
        """The boxes rounded to whole thousandths."""
        return tuple((round(x0), round(y0), round(x1), round(y1)) for x0, y0, x1, y1 in self.boxes)

    def merchant_group(self) -> str:
        """The group, else the company in letters and digits, else the page id."""
        if self.group is not None:
            return self.group
        company = self.key.company if self.key else None
        return normalised_name(company or "") or self.page_id

    def iob2_tags(self) -> tuple[str, ...]:
        """The tags, with B- for each I- that continues no entity of its label."""
        previous_tags = ("O", *self.tags)
        return tuple(
            f"B-{tag[2:]}" if tag.startswith("I-") and previous[1:] != tag[1:] else tag
            for previous, tag in zip(previous_tags, self.tags, strict=False)
        )


def normalised_name(name: str) -> str:
    """Letters and digits of a name, case folded, with single spaces."""
    return _NOT_ALPHANUMERIC.sub(" ", name.casefold()).strip()

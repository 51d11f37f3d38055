"""What a JSONL line that a person brings may look like, and how it is read.

| field | other names | content |
|---|---|---|
| page_id | id | a string, unique in the file |
| words | tokens | strings, none blank |
| boxes | bboxes | [x0, y0, x1, y1] for each word, 0..1000 of the page, origin top-left; floats are rounded |
| tags | labels, ner_tags | BIO strings for each word; - where nobody has decided |
| width, height | | of the image; 1000 when absent |
| group | | merchant or document family; absent: key.company in letters and digits, else the page id |
| key | | an object, of which only `company` is read |
| image | | digest of the scan |

Where a field has several names and a line has several of them, the first in the table's order counts. Other
fields are ignored, `lines` among them: printed lines are found from the boxes. An I- tag that continues no
entity of its label opens one (so IOB1 is read too).
"""

import re

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator

_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")


class ImportedKey(BaseModel):
    """Field values of a whole receipt, as SROIE has them."""

    model_config = ConfigDict(frozen=True, strict=True)

    company: str | None = None


class ImportedPage(BaseModel):
    """One line; the types are checked here, the sense of the values by `data.Page`."""

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

    @field_validator("boxes")
    @classmethod
    def _are_thousandths(
        cls, boxes: tuple[tuple[float, float, float, float], ...]
    ) -> tuple[tuple[float, float, float, float], ...]:
        for index, box in enumerate(boxes):
            if not all(0 <= value <= 1000 for value in box):
                raise ValueError(f"box {index} {list(box)} is outside the page: give thousandths of the page, 0..1000")
        if boxes and max(max(box) for box in boxes) <= 1:
            raise ValueError("no value is above 1: these are shares of the page; give thousandths, 0..1000")
        return boxes

    def whole_boxes(self) -> tuple[tuple[int, int, int, int], ...]:
        """The boxes with each value rounded to the nearest whole thousandth."""
        return tuple((round(x0), round(y0), round(x1), round(y1)) for x0, y0, x1, y1 in self.boxes)

    def merchant_group(self) -> str:
        """The group given, else the company's letters and digits, else the page id."""
        if self.group is not None:
            return self.group
        company = self.key.company if self.key else None
        return normalised_name(company or "") or self.page_id

    def iob2_tags(self) -> tuple[str, ...]:
        """The tags, with each I- that continues no entity of its label turned into a B-."""
        before = ("O", *self.tags)
        return tuple(
            f"B-{tag[2:]}" if tag.startswith("I-") and previous[1:] != tag[1:] else tag
            for previous, tag in zip(before, self.tags, strict=False)
        )


def normalised_name(name: str) -> str:
    """Letters and digits of a name, case folded, words parted by one space."""
    return _NOT_ALPHANUMERIC.sub(" ", name.casefold()).strip()

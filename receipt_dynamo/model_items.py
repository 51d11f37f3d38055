"""PynamoDB items of promoted models: MODEL#{stage} / VERSION#{n:06d}, one row for each promotion, never changed."""

from pynamodb.attributes import UnicodeAttribute

from receipt_dynamo.attributes import DocumentAttribute, NumericAttribute, TimeAttribute
from receipt_dynamo.entities import Promotion
from receipt_dynamo.items import RawItem, TableItem, item_at, key, values_of

VERSION_PREFIX = "VERSION#"


class PromotionItem(TableItem, discriminator="MODEL_VERSION"):
    version = NumericAttribute()
    action = UnicodeAttribute()
    job_id = UnicodeAttribute()
    job_name = UnicodeAttribute()
    model_uri = UnicodeAttribute()
    manifest_sha256 = UnicodeAttribute()
    promoted_at = TimeAttribute()
    promoted_by = UnicodeAttribute()
    reason = UnicodeAttribute()
    evidence = DocumentAttribute()


def stage_pk(stage: str) -> str:
    return f"MODEL#{stage}"


def promotion_item(promotion: Promotion) -> PromotionItem:
    row = key(stage_pk(promotion.stage), f"{VERSION_PREFIX}{promotion.version:06d}")
    return item_at(PromotionItem, row, **promotion.model_dump(exclude={"stage"}))


def promotion_from(stage: str, raw: RawItem) -> Promotion:
    return Promotion(stage=stage, **values_of(PromotionItem, raw))

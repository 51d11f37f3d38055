"""PynamoDB items of alerts: JOB#{job_id} / ALERT#{kind}[#{occasion}], listed over all jobs by time in GSI1.

The key is what keeps an alert the only one of its kind. A row begins as an update: the scaler may put no item of a job.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, cast

from pynamodb.attributes import UnicodeAttribute
from pynamodb.expressions.update import Action

from receipt_dynamo.attributes import DocumentAttribute, NumericAttribute, TimeAttribute, stamp
from receipt_dynamo.entities import Alert
from receipt_dynamo.items import RawItem, TableItem, id_of, job_pk, key, values_of
from receipt_dynamo.writes import Write, update

ALERT_PREFIX: Final = "ALERT#"
ALERTS_KEY: Final = "ALERTS"


class AlertItem(TableItem, discriminator="ALERT"):
    kind = UnicodeAttribute()
    occasion = UnicodeAttribute()
    job_name = UnicodeAttribute()
    level = UnicodeAttribute()
    message = UnicodeAttribute()
    attempt = NumericAttribute()
    raised_at = TimeAttribute()
    raised_by = UnicodeAttribute()
    delivery = DocumentAttribute(null=True)


def alert_key(job_id: str, kind: str, occasion: str) -> RawItem:
    return key(job_pk(job_id), f"{ALERT_PREFIX}{kind}" + (f"#{occasion}" if occasion else ""))


def raised_range(since: datetime) -> tuple[str, str]:
    """The first and last index key of alerts raised since then."""
    return stamp(since), "~"


def alert_write(alert: Alert) -> Write:
    """The alert, unless it was raised before."""
    values = alert.model_dump(exclude={"job_id", "delivery"})
    actions = [getattr(AlertItem, name).set(value) for name, value in values.items()]
    raised = f"{stamp(alert.raised_at)}#{alert.job_id}"
    actions += [
        cast(Action, AlertItem.cls.set(AlertItem)),
        AlertItem.gsi1_pk.set(ALERTS_KEY),
        AlertItem.gsi1_sk.set(raised),
    ]
    row = alert_key(alert.job_id, alert.kind, alert.occasion)
    return update(row, actions, AlertItem.pk.does_not_exist())


def delivery_write(alert: Alert, delivery: Mapping[str, str]) -> Write:
    row = alert_key(alert.job_id, alert.kind, alert.occasion)
    return update(row, [AlertItem.delivery.set(dict(delivery))], AlertItem.pk.exists())


def alert_from(raw: RawItem) -> Alert:
    values = values_of(AlertItem, raw)
    return Alert(job_id=id_of(raw), **values | {"delivery": values.get("delivery") or {}})

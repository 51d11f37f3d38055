"""The server's time: this machine's clock, corrected by the Date headers of the table's replies."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from receipt_dynamo.entities import utcnow

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

log = logging.getLogger(__name__)

SECOND = timedelta(seconds=1)  # the resolution of a Date header, and what a sound clock may be off by
TOLD_FROM = timedelta(seconds=5)  # a machine's clock that is off by more is worth a warning
_SENT_AT = "layoutlm.sent_at"


class ServerClock:
    """Now, by the server that keeps the table. Before the first reply, and without Date headers, this machine's now.

    `wall` is the clock of this machine. Its readings go unchanged while they agree with the replies, so that times of
    one process keep their order.
    """

    def __init__(self, wall: Callable[[], datetime] = utcnow) -> None:
        self._wall = wall
        self.is_told = False
        self.offset = timedelta(0)  # server's time minus this machine's

    def __call__(self) -> datetime:
        return self._wall() + self.offset

    def follow(self, client: "DynamoDBClient") -> None:
        """Learn from every successful reply to this client."""
        client.meta.events.register("before-call.dynamodb", self._before_call)
        client.meta.events.register("after-call.dynamodb", self._after_call)

    def learn(self, date: datetime, sent_at: datetime, received_at: datetime) -> None:
        """A reply was dated `date`, cut to the second, between these two readings of the machine's clock."""
        least, most = date - received_at, date + SECOND - sent_at
        if least - SECOND <= self.offset <= most + SECOND:
            return
        self.offset = (least + most) / 2
        if abs(self.offset) > TOLD_FROM and not self.is_told:
            self.is_told = True
            seconds = round(self.offset.total_seconds())
            direction = "behind" if seconds > 0 else "ahead of"
            log.warning(
                "the clock of this machine is %d s %s the table's: times are corrected; set the clock (NTP)",
                abs(seconds),
                direction,
            )

    def _before_call(self, context: dict[str, Any], **_: object) -> None:
        context[_SENT_AT] = self._wall()

    def _after_call(self, parsed: dict[str, Any], context: dict[str, Any], **_: object) -> None:
        metadata = parsed.get("ResponseMetadata", {})
        sent_at, header = context.get(_SENT_AT), metadata.get("HTTPHeaders", {}).get("date")
        if sent_at is None or header is None or metadata.get("HTTPStatusCode") != 200:
            return
        try:
            self.learn(parsedate_to_datetime(header), sent_at, self._wall())
        except (ValueError, TypeError, OverflowError):  # no date, or one without a time zone
            log.debug("a reply has the Date header %r", header)

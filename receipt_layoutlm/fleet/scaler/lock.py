"""One look of a fleet at a time, by a row of the table: two at once could set 5 and then 3 machines."""

import logging
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from receipt_dynamo import StoreError
from receipt_layoutlm.fleet.scaler.figures import Look, Scaler
from receipt_layoutlm.fleet.scaler.look import look

log = logging.getLogger(__name__)

LOCK_SECONDS: Final = 60.0  # at least the function's timeout in workers.yaml: the lock outlives its holder
PATIENCE_SECONDS: Final = 30  # for the look that is under way, in pauses of a second
CLOCK_SKEW: Final = timedelta(seconds=2)  # of two readings of the server's time


class LookBusy(Exception):
    """Another look has been under way for too long."""


def look_alone(scaler: Scaler, named: Sequence[str], wait: Callable[[float], object]) -> Look | None:
    """Look once no other look is under way; None when one that began after this call sees all that this one would.

    Only a look that names jobs is never left to another one: the other may read an index that does not list them yet.
    Raises LookBusy, StoreError.
    """
    token, asked_at = str(uuid.uuid4()), scaler.now()
    for _ in range(PATIENCE_SECONDS):
        taken_at = scaler.rows.take_lock(scaler.fleet, token, LOCK_SECONDS)
        if taken_at is None:
            break
        if not named and taken_at > asked_at + CLOCK_SKEW:
            return None
        wait(1.0)
    else:
        raise LookBusy(f"another look has been under way since {taken_at:%H:%M:%S} UTC")
    try:
        return look(scaler, named)
    finally:
        try:
            scaler.rows.release_lock(scaler.fleet, token)
        except StoreError as error:
            log.warning("the next look waits until the lock expires: %s", error)

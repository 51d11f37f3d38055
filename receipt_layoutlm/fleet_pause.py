"""Whether a fleet takes jobs at the moment, as a worker asks before each claim."""

import logging

from receipt_dynamo import FleetRows

log = logging.getLogger(__name__)


class PauseWatch:
    """Reads the pause of a fleet, and says once why there is one and once that it is over."""

    def __init__(self, rows: FleetRows, fleet: str) -> None:
        self._rows = rows
        self._fleet = fleet
        self._reason: str | None = None  # the last that was said

    def __call__(self) -> bool:
        """Raises StoreUnavailable."""
        pause = self._rows.get_pause(self._fleet)
        reason = None if pause is None else pause.reason
        if reason != self._reason:
            if pause is None:
                log.info("fleet %s is no longer paused", self._fleet)
            else:
                log.warning("fleet %s is paused until %s: %s", self._fleet, f"{pause.until:%F %H:%M} UTC", reason)
            self._reason = reason
        return pause is not None

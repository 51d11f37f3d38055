"""Membership of a machine in a fleet: pauses, its first claim, and how long a job waited for its boot."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from receipt_dynamo import DynamoClient, FleetRows, Job, StoreError

log = logging.getLogger(__name__)

UPTIME = Path("/proc/uptime")


class FleetMembership:
    """One worker's view of the fleet that its machine belongs to.

    Only a machine with an instance id was started for a job: `uptime` is in seconds, at the time of this call. From the
    age `drain_after` on, it finishes its jobs and claims no others; None: at no age.
    """

    def __init__(
        self,
        client: DynamoClient,
        fleet: str,
        instance_id: str | None = None,
        uptime: float | None = None,
        now: Callable[[], datetime] | None = None,
        drain_after: timedelta | None = None,
    ) -> None:
        self._client, self._rows, self._fleet, self._instance_id = client, FleetRows(client), fleet, instance_id
        self._now, self._drain_after = now or client.now, drain_after
        self._uptime, self._ready_at = uptime, self._now()
        self._pause_reason: str | None = None  # as logged last

    def is_paused(self) -> bool:
        """Whether the fleet claims no jobs now; logs each change once. Raises StoreUnavailable."""
        pause = self._rows.get_pause(self._fleet)
        reason = None if pause is None else pause.reason
        if reason != self._pause_reason:
            if pause is None:
                log.info("fleet %s is no longer paused", self._fleet)
            else:
                log.warning("fleet %s is paused until %s: %s", self._fleet, f"{pause.until:%F %H:%M} UTC", reason)
            self._pause_reason = reason
        return pause is not None

    def is_outdated(self) -> bool:
        """Whether this machine is so old that a new one, with the patches of today's image, shall take its place."""
        if self._drain_after is None or self._uptime is None or self._instance_id is None:
            return False
        return self._now() - self._ready_at + timedelta(seconds=self._uptime) >= self._drain_after

    def record_activity(self) -> None:
        """Tell the scaler that a job was claimed, or ended, on this machine. Failing to do so is not worth a job."""
        if self._instance_id is None:
            return
        try:
            self._rows.note_claim(self._fleet, self._instance_id)
        except StoreError as error:
            log.warning("the scaler does not know that this machine is in use: %s", error)

    def boot_seconds(self, job: Job) -> float | None:
        """Seconds that the first job claimed on this machine waited for its boot; None when it did not."""
        if self._instance_id is None or self._uptime is None:
            return None
        try:
            free_at = self._client.claimable_since(job, job.attempt - 1)
        except StoreError as error:
            log.warning("how long attempt %d waited for the boot is unknown: %s", job.attempt, error)
            return None
        return boot_share(self._uptime, self._ready_at, free_at)


def boot_share(uptime: float, ready_at: datetime, free_at: datetime) -> float | None:
    """Seconds of a job's wait during which the machine booted; its worker was ready after `uptime` seconds.

    None for a job that became claimable later than that: the machine was there before it.
    """
    waited = (ready_at - free_at).total_seconds()
    return min(uptime, waited) if waited > 0 else None


def uptime_seconds(proc_uptime: Path = UPTIME) -> float | None:
    """Seconds since the boot; None on systems without /proc/uptime."""
    try:
        return float(proc_uptime.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None

"""How long held leases were seen without a renewal.

An `expires_at` was written by the holder's clock, which may be off. A lease that stands still between two looks, for as
long as it lasts, has no living holder, whatever the clocks say.
"""

import time
from collections.abc import Callable, Iterable, Sequence

from pydantic import BaseModel, ConfigDict

from receipt_dynamo.entities import Lease


class Sighting(BaseModel):
    """The renewals of one attempt's lease, unchanged since `seen_at` (seconds of the watch's clock)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    job_id: str
    attempt: int
    renewals: int
    seen_at: float

    def is_of(self, lease: Lease) -> bool:
        """Whether the lease was not renewed since."""
        return (self.job_id, self.attempt, self.renewals) == (lease.job_id, lease.attempt, lease.renewals)


class LeaseWatch:
    """First sightings of held leases. Of the clock `seconds` only differences count."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._first: dict[str, Sighting] = {}

    def note(self, lease: Lease) -> None:
        """See one lease, which this process holds itself or has just read."""
        first = self._first.get(lease.job_id)
        if first is None or not first.is_of(lease):
            self._first[lease.job_id] = Sighting(
                job_id=lease.job_id, attempt=lease.attempt, renewals=lease.renewals, seen_at=self._seconds()
            )

    def look(self, held: Sequence[Lease]) -> None:
        """See all held leases; those that are no longer held are forgotten."""
        for lease in held:
            self.note(lease)
        job_ids = {lease.job_id for lease in held}
        self._first = {job_id: first for job_id, first in self._first.items() if job_id in job_ids}

    def recall(self, sightings: Iterable[Sighting]) -> None:
        """Add sightings that an earlier process with the same clock kept."""
        now = self._seconds()
        self._first |= {each.job_id: each for each in sightings if each.seen_at <= now}

    def still_seconds(self, lease: Lease) -> float:
        """Seconds since the lease was first seen with these renewals; 0 for one that was not seen."""
        first = self._first.get(lease.job_id)
        return self._seconds() - first.seen_at if first is not None and first.is_of(lease) else 0.0

    def sightings(self) -> Sequence[Sighting]:
        return tuple(self._first.values())

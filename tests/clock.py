"""A clock that only the test moves."""

from datetime import UTC, datetime, timedelta


class Clock:
    """Callable as `now`; starts at a round time."""

    def __init__(self, now: datetime = datetime(2026, 5, 1, 12, tzinfo=UTC)) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

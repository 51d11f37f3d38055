"""Records of a fleet: that it is paused, and what its machines cost in a day."""

from datetime import date

from pydantic import BaseModel, ConfigDict

from receipt_dynamo.entities import Time


class FleetPause(BaseModel):
    """No worker of the fleet claims and no machine is started before `until`."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer scaler may write more

    fleet: str
    reason: str
    paused_at: Time
    until: Time


class FleetCost(BaseModel):
    """US dollars that the machines of a fleet cost on one day (UTC), up to `metered_until`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    fleet: str
    day: date
    dollars: float = 0.0
    metered_until: Time | None = None

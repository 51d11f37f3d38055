"""What the scaler on AWS is told: one JSON document, which the stack writes into its environment."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from receipt_layoutlm.errors import UserError
from receipt_layoutlm.prices import PriceTable

VARIABLE = "LAYOUTLM_SCALER"


class BadSettings(UserError):
    """The scaler's settings cannot be read."""


class GroupSettings(BaseModel):
    """An autoscaling group, the queue that it serves, and the most machines that it may have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    queue: str = Field(min_length=1)
    maximum: int = Field(ge=0)


class ScalerSettings(BaseModel):
    """`max_cost_per_day` in US dollars, 0 for no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fleet: str = Field(min_length=1)
    table: str = Field(min_length=1)
    groups: tuple[GroupSettings, ...] = Field(min_length=1)
    slots: int = Field(1, ge=1)
    max_cost_per_day: float = Field(0.0, ge=0, allow_inf_nan=False)
    ondemand_after: int = Field(0, ge=0)
    prices: Annotated[PriceTable | None, BeforeValidator(lambda given: given or None)] = None


def parse_settings(text: str | None) -> ScalerSettings:
    """Raises BadSettings."""
    if not text:
        raise BadSettings(f"{VARIABLE} is not set: the stack of 'layoutlm-cli fleet deploy' sets it")
    try:
        return ScalerSettings.model_validate_json(text)
    except ValidationError as error:
        raise BadSettings(f"{VARIABLE} cannot be read: {error}") from error

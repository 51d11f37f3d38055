"""What the scaler tells CloudWatch: a figure only while it is not zero, so that an idle fleet costs nothing."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient


Metric = Literal["Backlog", "OldestPendingAge", "Running", "JobsFailed", "IdleMachines", "OldestInstanceAge"]

UNITS: Mapping[Metric, Literal["Count", "Seconds", "None"]] = {
    "Backlog": "Count",
    "OldestPendingAge": "Seconds",
    "Running": "Count",
    "JobsFailed": "Count",
    "IdleMachines": "Count",  # while nothing waits and nothing runs
    "OldestInstanceAge": "None",  # hours, which CloudWatch has no unit for
}


def namespace(fleet: str) -> str:
    """Where the figures of a fleet are found; they have no dimensions."""
    return f"LayoutLM/{fleet}"


def publish(
    connect: Callable[[], "CloudWatchClient"], fleet: str, figures: Mapping[Metric, float], at: datetime
) -> None:
    """Send what is not zero, in one request; when everything is, not even a client is made."""
    told = {name: value for name, value in figures.items() if value}
    if told:
        connect().put_metric_data(
            Namespace=namespace(fleet),
            MetricData=[
                {"MetricName": name, "Timestamp": at, "Value": value, "Unit": UNITS[name]}
                for name, value in told.items()
            ],
        )

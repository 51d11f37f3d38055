"""AlertRows: raises alerts about jobs, each once. `DynamoClient.list_alerts` reads them."""

from collections.abc import Mapping

from receipt_dynamo import items
from receipt_dynamo.alert_items import alert_key, alert_write, delivery_write
from receipt_dynamo.arguments import checked
from receipt_dynamo.client import DynamoClient, fence
from receipt_dynamo.entities import Alert, Job, Lease
from receipt_dynamo.errors import LeaseLost
from receipt_dynamo.items import JobItem, lease_key
from receipt_dynamo.writes import ConditionFailed, Write, check


class AlertRows:
    """Writes the alerts of one table through a DynamoClient's connection."""

    def __init__(self, client: DynamoClient) -> None:
        self._client = client

    @checked
    def raise_while_held(self, lease: Lease, alert: Alert) -> bool:
        """Store an alert under the lease's fence; False if it was raised before. Raises LeaseLost."""
        failed = self._stored(alert, check(lease_key(alert.job_id), fence(lease)))
        if failed[1]:
            raise LeaseLost(f"attempt {lease.attempt} of job {lease.job_id} no longer holds its lease")
        return not failed[0]

    @checked
    def raise_in_state(self, job: Job, alert: Alert) -> bool:
        """Store an alert about a job in the state in which it was read; False if it has moved on, or was told."""
        as_read = (JobItem.status == job.status.value) & (JobItem.attempt == job.attempt)
        return not any(self._stored(alert, check(items.job_key(job.job_id), as_read)))

    def _stored(self, alert: Alert, condition: Write) -> tuple[bool, ...]:
        """Which of the two conditions failed: the alert's own, and the one beside it."""
        try:
            self._client.writer.execute(alert_write(alert), condition)
        except ConditionFailed as lost:
            return lost.failed
        return False, False

    @checked
    def is_raised(self, job_id: str, kind: str, occasion: str = "") -> bool:
        """Whether such an alert is stored, which nothing takes back."""
        return self._client.get_row(alert_key(job_id, kind, occasion), consistent=False) is not None

    @checked
    def note_delivery(self, alert: Alert, delivery: Mapping[str, str]) -> None:
        """Store what became of sending it, by target. Does nothing once the job is deleted."""
        try:
            self._client.writer.execute(delivery_write(alert, delivery))
        except ConditionFailed:
            return

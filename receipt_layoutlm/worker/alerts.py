"""Alerts about jobs: a row first, which decides that each is raised once, then a message on a thread of its own.

A process that dies between the two leaves the row without a delivery: an alert is sent at most once, and
`layoutlm-cli job alerts` shows those that were not.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from receipt_dynamo import (
    Alert,
    AlertRows,
    DynamoClient,
    Job,
    JobStatus,
    Lease,
    LeaseLost,
    StoreError,
    StoreUnavailable,
)
from receipt_dynamo.entities import AlertLevel
from receipt_dynamo.limits import cut_text
from receipt_layoutlm.run.events import Evaluation
from receipt_layoutlm.worker.delivery import Deliver, NotDelivered

log = logging.getLogger(__name__)

WAIT_SECONDS: Final = 10.0
"""That a process waits at its end for messages under way."""

MESSAGE_CHARACTERS: Final = 500

OF_ITS_OWN: Final[dict[str, AlertLevel]] = {"non_finite_loss": "error", "cost_limit": "warning"}
"""Causes of a failure that are kinds of alerts."""


class Alerts:
    """Raises the alerts that one process sees. None of its methods waits for a message to be sent."""

    def __init__(self, client: DynamoClient, raised_by: str, now: Callable[[], datetime], deliver: Deliver) -> None:
        self._client, self._rows = client, AlertRows(client)
        self._raised_by, self._now, self._deliver = raised_by, now, deliver
        self._under_way: list[threading.Thread] = []

    def while_held(self, job: Job, lease: Lease, kind: str, level: AlertLevel, text: str) -> None:
        """About a job in hand, once in its life. Raises LeaseLost, StoreUnavailable: it is recorded like an event."""
        alert = self._alert(job, kind, level, text, lease.attempt)
        try:
            if self._rows.raise_while_held(lease, alert):
                self._send(job, alert)
        except (LeaseLost, StoreUnavailable):
            raise
        except StoreError as error:
            log.warning("alert %s of job %s was not stored: %s", kind, job.name, error)

    def ended(self, job_id: str) -> None:
        """About the final state of a job, once for each attempt that reaches one. A failure is a line of the log."""
        try:
            job = self._client.get_job(job_id, consistent=True)
            if not job.status.is_final:
                return
            kind, level, text = _ending(job)
            alert = self._alert(job, kind, level, text, job.attempt, occasion=str(job.attempt))
            if self._rows.raise_in_state(job, alert):
                self._send(job, alert)
        except StoreError as error:
            log.warning("the alert about the end of job %s was not stored: %s", job_id, error)

    def rescued(self, jobs: Iterable[Job]) -> None:
        """About those of the jobs of a rescue that it ended."""
        for job in jobs:
            if job.status.is_final:
                self.ended(job.job_id)

    def waits_for_capacity(self, job: Job, text: str) -> None:
        """About a job that no machine comes for, once in its life. Raises StoreError."""
        if self._rows.is_raised(job.job_id, "waits_for_capacity"):  # read, because every look comes by here
            return
        alert = self._alert(job, "waits_for_capacity", "warning", text, job.attempt)
        if self._rows.raise_in_state(job, alert):
            self._send(job, alert)

    def wait(self, seconds: float = WAIT_SECONDS) -> None:
        """Let messages under way arrive; those that take longer are given up with the process."""
        until = time.monotonic() + seconds
        for thread in self._under_way:
            thread.join(max(0.0, until - time.monotonic()))
        self._under_way = [thread for thread in self._under_way if thread.is_alive()]

    def _alert(self, job: Job, kind: str, level: AlertLevel, text: str, attempt: int, occasion: str = "") -> Alert:
        return Alert(
            job_id=job.job_id,
            job_name=job.name,
            kind=kind,
            occasion=occasion,
            level=level,
            message=cut_text(f"{job.name} {text}", MESSAGE_CHARACTERS),
            attempt=attempt,
            raised_at=self._now(),
            raised_by=self._raised_by,
        )

    def _send(self, job: Job, alert: Alert) -> None:
        log.info("alert: %s", alert.message)
        if job.notify is not None:
            # a daemon: a server that never answers must not keep the process from ending
            thread = threading.Thread(target=self._deliver_to, args=(job.notify, alert), name="alert", daemon=True)
            self._under_way = [*(each for each in self._under_way if each.is_alive()), thread]
            thread.start()

    def _deliver_to(self, target: str, alert: Alert) -> None:
        try:
            self._deliver(target, alert)
            outcome = "sent"
        except NotDelivered as refusal:
            outcome = f"not sent: {refusal}"
            log.warning("alert %s of job %s was not sent: %s", alert.kind, alert.job_name, refusal)
        try:
            self._rows.note_delivery(alert, {target: outcome})
        except StoreError as error:
            log.warning("that alert %s was %s is not stored: %s", alert.kind, outcome, error)


def collapse_text(evaluation: Evaluation) -> str:
    """The alert about an evaluation that found one class for every word."""
    step = f"has collapsed at step {evaluation.global_step}: it predicts one class for everything"
    return step if not evaluation.health else f"{step} ({evaluation.health[0]})"


def _ending(job: Job) -> tuple[str, AlertLevel, str]:
    """Kind, level and text of a final state."""
    if job.status is JobStatus.FAILED and job.error is not None:
        cause = job.error.cause
        text = f"failed ({cause}): {job.error.message}"
        return (cause, OF_ITS_OWN[cause], text) if cause in OF_ITS_OWN else ("failed", "error", text)
    if job.status is JobStatus.SUCCEEDED:
        results = job.results or {}
        score = f": {results.get('metric_name', 'score')} {job.score:.4f}" if job.score is not None else ""
        return "succeeded", "info", f"succeeded{score}"
    return job.status.value, "error" if job.status is JobStatus.FAILED else "info", f"was {job.status}"

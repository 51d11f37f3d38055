"""EC2 instance metadata (IMDSv2): identity of this machine, spot notices and rebalance recommendations."""

import http.client
import json
import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from receipt_dynamo import Machine, utcnow
from receipt_layoutlm.errors import UserError

log = logging.getLogger(__name__)

DISABLED_VARIABLE = "AWS_EC2_METADATA_DISABLED"  # this name and the next are boto3's
ENDPOINT_VARIABLE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
ENDPOINT = "http://169.254.169.254"
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN_HEADER = "X-aws-ec2-metadata-token"
TOKEN_SECONDS = 21_600  # the maximum
RENEW_AFTER = 0.9  # of a token's lifetime
MAX_RESPONSE_BYTES = 65_536
GROUP_SECONDS = 60.0  # that an instance is assumed to last once its group terminates it: there is no deadline


class MetadataUnavailable(UserError):
    """The instance metadata did not answer as EC2 does, or not at all."""


@dataclass(frozen=True)
class Notice:
    """A spot interruption notice: the action (terminate, stop, hibernate) and its time."""

    action: str
    deadline: datetime

    def seconds_left(self, now: datetime) -> float:
        return (self.deadline - now).total_seconds()


class InstanceMetadata:
    """One instance's metadata. Renews the session token before it expires, or when it is refused."""

    def __init__(
        self, endpoint: str, timeout_seconds: float = 1.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._root = endpoint.rstrip("/") + "/latest/"
        self._timeout_seconds = timeout_seconds
        self._monotonic = monotonic
        self._token = ""
        self._renew_at = 0.0
        # a proxy cannot reach a link-local address
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def identity(self) -> Machine:
        """Instance type and region, and whether this is a spot instance."""
        return Machine(
            instance_type=self._get("meta-data/instance-type"),
            region=self._get("meta-data/placement/region"),
            spot=self._get("meta-data/instance-life-cycle") == "spot",
        )

    def instance_id(self) -> str | None:
        """Id of this instance, such as i-0123456789abcdef0."""
        return self._get("meta-data/instance-id")

    def zone(self) -> str | None:
        """Availability zone, which determines the spot price."""
        return self._get("meta-data/placement/availability-zone")

    def group_wants_end(self) -> bool:
        """Whether the autoscaling group is terminating this instance, for which there is no notice."""
        return self._get("meta-data/autoscaling/target-lifecycle-state") == "Terminated"

    def interruption(self) -> Notice | None:
        """The spot notice, if any."""
        document = self._document("meta-data/spot/instance-action")
        return None if document is None else Notice(document.get("action", "terminate"), _time(document, "time"))

    def rebalance(self) -> datetime | None:
        """Time of the recommendation to rebalance, made when an interruption has become more likely, if any."""
        document = self._document("meta-data/events/recommendations/rebalance")
        return None if document is None else _time(document, "noticeTime")

    def renew_token(self) -> None:
        """Get a session token. Raises MetadataUnavailable where there is none, as outside EC2."""
        sent = self._monotonic()
        body, headers = self._send("PUT", "api/token", {TTL_HEADER: str(TOKEN_SECONDS)})
        try:
            seconds = float(headers.get(TTL_HEADER, TOKEN_SECONDS))
        except ValueError as error:
            raise MetadataUnavailable(f"{self._root}api/token returned an invalid time to live: {error}") from error
        self._token, self._renew_at = body, sent + RENEW_AFTER * seconds

    def _document(self, path: str) -> dict[str, str] | None:
        text = self._get(path)
        if text is None:
            return None
        try:
            document = json.loads(text)
        except ValueError as error:
            raise MetadataUnavailable(f"{self._root}{path} did not answer with JSON: {text[:200]!r}") from error
        if not isinstance(document, dict):
            raise MetadataUnavailable(f"{self._root}{path} did not answer with an object: {text[:200]!r}")
        return {str(key): str(value) for key, value in document.items()}

    def _get(self, path: str) -> str | None:
        """The text at a path, or None for a 404. Replaces a refused token once."""
        if not self._token or self._monotonic() >= self._renew_at:
            self.renew_token()
        try:
            return self._read(path)
        except _Refused as refused:
            if refused.status != 401:
                raise
        self.renew_token()
        return self._read(path)

    def _read(self, path: str) -> str | None:
        try:
            return self._send("GET", path, {TOKEN_HEADER: self._token})[0]
        except _Refused as refused:
            if refused.status == 404:
                return None
            raise

    def _send(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
        try:
            request = urllib.request.Request(self._root + path, method=method, headers=dict(headers))
            with self._opener.open(request, timeout=self._timeout_seconds) as response:
                return response.read(MAX_RESPONSE_BYTES).decode(), response.headers
        except urllib.error.HTTPError as error:
            error.close()
            raise _Refused(self._root + path, error.code) from error
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: no address, or not UTF-8
            raise MetadataUnavailable(f"{self._root}{path} does not answer: {error}") from error


def _time(document: Mapping[str, str], key: str) -> datetime:
    try:
        moment = datetime.fromisoformat(document[key])
    except (KeyError, ValueError) as error:
        raise MetadataUnavailable(f"the instance metadata has no valid time {key!r}: {dict(document)}") from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class _Refused(MetadataUnavailable):
    def __init__(self, address: str, status: int) -> None:
        super().__init__(f"{address} answered with status {status}")
        self.status = status


class SpotWatch:
    """Polls the metadata on a thread. A notice stays: EC2 does not withdraw it."""

    def __init__(
        self, metadata: InstanceMetadata, poll_seconds: float = 5.0, now: Callable[[], datetime] = utcnow
    ) -> None:
        self._metadata = metadata
        self._poll_seconds = poll_seconds
        self._now = now
        self._is_answering = True
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spot-watch", daemon=True)
        self.interruption: Notice | None = None
        self.rebalance_recommended = False

    def seconds_left(self) -> float | None:
        """Until the interruption; None without a notice."""
        return None if self.interruption is None else self.interruption.seconds_left(self._now())

    def poll(self) -> None:
        """Poll once. An outage of the metadata is logged once."""
        try:
            self.interruption = self.interruption or self._metadata.interruption()
            if self.interruption is None and self._metadata.group_wants_end():
                deadline = self._now() + timedelta(seconds=GROUP_SECONDS)
                self.interruption = Notice("terminate by its group", deadline)
            self.rebalance_recommended = self.rebalance_recommended or self._metadata.rebalance() is not None
        except MetadataUnavailable as error:
            if self._is_answering:
                log.warning("spot notices cannot be read now: %s", error)
            self._is_answering = False
        else:
            self._is_answering = True

    def _run(self) -> None:
        self.poll()
        while not self._stopped.wait(self._poll_seconds):
            self.poll()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()


def find_metadata(environ: Mapping[str, str]) -> InstanceMetadata | None:
    """This machine's metadata; None where it is disabled or does not answer as EC2 does within a second."""
    if environ.get(DISABLED_VARIABLE, "").lower() == "true":
        return None
    metadata = InstanceMetadata(environ.get(ENDPOINT_VARIABLE) or ENDPOINT)
    try:
        metadata.renew_token()
    except MetadataUnavailable:
        return None
    return metadata

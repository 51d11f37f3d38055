"""Asks EC2's instance metadata (IMDSv2) what this machine is, and watches it for the end of a spot instance."""

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
from types import TracebackType
from typing import Self

from receipt_dynamo import Machine, utcnow
from receipt_layoutlm.errors import UserError

log = logging.getLogger(__name__)

DISABLED_VARIABLE = "AWS_EC2_METADATA_DISABLED"  # both names are boto3's
ENDPOINT_VARIABLE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
ENDPOINT = "http://169.254.169.254"
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN_HEADER = "X-aws-ec2-metadata-token"
TOKEN_SECONDS = 21_600  # the longest that EC2 gives
USED_SHARE = 0.9  # of a token's time; then comes the next
LONGEST_ANSWER = 65_536  # bytes
GROUP_SECONDS = 60.0  # that an autoscaling group's instance is counted on to last once it is to go: EC2 says no time


class MetadataUnavailable(UserError):
    """The instance metadata did not answer, or not as EC2 does."""


@dataclass(frozen=True)
class Notice:
    """EC2 takes this machine away: what it will do (terminate, stop, hibernate) and when."""

    action: str
    deadline: datetime

    def seconds_left(self, now: datetime) -> float:
        return (self.deadline - now).total_seconds()


class InstanceMetadata:
    """One instance's metadata. The session token is kept and renewed before it runs out, or when it is refused."""

    def __init__(
        self, endpoint: str, timeout_seconds: float = 1.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._root = endpoint.rstrip("/") + "/latest/"
        self._timeout_seconds = timeout_seconds
        self._monotonic = monotonic
        self._token = ""
        self._renew_at = 0.0
        # a proxy cannot reach an address of this very machine
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def identity(self) -> Machine:
        """Instance type, region, and whether this is a spot instance."""
        return Machine(
            instance_type=self._get("meta-data/instance-type"),
            region=self._get("meta-data/placement/region"),
            spot=self._get("meta-data/instance-life-cycle") == "spot",
        )

    def instance_id(self) -> str | None:
        """The name of this instance, such as i-0123456789abcdef0."""
        return self._get("meta-data/instance-id")

    def zone(self) -> str | None:
        """The availability zone, in which a spot instance has its price."""
        return self._get("meta-data/placement/availability-zone")

    def group_wants_end(self) -> bool:
        """Whether the autoscaling group is taking this instance away (there is no notice for that)."""
        return self._get("meta-data/autoscaling/target-lifecycle-state") == "Terminated"

    def interruption(self) -> Notice | None:
        """The spot notice; None as long as there is none."""
        found = self._document("meta-data/spot/instance-action")
        return None if found is None else Notice(found.get("action", "terminate"), self._time(found, "time"))

    def rebalance(self) -> datetime | None:
        """When EC2 saw that an interruption has become more likely; None as long as it has not."""
        found = self._document("meta-data/events/recommendations/rebalance")
        return None if found is None else self._time(found, "noticeTime")

    def renew_token(self) -> None:
        """Get a session token. MetadataUnavailable where nothing gives one: this is no EC2 instance."""
        sent = self._monotonic()
        body, headers = self._send("PUT", "api/token", {TTL_HEADER: str(TOKEN_SECONDS)})
        try:
            seconds = float(headers.get(TTL_HEADER, TOKEN_SECONDS))
        except ValueError as error:
            raise MetadataUnavailable(f"{self._root}api/token gave no time to live: {error}") from error
        self._token, self._renew_at = body, sent + USED_SHARE * seconds

    def _document(self, path: str) -> dict[str, str] | None:
        text = self._get(path)
        if text is None:
            return None
        try:
            found = json.loads(text)
        except ValueError as error:
            raise MetadataUnavailable(f"{self._root}{path} did not answer with JSON: {text[:200]!r}") from error
        if not isinstance(found, dict):
            raise MetadataUnavailable(f"{self._root}{path} did not answer with an object: {text[:200]!r}")
        return {str(key): str(value) for key, value in found.items()}

    def _time(self, found: Mapping[str, str], key: str) -> datetime:
        try:
            moment = datetime.fromisoformat(found[key])
        except (KeyError, ValueError) as error:
            raise MetadataUnavailable(f"the instance metadata gave no time as {key!r}: {dict(found)}") from error
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

    def _get(self, path: str) -> str | None:
        """The text at a path, None for a 404. A refused token is replaced once."""
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
                return response.read(LONGEST_ANSWER).decode(), response.headers
        except urllib.error.HTTPError as error:
            error.close()
            raise _Refused(self._root + path, error.code) from error
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: no address, or not UTF-8
            raise MetadataUnavailable(f"{self._root}{path} does not answer: {error}") from error


class _Refused(MetadataUnavailable):
    def __init__(self, address: str, status: int) -> None:
        super().__init__(f"{address} answered with status {status}")
        self.status = status


class SpotWatch:
    """Looks at the metadata every few seconds. What it has seen once stays seen: EC2 takes no notice back."""

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
        """Until the machine goes; None while no notice was seen."""
        return None if self.interruption is None else self.interruption.seconds_left(self._now())

    def poll(self) -> None:
        """One look. Metadata that does not answer is said once, until it has answered again."""
        try:
            self.interruption = self.interruption or self._metadata.interruption() or self._end_by_group()
            self.rebalance_recommended = self.rebalance_recommended or self._metadata.rebalance() is not None
        except MetadataUnavailable as error:
            if self._is_answering:
                log.warning("a spot notice would go unseen just now: %s", error)
            self._is_answering = False
        else:
            self._is_answering = True

    def _end_by_group(self) -> Notice | None:
        if not self._metadata.group_wants_end():
            return None
        return Notice("terminate by its group", self._now() + timedelta(seconds=GROUP_SECONDS))

    def _run(self) -> None:
        self.poll()
        while not self._stopped.wait(self._poll_seconds):
            self.poll()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()


def find_metadata(environ: Mapping[str, str]) -> InstanceMetadata | None:
    """This machine's metadata; None where it is switched off or nothing answers as EC2 does within a second."""
    if environ.get(DISABLED_VARIABLE, "").lower() == "true":
        return None
    metadata = InstanceMetadata(environ.get(ENDPOINT_VARIABLE) or ENDPOINT)
    try:
        metadata.renew_token()
    except MetadataUnavailable:
        return None
    return metadata

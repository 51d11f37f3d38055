"""Delivery of alerts to an SNS topic, or to the https URL in an SSM parameter.

The URL lets whoever knows it write to its channel. It stays inside `_post`: errors name its status, never the URL, and
redirects are not followed.
"""

import json
import re
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from receipt_dynamo import Alert
from receipt_dynamo.client import resolve_region
from receipt_layoutlm.errors import UserError

POST_SECONDS: Final = 5.0
_CONFIG: Final = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2, "mode": "standard"})
_TOPIC: Final = re.compile(r"arn:aws[a-z-]*:sns:([a-z0-9-]+):[0-9]{12}:[A-Za-z0-9_.-]{1,256}")
_PARAMETER: Final = re.compile(r"(?=.{1,1011}$)([A-Za-z0-9_.-]+|(/[A-Za-z0-9_.-]+)+)")
_SUBJECT_CHARACTERS: Final = 100  # of SNS

Deliver = Callable[[str, Alert], None]


class NotDelivered(UserError):
    """An alert that did not reach its target; the text gives the reason, without the URL."""


def check_target(target: str) -> str:
    """The target itself, once it may be stored. Raises ValueError, whose text does not repeat it: it may be a URL."""
    if _TOPIC.fullmatch(target) or _PARAMETER.fullmatch(target):
        return target
    if "/" in target.lstrip("/") and not target.startswith(("/", "arn:")):
        raise ValueError(
            "a URL is not stored with a job, because whoever knows it can post to its channel: put it into an SSM "
            "parameter (`aws ssm put-parameter --type SecureString --name /layoutlm/notify/team --value URL`), and "
            "give the parameter's name: --notify /layoutlm/notify/team"
        )
    raise ValueError(
        "give the ARN of an SNS topic, such as arn:aws:sns:us-east-1:123456789012:training, or the name of an SSM "
        "parameter that holds an https URL, such as /layoutlm/notify/team"
    )


def deliver(target: str, alert: Alert, *, post_seconds: float = POST_SECONDS) -> None:
    """Send an alert. Raises NotDelivered; takes a few seconds, more only for a server that sends byte by byte."""
    try:
        check_target(target)  # a row may hold anything
        if topic := _TOPIC.fullmatch(target):
            _publish(target, topic[1], alert)
        else:
            _post(_url_in(target), alert, post_seconds)
    except ValueError as error:
        raise NotDelivered(str(error)) from None
    except ClientError as error:
        raise NotDelivered(f"AWS refused it: {error.response['Error']['Code']}") from None
    except BotoCoreError as error:
        raise NotDelivered(f"AWS was not reached: {type(error).__name__}") from None


def _publish(topic: str, region: str, alert: Alert) -> None:
    subject = f"{alert.job_name}: {alert.kind}".encode("ascii", "replace").decode()
    printable = "".join(each if each.isprintable() else "?" for each in subject)[:_SUBJECT_CHARACTERS]
    _client("sns", region).publish(TopicArn=topic, Subject=printable, Message=_text(alert))


def _text(alert: Alert) -> str:
    return f"{alert.message}\n\nlayoutlm-cli job why {alert.job_id}"


def _url_in(parameter: str) -> str:
    reply = _client("ssm", resolve_region()).get_parameter(Name=parameter, WithDecryption=True)
    return str(reply["Parameter"].get("Value", "")).strip()


def _client(service: str, region: str) -> Any:
    """A client created without boto3, which the scaler does not import."""
    return botocore.session.get_session().create_client(service, region_name=region, config=_CONFIG)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: object) -> None:
        return None


def _post(url: str, alert: Alert, seconds: float) -> None:
    document = {
        "text": _text(alert),  # all that chat services ask for
        **alert.model_dump(mode="json", include={"job_id", "job_name", "kind", "level", "message", "raised_at"}),
    }
    try:
        if urlsplit(url).scheme != "https" or not urlsplit(url).hostname:
            raise NotDelivered("the parameter does not hold an https URL: store one that begins with https://")
        request = urllib.request.Request(
            url, json.dumps(document).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        urllib.request.build_opener(_NoRedirects).open(request, timeout=seconds).close()
    except HTTPError as error:
        error.close()
        raise NotDelivered(f"its server answered HTTP {error.code}") from None
    except (OSError, ValueError, HTTPException) as error:  # their texts may hold the URL, or its host
        reason = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
        raise NotDelivered(f"its server was not reached: {type(reason).__name__}") from None

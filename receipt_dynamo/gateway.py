"""Answers that are not AWS's: a proxy, a load balancer or a captive portal answered in its place.

They say nothing about the request, so they are waited for like an outage: `GatewayAnswer` is one of the errors without
a reply. AWS names each request in a header of its reply, and so do the stores that speak its protocols.
"""

from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

REQUEST_IDS: Final = ("x-amzn-requestid", "x-amz-request-id")


class GatewayAnswer(BotoCoreError):
    """An answer that AWS did not give: its status and media type are all that is believed of it."""

    fmt = (
        "HTTP {status} ({media_type}) is no answer of AWS but of a proxy or a gateway before it: if that stays, check "
        "the network, HTTPS_PROXY and AWS_ENDPOINT_URL"
    )


def refuse_gateways(client: "DynamoDBClient | S3Client") -> None:
    """Raise GatewayAnswer in place of every result that is made of such an answer, after botocore's own retries."""
    service = client.meta.service_model.service_name
    if service == "dynamodb":
        client.meta.events.register_first("before-parse.dynamodb", _leave_out_page)
    else:
        client.meta.events.register_first("needs-retry.s3", _follow_no_redirect)
    client.meta.events.register_first(f"after-call.{service}", _check)


def _leave_out_page(response_dict: dict[str, Any], **_: object) -> None:
    # botocore takes each body for a document, and fails on the JSON of anything else
    if not _is_document(response_dict["body"]):
        response_dict["body"] = b"{}"


def _follow_no_redirect(response: tuple[Any, object] | None, **_: object) -> None:
    # botocore asks each redirect for the bucket's region, and the reply to that again, some 500 times
    if response is not None and 300 <= response[0].status_code < 400 and not _has_request_id(response[0]):
        raise _answer(response[0])


def _check(http_response: Any, parsed: dict[str, Any], model: Any, **_: object) -> None:
    is_aws = _has_request_id(http_response)
    if is_aws and model.service_model.service_name == "dynamodb":  # whose errors have names; a number is the status
        is_aws = _is_document(http_response.content) and not parsed.get("Error", {}).get("Code", "").isdigit()
    if not is_aws:
        raise _answer(http_response)


def _has_request_id(http_response: Any) -> bool:
    return any(name in http_response.headers for name in REQUEST_IDS)


def _answer(http_response: Any) -> GatewayAnswer:
    media_type = str(http_response.headers.get("content-type", "without a type")).partition(";")[0]
    return GatewayAnswer(status=http_response.status_code, media_type=media_type[:80])


def _is_document(body: bytes) -> bool:
    text = body.strip()
    return text.startswith(b"{") and text.endswith(b"}")

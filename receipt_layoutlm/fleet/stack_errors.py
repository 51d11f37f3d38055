"""What CloudFormation's refusals mean, each with its fix."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from receipt_layoutlm.errors import UserError

_CREDENTIALS: Final = {
    *("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"),
    *("SignatureDoesNotMatch", "InvalidAccessKeyId", "AuthFailure"),
}
_DENIED: Final = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"}
_BUSY: Final = {"Throttling", "ThrottlingException", "RequestLimitExceeded", "ServiceUnavailable", "InternalFailure"}


class StackError(UserError):
    """A stack cannot be built, changed or deleted. The text says what to do."""


class NameTaken(StackError):
    """Something of this name exists already, and not in this stack."""


class NoRights(StackError):
    """The caller may not do this."""


class LeftOver(StackError):
    """An earlier build failed and left a stack that can only be deleted or repaired."""


class StackBusy(StackError):
    """Somebody else is changing the stack, or AWS is overloaded: try again."""


class TemplateRefused(StackError):
    """CloudFormation takes the template or its parameters not."""


class StackFailed(StackError):
    """The build broke off and was undone."""


# what a failed resource or a refused template says -> the error, and what to do
_FIXES: Final[tuple[tuple[str, type[StackError], str], ...]] = (
    (
        r"AWS::DynamoDB::Table.*already exists|Table already exists",
        NameTaken,
        "name the table that is there with --table: its shape is checked, and it stays as it is",
    ),
    (
        r"AWS::S3::Bucket.*already exists|BucketAlready|bucket .*already (exists|owned)",
        NameTaken,
        "name the bucket with --bucket if it is yours, else choose another --fleet: all of AWS shares these names",
    ),
    (r"already exists", NameTaken, "another fleet of this name is here: choose another --fleet"),
    (
        r"UnreservedConcurrentExecution",
        StackFailed,
        "this account's quota of concurrent Lambda executions is too small to set one aside: "
        "deploy with --no-reserve-concurrency, or have it raised, which is free",
    ),
    (r"Fn::Select", TemplateRefused, "this region has fewer availability zones: give --zones 2"),
    (
        r"maximum number of (VPCs|internet gateways)|VpcLimitExceeded|InternetGatewayLimitExceeded",
        StackFailed,
        "the quota of VPCs is used up: give --vpc-id and --subnet-ids of one that is there, or have it raised",
    ),
    (
        r"Unable to fetch parameters|ssm:GetParameters",
        TemplateRefused,
        "the image is looked up in a public parameter: allow ssm:GetParameters, or name another with --ami-id",
    ),
    (
        r"BundleSha256",
        TemplateRefused,
        "there is no code to keep yet: leave --keep-code away",
    ),
    (
        r"PermissionsBoundary|permissions boundary",
        NoRights,
        "roles here need a permissions boundary: give --permissions-boundary-arn",
    ),
    (
        r"not authorized|AccessDenied|UnauthorizedOperation|Access Denied",
        NoRights,
        "allow that action to the caller, or let somebody with administrator rights do this once",
    ),
)


@contextmanager
def explained(stack: str) -> Iterator[None]:
    """Turn what botocore raises about a stack into a StackError."""
    try:
        yield
    except ClientError as error:
        raise _of_client_error(error, stack) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise NoRights(f"{error}: run 'aws configure' or 'aws sso login', or set AWS_PROFILE") from error
    except BotoCoreError as error:
        raise StackBusy(f"stack {stack}: {error}: try again") from error


def _of_client_error(error: ClientError, stack: str) -> StackError:
    details = error.response.get("Error", {})
    code, message = str(details.get("Code", "")), str(details.get("Message", ""))
    if code in _CREDENTIALS:
        return NoRights(f"AWS does not take these credentials ({code}): renew them")
    if code in _DENIED:
        return because(f"stack {stack}: {message or error}", f"{message} AccessDenied")
    if code in _BUSY:
        return StackBusy(f"stack {stack}: AWS is overloaded ({code}): try again")
    if code == "AlreadyExistsException":
        return NameTaken(f"stack {stack} exists already: somebody else made it just now. Try again")
    return because(f"stack {stack}: {message or error}", message, TemplateRefused)


def because(text: str, reason: str, otherwise: type[StackError] = StackFailed) -> StackError:
    """The error for a reason that AWS gave, with the fix where it is known."""
    for pattern, kind, fix in _FIXES:
        if re.search(pattern, reason, re.DOTALL):
            return kind(f"{text}\n{fix}")
    return otherwise(text)

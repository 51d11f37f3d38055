"""Typed errors for refusals of CloudFormation, each with its fix."""

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
    """A stack cannot be created, changed or deleted. The message contains the fix."""


class NameTaken(StackError):
    """A resource of this name exists already outside of this stack."""


class NoRights(StackError):
    """The caller lacks a permission."""


class LeftOver(StackError):
    """A failed change left a stack that can only be deleted or repaired."""


class StackBusy(StackError):
    """Another change is in progress, or AWS is overloaded: try again."""


class TemplateRefused(StackError):
    """CloudFormation rejects the template or its parameters."""


class StackFailed(StackError):
    """The change failed and was rolled back."""


# reason of a failed resource or a rejected template -> error and fix
_FIXES: Final[tuple[tuple[str, type[StackError], str], ...]] = (
    (
        r"AWS::DynamoDB::Table.*already exists|Table already exists",
        NameTaken,
        "give the existing table with --table: its shape is checked, and it is not changed",
    ),
    (
        r"AWS::S3::Bucket.*already exists|BucketAlready|bucket .*already (exists|owned)",
        NameTaken,
        "give the bucket with --bucket if it is yours, or choose another --fleet: bucket names are globally unique",
    ),
    (r"already exists", NameTaken, "a fleet of this name exists: choose another --fleet"),
    (
        r"DeleteConflict|Cannot delete a policy attached to entities",
        StackFailed,
        "detach that policy from all users, groups and roles, which IAM lists, then repeat the command",
    ),
    (
        r"UnreservedConcurrentExecution",
        StackFailed,
        "this account's quota of concurrent Lambda executions is too small to reserve one: "
        "deploy with --no-reserve-concurrency, or request a higher quota, which is free",
    ),
    (r"Fn::Select", TemplateRefused, "this region has fewer availability zones: give --zones 2"),
    (
        r"maximum number of (VPCs|internet gateways)|VpcLimitExceeded|InternetGatewayLimitExceeded",
        StackFailed,
        "the quota of VPCs is exhausted: give --vpc-id and --subnet-ids of an existing one, or request a higher quota",
    ),
    (
        r"Unable to fetch parameters|ssm:GetParameters",
        TemplateRefused,
        "the image id is read from a public parameter: allow ssm:GetParameters, or give another image with --ami-id",
    ),
    (r"BundleSha256", TemplateRefused, "a new fleet has no code to keep: omit --keep-code"),
    (
        r"PermissionsBoundary|permissions boundary",
        NoRights,
        "roles here need a permissions boundary: give --permissions-boundary-arn",
    ),
    (
        r"not authorized|AccessDenied|UnauthorizedOperation|Access Denied",
        NoRights,
        "allow that action to the caller, or have an administrator run this command once; "
        "`layoutlm-cli doctor` lists what a deployment needs at least",
    ),
)


@contextmanager
def explain_refusals(stack: str) -> Iterator[None]:
    """Turn botocore's errors for a stack into StackErrors."""
    try:
        yield
    except ClientError as error:
        details = error.response.get("Error", {})
        code, message = str(details.get("Code", "")), str(details.get("Message", ""))
        text = f"stack {stack}: {message or error}"
        if code in _CREDENTIALS:
            raise NoRights(f"AWS rejects these credentials ({code}): renew them") from error
        if code in _DENIED:
            raise error_for(text, f"{message} AccessDenied") from error
        if code in _BUSY:
            raise StackBusy(f"stack {stack}: AWS is overloaded ({code}): try again") from error
        if code == "AlreadyExistsException":
            raise NameTaken(f"stack {stack} has just been created by another call: try again") from error
        raise error_for(text, message, TemplateRefused) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise NoRights(f"{error}: run 'aws configure' or 'aws sso login', or set AWS_PROFILE") from error
    except BotoCoreError as error:
        raise StackBusy(f"stack {stack}: {error}: try again") from error


def error_for(text: str, reason: str, otherwise: type[StackError] = StackFailed) -> StackError:
    """The error for a reason given by AWS, with the fix where it is known."""
    for pattern, kind, fix in _FIXES:
        if re.search(pattern, reason, re.DOTALL):
            return kind(f"{text}\n{fix}")
    return otherwise(text)

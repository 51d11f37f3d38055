"""Plain words for launches that failed: the cause, and what to do about it."""

import re
from typing import Final

from receipt_layoutlm.fleet.scaler.group import FailedLaunch

_CAUSES: Final = (
    (
        r"Max ?Spot ?Instance ?Count ?Exceeded",
        "the account's quota for spot machines is used up, or 0 (MaxSpotInstanceCountExceeded)",
        "`layoutlm-cli doctor` prints the command that requests more",
    ),
    (
        r"VcpuLimitExceeded|vCPU (?:capacity|limit)|InstanceLimitExceeded|current instance limit",
        "the account's vCPU quota for on-demand machines is used up, or 0 (VcpuLimitExceeded)",
        "`layoutlm-cli doctor` prints the command that requests more",
    ),
    (
        r"Client\.InvalidKMSKey|Client\.InternalError|KMS",
        "a machine ended at its start because Auto Scaling may not use the KMS key of its disk (Client.InternalError)",
        "allow the role AWSServiceRoleForAutoScaling in the key's policy, or name another key with `layoutlm-cli fleet "
        "deploy --volume-key-arn`",
    ),
    (
        r"service[- ]linked role|AWSServiceRoleFor|AuthFailure\.ServiceLinkedRole",
        "the service-linked role of EC2 Auto Scaling, or of EC2 Spot, is not usable yet",
        "wait some minutes; if that does not help, run 'aws iam create-service-linked-role --aws-service-name "
        "autoscaling.amazonaws.com', and the same with spot.amazonaws.com",
    ),
    (
        r"Insufficient ?Instance ?Capacity|not have sufficient|no spot capacity|UnfulfillableCapacity|"
        r"capacity-not-available|InsufficientHostCapacity",
        "AWS has no capacity for these instance types at the moment (InsufficientInstanceCapacity)",
        "wait, or allow more types with `layoutlm-cli fleet deploy --instance-type`",
    ),
    (
        r"not supported in your requested availability zone|\bUnsupported\b",
        "an instance type does not exist in one of the zones",
        "deploy with another --instance-type, or with subnets of other zones",
    ),
    (
        r"image id .*does not exist|InvalidAMIID|not authorized for images",
        "the machine image does not exist any more",
        "`layoutlm-cli fleet deploy` takes the newest one",
    ),
    (
        r"InsufficientFreeAddressesInSubnet|not enough free addresses",
        "a subnet has no free addresses",
        "deploy with larger subnets, or with more of them",
    ),
    (
        r"PendingVerification|being validated|OptInRequired|not subscribed|account is currently blocked",
        "AWS has not released the account, or the region, for these machines yet",
        "wait for the e-mail of AWS, or open a case with AWS Support",
    ),
    (
        r"UnauthorizedOperation|not authorized|Access ?Denied",
        "Auto Scaling lacks a right to start the machines",
        "an organisation's policy may forbid it: ask an administrator",
    ),
    (
        r"SpotMaxPriceTooLow",
        "the maximum spot price of the launch template is below the current price",
        "`layoutlm-cli fleet deploy` restores the launch template, which has none",
    ),
)
_LENGTH: Final = 300  # characters of an unknown reason


def failed_text(failure: FailedLaunch) -> str:
    """The newest failure with its time, in plain words."""
    return f"no machine came at {failure.at:%Y-%m-%d %H:%M} UTC, because {plain(failure.reason)}"


def plain(reason: str) -> str:
    """Cause and advice for the reason of a failed launch as AWS gives it; an unknown one is quoted."""
    for pattern, cause, advice in _CAUSES:
        if re.search(pattern, reason, re.IGNORECASE):
            return f"{cause}: {advice}"
    quoted = " ".join(reason.split())
    return f"of another reason, in the words of AWS: {quoted[:_LENGTH]}{'…' if len(quoted) > _LENGTH else ''}"
